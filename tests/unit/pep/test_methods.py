"""The closed table, against the SDK's own list of what the protocol has."""

from __future__ import annotations

from collections.abc import Iterable

import mcp_types.methods as sdk
import pytest

from forestall.pep.mcp.methods import ANY, CLIENT, SERVER, Treatment, call_members, treatment

TASKS = {"tasks/get", "tasks/result", "tasks/list", "tasks/cancel", "tasks/update"}
TASKS |= {"notifications/tasks/status", "notifications/tasks"}


@pytest.mark.parametrize(
    ("table", "known"),
    [
        (CLIENT, [*sdk.CLIENT_REQUESTS, *sdk.CLIENT_NOTIFICATIONS]),
        (SERVER, [*sdk.SERVER_REQUESTS, *sdk.SERVER_NOTIFICATIONS]),
    ],
)
def test_the_table_is_the_protocols(table: dict, known: Iterable[tuple[str, str]]) -> None:
    """Nothing of any revision is missing, and nothing is there that no revision has; the SDK leaves tasks out."""
    by_method: dict[str, set[str]] = {}
    for method, era in known:
        by_method.setdefault(method, set()).add(era)
    assert set(table) - TASKS == set(by_method)
    for method, eras in by_method.items():
        for era in ANY:
            known_here = treatment(table, method, frozenset({era})) is not Treatment.UNKNOWN
            assert known_here == (era in eras or table[method].always), (method, era)


def test_a_call_is_decided_and_a_list_filtered_in_whatever_revision() -> None:
    for era in (*ANY, "1999-01-01", ""):
        assert treatment(CLIENT, "tools/call", frozenset({era})) is Treatment.DECIDED
        assert treatment(CLIENT, "tools/list", frozenset({era})) is Treatment.LISTED


def test_only_the_client_may_call_tools() -> None:
    assert treatment(SERVER, "tools/call", frozenset()) is Treatment.UNKNOWN


def test_members_of_a_call_follow_its_revision() -> None:
    assert "task" not in call_members(frozenset({"2025-06-18"}))
    assert "task" in call_members(frozenset({"2025-11-25"}))
    assert "requestState" in call_members(frozenset({"2026-07-28"}))
    assert call_members(frozenset({"1999-01-01"})) == {"name", "arguments", "_meta"}
