"""A gateway asks what its server starts with: decided, recorded, and told to it alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forestall.core.entry import Stream
from forestall.core.errors import InvalidInput
from forestall.core.place import Where
from forestall.home import Home
from forestall.server.equipping import is_exposed
from forestall.server.frames import read_equip
from tests.points import SERVER, entries, make_home, until_async, verify_ledger
from tests.unit.server.hand import Hand
from tests.unit.server.hand import play as by_hand

SECRET = "pX7/w+Zq-93_kLmN"
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
CLASSES = ("db", "free", "open", "held", "none")


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = make_home(tmp_path, POLICY)
    key = tmp_path / "key"
    key.touch(0o600)
    key.write_text(SECRET)
    write(home)
    return home


def write(home: Home, where: Where = Where.DESCRIPTOR) -> None:
    place = f'scope = "task"\nplace = {{ where = "{where}", name = "KEY", template = "key={{token}}" }}\n'
    common = f'backend = "static"\nsecrets = {{ token = "file:{home.root.parent / "key"}" }}\n'
    servers = {**dict.fromkeys(CLASSES, SERVER), "elsewhere": "other"}
    text = [f'[credentials.{name}]\n{common}server = "{server}"\n{place}' for name, server in servers.items()]
    home.credentials.write_text("".join(text))


async def equip(hand: Hand, name: str, **more: Any) -> dict[str, Any]:
    connection = await hand.connect()
    connection.handle({"type": "equip", "id": 5, "credential": name, **more})
    sent = hand.sent(connection)
    await until_async(lambda: sent[-1].get("id") == 5)
    return sent[-1]


def play(home: Home, scenario: Callable[[Hand], Awaitable[None]]) -> None:
    """The secret is in no file but its own."""
    by_hand(home, scenario)
    verify_ledger(home)
    for file in home.root.rglob("*"):
        if file.is_file():
            assert SECRET.encode() not in file.read_bytes(), file


def alive(hand: Hand) -> int:
    return len(hand.parts.state.leases())


def test_the_gateway_gets_what_its_server_starts_with_and_it_is_written_down(home: Home) -> None:
    async def scenario(hand: Hand) -> None:
        answer = await equip(hand, "db")
        assert answer["type"] == "equipped"
        assert answer["credential"]["placed"] == [{"where": "descriptor", "name": "KEY", "value": f"key={SECRET}"}]
        assert answer["credential"]["scrub"] == [SECRET]
        assert alive(hand) == 1

    play(home, scenario)
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
    home: Home, name: str, where: Where, separate: bool, decision: str, reason: str
) -> None:
    write(home, where)

    async def scenario(hand: Hand) -> None:
        answer = await equip(hand, name, separate=separate)
        assert (answer["type"], answer["decision"]["reason"]) == (decision, reason)
        assert alive(hand) == 0

    play(home, scenario)
    recorded = entries(home, Stream.DENIALS)[-1]
    assert (recorded["tool"], recorded["reason"]) == ("forestall/equip", reason)


def test_the_welcome_says_what_a_server_starts_with_where_anything_is_lent_at_all(home: Home) -> None:
    async def scenario(hand: Hand) -> None:
        welcome = hand.sent(await hand.connect())[0]
        assert (welcome["lends"], welcome["equip"]) == (True, sorted(CLASSES))
        hand.parts.lending.take({})
        welcome = hand.sent(await hand.connect())[0]
        assert not {"lends", "equip"} & set(welcome)

    play(home, scenario)


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

    play(home, scenario)


@pytest.mark.parametrize("frame", [{"id": 1}, {"id": 1, "credential": 2}, {"credential": "db"}])
def test_a_malformed_frame_is_not_understood(frame: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        read_equip({"type": "equip", **frame})
    with pytest.raises(InvalidInput):
        read_equip({"type": "equip", "id": 1, "credential": "db", "separate": "yes"})
