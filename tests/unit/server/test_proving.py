"""Proofs for those whom a credential was lent to, on that connection, for as long as it lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from forestall.core.errors import InvalidInput
from forestall.core.reason import Reason
from forestall.home import Home
from forestall.server import proving
from forestall.server.proving import note_bound
from tests.backends import install
from tests.points import SERVER, make_home, until_async
from tests.unit.server.hand import Hand, play

POLICY = """\
@id("api") @credential("api") permit (principal, action == Action::"forestall/equip", resource)
when { context.args.server == "files" };
"""
CLASS = f"""\
[credentials.api]
backend = "files"
path = "desk"
bound = true
scope = "task"
server = "{SERVER}"
place = {{ where = "header", name = "Authorization", template = "DPoP {{token}}" }}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))
    home = make_home(tmp_path / "home", POLICY)
    home.credentials.write_text(CLASS)
    return home


async def equipped(hand: Hand, connection: Any) -> dict[str, Any]:
    connection.handle({"type": "equip", "id": 5, "credential": "api"})
    sent = hand.sent(connection)
    await until_async(lambda: sent[-1].get("id") == 5)
    return sent[-1]


def proof(hand: Hand, connection: Any, name: str, **more: Any) -> dict[str, Any]:
    asked = {"type": "prove", "id": -1, "credential": name, "method": "POST", "url": "https://a.example/mcp"}
    connection.handle({**asked, **more})
    return hand.sent(connection)[-1]


def test_it_is_made_for_whom_the_credential_was_lent_to_and_for_nobody_else(home: Home) -> None:
    async def scenario(hand: Hand) -> None:
        ours, other = await hand.connect(), await hand.connect()
        answer = await equipped(hand, ours)
        name, token = answer["credential"]["bound"], answer["credential"]["placed"][0]["value"].split(" ")[1]
        assert name == answer["lease"]
        made = proof(hand, ours, name, nonce="n")
        assert made["proof"] == f"{token[-8:]} ('POST', 'https://a.example/mcp', 'n')"
        assert proof(hand, other, name) == {"type": "proof", "id": -1}
        assert proof(hand, ours, "forestall-00000000-1") == {"type": "proof", "id": -1}

    play(home, scenario)


@pytest.mark.parametrize("how", ["condemned", "revoked", "suspended"])
def test_none_is_made_of_what_is_over(home: Home, how: str) -> None:
    async def scenario(hand: Hand) -> None:
        ours = await hand.connect()
        name = (await equipped(hand, ours))["credential"]["bound"]
        if how == "condemned":
            hand.parts.lending.ending.condemn([name], "killed")
        else:
            ours.stop(Reason(how), 1)
        assert proof(hand, ours, name) == {"type": "proof", "id": -1}
        assert (name in ours.bound) is (how != "condemned")

    play(home, scenario)


def test_what_is_no_request_is_not_understood(home: Home) -> None:
    async def scenario(hand: Hand) -> None:
        ours = await hand.connect()
        with pytest.raises(InvalidInput):
            proof(hand, ours, "a", method="post")

    play(home, scenario)


def test_the_names_that_a_connection_may_ask_for_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "MAX_BOUND", 2)
    names: dict[str, None] = {}
    for name in ("one", "two", "three"):
        note_bound(names, {"bound": name}, lambda _: True)
    note_bound(names, {"placed": []}, lambda _: True)
    note_bound(names, None, lambda _: True)
    assert list(names) == ["two", "three"]


def test_what_lives_does_not_make_room_for_what_ended(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "MAX_BOUND", 2)

    async def scenario(hand: Hand) -> None:
        ours = await hand.connect()
        name = (await equipped(hand, ours))["credential"]["bound"]
        lives = hand.parts.lending.proving.lives
        for call in ("one", "two", "three"):
            note_bound(ours.bound, {"bound": call}, lives)
        assert list(ours.bound) == [name, "three"]
        assert "proof" in proof(hand, ours, name)
        hand.parts.lending.ending.condemn([name], "killed")
        assert not lives(name)

    play(home, scenario)
