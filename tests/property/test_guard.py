"""What holds of every call: one mapping, one digest, and exactly that given to the function."""

from __future__ import annotations

import copy
import inspect
import json
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.canonical import digest
from forestall.core.entry import Kind
from forestall.core.errors import Refused
from forestall.core.model import Decision, Ruling
from forestall.core.reason import Reason
from forestall.pep.signature import signature_of
from forestall.testing.world import PERMITTED
from tests.guards import Program
from tests.property.test_canonical import VALUES

FORBIDDEN = Ruling(Decision.DENY, "b", "s", Reason.FORBIDDEN, ("no",))


def tool(a: Any, b: Any = None, *rest: Any, c: Any = "c", **more: Any) -> Any:
    return a, b, rest, c, more


SIGNATURE = signature_of(tool)
NAMES = st.text("xyz", min_size=1, max_size=3)


@given(VALUES, VALUES, VALUES, st.permutations(["a", "b", "c"]), st.integers(0, 2))
def test_however_it_is_called_it_is_one_call(a: Any, b: Any, c: Any, order: list[str], positional: int) -> None:
    values = {"a": a, "b": b, "c": c}
    args = tuple(values[name] for name in ("a", "b")[:positional])
    kwargs = {name: values[name] for name in order if name not in ("a", "b")[:positional]}
    assert digest(SIGNATURE.bind(args, kwargs)) == digest(SIGNATURE.bind((a, b), {"c": c}))


@given(VALUES, st.lists(VALUES, max_size=3), st.dictionaries(NAMES, VALUES, max_size=3))
def test_the_function_gets_what_python_would_have_given_it(a: Any, rest: list[Any], more: dict[str, Any]) -> None:
    args, kwargs = SIGNATURE.unbind(SIGNATURE.bind((a, *rest), more))
    assert tool(*args, **kwargs) == tool(a, *rest, **more)


@given(VALUES)
def test_nothing_that_was_given_is_shared(value: Any) -> None:
    before = copy.deepcopy(value)
    (received, *_), _kwargs = SIGNATURE.unbind(SIGNATURE.bind((value,), {}))
    _spoil(received)
    assert value == before


def _spoil(value: Any) -> None:
    if isinstance(value, dict):
        for member in value.values():
            _spoil(member)
        value["spoiled"] = True
    elif isinstance(value, list):
        for member in value:
            _spoil(member)
        value.append("spoiled")


@given(st.lists(st.tuples(st.sampled_from("ab"), VALUES, st.booleans()), max_size=12))
def test_what_ran_is_what_was_permitted_and_nothing_else(calls: list[tuple[str, Any, bool]]) -> None:
    ran: list[tuple[str, Any]] = []
    program = Program(rule=lambda question: FORBIDDEN if question.arguments["forbid"] else PERMITTED)
    b = program.guard.tool(name="b")(lambda value, forbid: ran.append(("b", value)))
    a = program.guard.tool(name="a")(lambda value, forbid: ran.append(("a", value)))
    with program.guard.task("work"):
        for name, value, forbid in calls:
            with pytest.raises(Refused) if forbid else nullcontext():
                (a if name == "a" else b)(value, forbid=forbid)
    assert ran == [(name, value) for name, value, forbid in calls if not forbid]
    sealed = [json.loads(entry.sealed or b"{}")["arguments"] for entry in program.entries(Kind.PERMITTED)]
    assert [arguments["value"] for arguments in sealed] == [json.loads(json.dumps(value)) for _, value in ran]
    assert program.fates() == ["done"] * len(ran)


@given(st.data())
def test_any_signature_of_plain_types_can_be_guarded(data: st.DataObject) -> None:
    kinds = inspect.Parameter
    hints = {int: st.integers(-9, 9), str: st.text("ab"), bool: st.booleans(), list[int]: st.lists(st.integers(-9, 9))}
    chosen = data.draw(st.lists(st.sampled_from(list(hints)), max_size=5))
    parameters = [
        kinds(f"p{number}", kinds.POSITIONAL_OR_KEYWORD, annotation=hint) for number, hint in enumerate(chosen)
    ]

    def function(*args: Any, **kwargs: Any) -> Any:
        return args, kwargs

    function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    program = Program()
    guarded = program.guard.tool(name="tool")(function)
    values = [data.draw(hints[hint]) for hint in chosen]
    with program.guard.task("work"):
        assert guarded(*values) == (tuple(values), {})
        assert guarded(**{f"p{number}": value for number, value in enumerate(values)}) == (tuple(values), {})
