"""What a permit says of its credential, and what it does where that cannot be put in place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.core.ask import NotStarted
from forestall.core.model import Lease, Scope, Secret, Tool
from forestall.core.place import Place, Where
from forestall.server.placing import MAX_VALUE, credential_for

KEY = "pX7/w+Zq-93_kLmN"
TOOL = Tool("mail", "send", "sha256:00", hidden=frozenset({"key"}))
LEASE = Lease(
    name="forestall-00000000-1",
    credential="mail",
    backend="static",
    task="t",
    permit="p",
    scope=Scope.ACTION,
    rights={},
    expires_at=1,
    place=Place(Where.ARGUMENT, "key", "{token}"),
    secret=Secret({"token": KEY, "user": "forestall-user"}),
)


def placed(where: Where, template: str = "{token}", **fields: str) -> Lease:
    return replace(LEASE, place=Place(where, "key", template), secret=Secret({"token": KEY, **fields}))


def test_it_says_where_what_goes_and_what_must_not_come_back() -> None:
    assert credential_for(LEASE, TOOL) == {
        "placed": [{"where": "argument", "name": "key", "value": KEY}],
        "scrub": [KEY],
    }
    header = placed(Where.HEADER, "Bearer {token}")
    assert credential_for(header, TOOL) == {
        "placed": [{"where": "header", "name": "key", "value": f"Bearer {KEY}"}],
        "scrub": [KEY],
    }


def test_of_a_tasks_it_says_when_it_is_over() -> None:
    assert (credential_for(replace(LEASE, scope=Scope.TASK, expires_at=77), TOOL) or {})["until"] == 77


def test_it_says_what_goes_with_proofs_and_by_which_name_they_are_asked_for() -> None:
    bound = placed(Where.HEADER, "DPoP {token}")
    assert bound.secret is not None
    bound = replace(bound, secret=replace(bound.secret, prove=lambda *_: "a proof"))
    told = credential_for(bound, TOOL)
    assert told is not None
    assert told["bound"] == LEASE.name
    argument = replace(bound, place=Place(Where.ARGUMENT, "key", "{token}"))
    assert "bound" not in (credential_for(argument, TOOL) or {})


@pytest.mark.parametrize("lease", [None, replace(LEASE, secret=None)])
def test_where_nothing_is_placed_in_a_call_it_says_nothing(lease: Lease | None) -> None:
    assert credential_for(lease, TOOL) is None


@pytest.mark.parametrize(
    ("lease", "tool", "why"),
    [
        (replace(LEASE, place=None), TOOL, "does not say where"),
        (placed(Where.ENVIRONMENT), TOOL, "from a server's start"),
        (LEASE, replace(TOOL, hidden=frozenset()), "`hidden`"),
        (LEASE, replace(TOOL, hidden=frozenset({"KEY"})), "`hidden`"),
        (LEASE, None, "`hidden`"),
        (placed(Where.ARGUMENT, "{password}"), TOOL, "no `password`"),
        (placed(Where.HEADER, "{token}", token="a\r\nX-Other: b"), TOOL, "header"),
        (placed(Where.HEADER, "{token}", token="ä"), TOOL, "header"),
        (placed(Where.HEADER, " {token}"), TOOL, "header"),
        (placed(Where.ARGUMENT, "{token}", token="x" * (MAX_VALUE + 1)), TOOL, "longer"),
        (placed(Where.ARGUMENT, "{token}", token=""), TOOL, "empty"),
    ],
)
def test_what_cannot_be_put_in_place_is_not_begun_and_no_value_is_said(lease: Lease, tool: Any, why: str) -> None:
    with pytest.raises(NotStarted, match=why) as caught:
        credential_for(lease, tool)
    assert KEY not in str(caught.value)
