"""The texts of a call's arguments, by where they stand."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forestall.core.pointer import replaced, texts_of


def test_names_with_signs_of_pointers_are_escaped() -> None:
    assert texts_of("a/b~c", "x") == {"/a~1b~0c": "x"}
    assert replaced({"a/b~c": "x"}, {"/a~1b~0c": "y"}) == {"a/b~c": "y"}


NAMES = st.text("ab/~é", min_size=1, max_size=4)


@given(st.dictionaries(NAMES, st.text(max_size=3) | st.lists(st.text(max_size=3), max_size=3), max_size=4), st.data())
def test_replacing_changes_exactly_what_is_pointed_at(arguments: dict[str, Any], data: st.DataObject) -> None:
    every = {
        pointer: text for name, value in arguments.items() for pointer, text in (texts_of(name, value) or {}).items()
    }
    assert len(every) == sum(len(value) if isinstance(value, list) else 1 for value in arguments.values())
    some = data.draw(st.sets(st.sampled_from(sorted(every)))) if every else set()
    changed = replaced(arguments, dict.fromkeys(some, "\0"))
    after = {
        pointer: text for name, value in changed.items() for pointer, text in (texts_of(name, value) or {}).items()
    }
    assert after == {pointer: "\0" if pointer in some else text for pointer, text in every.items()}
    assert replaced(changed, every) == arguments
