"""A gateway asks what its server starts with: decided, recorded, and told to it alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forestall.core.entry import Stream
from forestall.core.errors import InvalidInput
from forestall.core.model import Lease, Scope
from forestall.core.place import Place, Where
from forestall.home import Home
from forestall.server.equipping import is_exposed
from forestall.server.frames import read_equip
from tests.points import SERVER, entries, make_home
from tests.unit.server.hand import Hand
from tests.unit.server.test_lent_calls import SECRET, Backend, run, until
from tests.unit.server.test_lent_calls import backend as backend  # noqa: PLC0414 - the fixture

POLICY = """\
@id("db") @credential("db") permit (principal, action == Action::"forestall/equip", resource)
when { context.args.server == "files" && context.args.credential == "db" && !context.args.exposed };
@id("any") permit (principal, action == Action::"forestall/equip", resource)
when { context.args.credential == "free" };
@id("open") @credential("open") permit (principal, action == Action::"forestall/equip", resource)
when { context.args.credential == "open" };
@id("held") @approvers("ada") @credential("held") permit (principal, action == Action::"forestall/equip", resource)
when { context.args.credential == "held" && context has approval && context.approval.granted };
"""
AT_START = dict.fromkeys(("db", "free", "open", "held", "none"), Where.DESCRIPTOR)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path, POLICY)


async def equip(hand: Hand, name: str, where: Where = Where.DESCRIPTOR, **more: Any) -> dict[str, Any]:
    parts = hand.parts
    parts.lends, parts.at_start = True, lambda server: dict.fromkeys(AT_START, where) if server == SERVER else {}
    connection = await hand.connect()
    connection.handle({"type": "equip", "id": 5, "credential": name, **more})
    sent = hand.sent(connection)
    await until(hand, lambda: sent[-1].get("id") == 5)
    return sent[-1]


def of_task(backend: Backend, where: Where = Where.DESCRIPTOR) -> None:
    backend.place, plan = Place(where, "KEY", "key={token}"), backend.plan
    backend.plan = lambda ask: _of_task(plan(ask))  # type: ignore[method-assign]


def _of_task(lease: Lease) -> Lease:
    return replace(lease, scope=Scope.TASK, exposed=True)


def test_the_gateway_gets_what_its_server_starts_with_and_it_is_written_down(home: Home, backend: Backend) -> None:
    of_task(backend)

    async def scenario(hand: Hand) -> None:
        answer = await equip(hand, "db")
        assert answer["type"] == "equipped"
        assert answer["credential"]["placed"] == [{"where": "descriptor", "name": "KEY", "value": f"key={SECRET}"}]
        assert answer["credential"]["scrub"] == [SECRET]
        assert len(backend.alive) == 1

    run(home, scenario)
    permitted, leased, settled = (
        next(entry for entry in entries(home) if entry["kind"] == kind) for kind in ("permitted", "leased", "settled")
    )
    assert (permitted["tool"], permitted["credential"]) == ("forestall/equip", "db")
    assert (leased["permit"], leased["exposed"]) == (permitted["id"], False)
    assert settled["fate"] == "done"


@pytest.mark.parametrize(
    ("name", "where", "separate", "decision", "reason"),
    [
        ("db", Where.ENVIRONMENT, False, "deny", "no_policy"),
        ("db", Where.COMMAND, True, "deny", "no_policy"),
        ("free", Where.DESCRIPTOR, False, "deny", "no_policy"),
        ("none", Where.DESCRIPTOR, False, "deny", "no_policy"),
        ("held", Where.DESCRIPTOR, False, "hold", "needs_approval"),
        ("elsewhere", Where.DESCRIPTOR, False, "deny", "out_of_scope"),
    ],
)
def test_what_policy_does_not_permit_is_not_lent_and_that_is_recorded(
    home: Home, backend: Backend, name: str, where: Where, separate: bool, decision: str, reason: str
) -> None:
    of_task(backend, where)

    async def scenario(hand: Hand) -> None:
        answer = await equip(hand, name, where, separate=separate)
        assert (answer["type"], answer["decision"]["reason"]) == (decision, reason)
        assert backend.alive == set()

    run(home, scenario)
    recorded = entries(home, Stream.DENIALS)[-1]
    assert (recorded["tool"], recorded["reason"]) == ("forestall/equip", reason)


def test_the_welcome_says_what_a_server_starts_with_where_anything_is_lent_at_all(home: Home, backend: Backend) -> None:
    async def scenario(hand: Hand) -> None:
        before = hand.sent(await hand.connect())[0]
        assert "lends" not in before
        hand.parts.lends = True
        assert hand.sent(await hand.connect())[0] == {**_later(hand), "lends": True, "equip": []}
        hand.parts.at_start = lambda server: {"db": Where.COMMAND} if server == SERVER else {}
        assert hand.sent(await hand.connect())[0]["equip"] == ["db"]

    def _later(hand: Hand) -> dict[str, Any]:
        welcome = hand.sent(hand.connections[-1])[0]
        return {name: value for name, value in welcome.items() if name not in {"lends", "equip"}}

    run(home, scenario)


def test_an_environment_is_exposed_unless_root_runs_the_server_as_another(home: Home) -> None:
    async def scenario(hand: Hand) -> None:
        connection = await hand.connect()
        user = replace(connection.peer, uid=1000)
        root = replace(connection.peer, uid=0)
        for peer, where, separate, exposed in (
            (user, Where.ENVIRONMENT, False, True),
            (user, Where.ENVIRONMENT, True, True),
            (root, Where.ENVIRONMENT, False, True),
            (root, Where.ENVIRONMENT, True, False),
            (root, Where.COMMAND, True, True),
            (user, Where.DESCRIPTOR, False, False),
        ):
            connection.peer = peer
            assert is_exposed(connection, where, separate=separate) is exposed

    run(home, scenario)


@pytest.mark.parametrize("frame", [{"id": 1}, {"id": 1, "credential": 2}, {"credential": "db"}])
def test_a_malformed_frame_is_not_understood(frame: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        read_equip({"type": "equip", **frame})
    with pytest.raises(InvalidInput):
        read_equip({"type": "equip", "id": 1, "credential": "db", "separate": "yes"})
