"""A credential from its file to the tool and past everybody else: a client, the gateway, a decision point, a server."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forestall.core.entry import Stream
from forestall.home import Home
from tests.mcpkit.home import home_of, stop
from tests.mcpkit.session import Session, decision, gateway
from tests.points import entries

SERVER = [sys.executable, str(Path(__file__).parents[1] / "mcpkit" / "equipped_server.py")]
SECRET = "pX7/w+Zq-93_kLmN"
POLICY = """\
@id("calls") permit (principal, action in [Action::"equipped/show", Action::"equipped/clean"], resource);
@id("lent") @credential("db") permit (principal, action == Action::"forestall/equip", resource)
when { context.args.server == "equipped" && !context.args.exposed };
"""
CLASS = """\
[credentials.db]
backend = "static"
scope = "task"
server = "equipped"
secrets = {{ token = "file:{key}" }}
place = {{ where = "{where}", name = "{name}", template = "key={{token}}" }}
"""


@pytest.fixture
def home() -> Iterator[Home]:
    with home_of({"equipped": SERVER}, POLICY) as home:
        lend(home)
        yield home


def lend(home: Home, where: str = "descriptor", name: str = "KEY_FD") -> None:
    key = home.root / "key"
    key.touch(0o600)
    key.write_text(SECRET)
    home.credentials.write_text(CLASS.format(key=key, where=where, name=name))


def session(home: Home, *words: str) -> Session:
    return Session(gateway(home.root, [*SERVER, *words], name="equipped"))


def about(home: Home, kind: str, stream: Stream = Stream.PERMITS) -> list[Any]:
    return [entry for entry in entries(home, stream) if entry["kind"] == kind]


def nowhere_but_in_its_file(home: Home) -> None:
    stop(home)
    found = [file for file in home.root.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
    assert found == [home.root / "key"]


def test_a_server_has_it_from_its_start_and_the_ledger_says_why_for_how_long_and_that_it_is_gone(home: Home) -> None:
    with session(home) as client:
        client.initialize()
        client.call(1, "clean")
        assert json.loads(client.answer_to(1)["result"]["content"][0]["text"])["uid"] >= 0
        client.call(2, "show")
        assert decision(client.answer_to(2))["reason"] == "leaked", "so it is there"
        client.end()
    nowhere_but_in_its_file(home)
    (leased,), (revoked,) = about(home, "leased"), about(home, "revoked")
    (equipped,) = [entry for entry in about(home, "permitted") if entry["tool"] == "forestall/equip"]
    assert (leased["permit"], leased["credential"], leased["exposed"]) == (equipped["id"], "db", False)
    assert (revoked["id"], revoked["why"]) == (leased["id"], "leaked")
    (ordered,) = about(home, "ordered")
    assert (ordered["order"], ordered["level"], ordered["by"]) == ("risk", "high", "forestall")


def test_where_policy_does_not_let_it_be_exposed_the_server_is_not_started(home: Home) -> None:
    lend(home, "environment", "KEY")
    with session(home) as client:
        status, said = client.end()
    assert status == 77, said
    (denied,) = about(home, "denied", Stream.DENIALS)[-1:]
    assert denied["id"] in said
    assert (denied["tool"], denied["reason"]) == ("forestall/equip", "no_policy")
    assert about(home, "leased") == []
    nowhere_but_in_its_file(home)


def test_a_kill_ends_the_credential_with_the_server(home: Home) -> None:
    from forestall.cli import main

    with session(home) as client:
        client.initialize()
        client.call(1, "clean")
        client.answer_to(1)
        assert main(["kill", "--home", str(home.root), "--everything", "--why", "test"]) == 0
        client.end()
    nowhere_but_in_its_file(home)
    assert len(about(home, "revoked")) == len(about(home, "leased")) == 1
