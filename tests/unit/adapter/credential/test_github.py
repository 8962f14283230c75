"""What is asked of GitHub, before anything is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.adapter.credential.github import LEVELS, least, require_repository
from forestall.core.effects import Effect

PERMISSIONS = st.dictionaries(
    st.sampled_from(["contents", "issues", "workflows", "administration"]), st.sampled_from(LEVELS)
)


@given(PERMISSIONS, st.frozensets(st.sampled_from(Effect), min_size=1))
def test_no_permission_is_more_than_the_class_or_the_effects_allow(
    most: dict[str, str], effects: frozenset[Effect]
) -> None:
    given = least(most, effects)
    assert given.keys() <= most.keys()
    for name, level in given.items():
        assert LEVELS.index(level) <= LEVELS.index(most[name])
        assert level == "read" or effects != {Effect.READ}
        assert level != "admin" or Effect.PRIVILEGE in effects


def test_what_cannot_be_had_for_reading_is_left_out() -> None:
    most = {"workflows": "write", "contents": "write"}
    assert least(most, frozenset({Effect.READ})) == {"contents": "read"}
    assert least(most, frozenset({Effect.READ, Effect.WRITE})) == most


@pytest.mark.parametrize("text", ["shop", "acme/shop", "ACME/shop"])
def test_a_repository_is_given_with_its_account_or_without(text: str) -> None:
    assert require_repository(text, "acme") == "shop"


@given(st.text(max_size=30))
def test_only_a_name_is_a_repository(text: str) -> None:
    try:
        name = require_repository(text, "acme")
    except ValueError:
        return
    assert name.isascii()
    assert not set(name) & set("/\\%?#&=\"'{}[]*: \t\n")
    assert name not in {"", ".", ".."}
