"""A call that refers to content, at the gateway: what is copied when, what is asked, and what the server gets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forestall.pep.mcp.content import Copy, references_of
from forestall.pep.mcp.relay import Relay
from forestall.pep.mcp.thing import DropCopies, MakeCopies, Thing
from tests.mcpkit.session import decision
from tests.unit.pep.test_relay import ECHO, Conversation, call, result

C, D = "sha256:" + "c" * 64, "sha256:" + "d" * 64
COPY = Copy(C, "/w/a.sh", "/copies/x/a.sh")
REFS = {"/script": {"digest": C, "path": "/w/a.sh"}}


class Referring(Conversation):
    """With copies that are made when the test says so."""

    def __init__(self, *, remote: bool = False) -> None:
        super().__init__()
        if remote:
            self.relay = Relay("files", lambda: self.now, lambda: self.now, remote=True)
        self.relay.references = references_of({"references": {"echo": ["script", "files"]}})
        self.wanted: list[MakeCopies] = []
        self.dropped: list[DropCopies] = []
        self.client(call("first", arguments={"a": 1}))
        self.listed(ECHO)
        self.answers({"type": "deny", "decision": {"decision": "deny", "reason": "forbidden"}})
        self.to_client.clear()
        self.told.clear()

    def do(self, things: list[Thing]) -> None:
        self.wanted += [thing for thing in things if isinstance(thing, MakeCopies)]
        self.dropped += [thing for thing in things if isinstance(thing, DropCopies)]
        super().do([thing for thing in things if not isinstance(thing, MakeCopies | DropCopies)])

    def copied(self, **copies: Copy) -> None:
        self.do(self.relay.copied(self.wanted[-1].number, {f"/{name}": copy for name, copy in copies.items()}))

    def asks(self, **arguments: Any) -> None:
        self.client(call(arguments=arguments))


@pytest.fixture
def talk() -> Referring:
    return Referring()


def test_nothing_is_asked_before_the_content_is_copied(talk: Referring) -> None:
    talk.asks(script="a.sh", text="b")
    assert (talk.told, talk.to_server) == ([], [])
    assert talk.wanted[0].names == {"/script": "a.sh"}
    talk.copied(script=COPY)
    assert talk.told[-1]["arguments"] == {"script": "a.sh", "text": "b"}
    assert talk.told[-1]["refs"] == REFS


def test_the_server_gets_the_copy_until_the_call_is_over(talk: Referring) -> None:
    talk.asks(script="a.sh", text="b")
    talk.copied(script=COPY)
    talk.permits(refs={"/script": C})
    assert json.loads(talk.to_server[-1])["params"]["arguments"] == {"script": COPY.path, "text": "b"}
    talk.server(result())
    assert talk.dropped == []
    talk.answers({"type": "release"})
    assert talk.answer == result()
    assert talk.dropped == [DropCopies({"/script": COPY})]


def test_what_the_permit_is_not_for_goes_by_its_name(talk: Referring) -> None:
    """A person agreed to the name: what it refers to is not what was copied."""
    talk.asks(script="a.sh", files=["b"])
    talk.copied(script=COPY, **{"files/0": COPY})
    talk.permits(refs={"/files/0": C})
    assert json.loads(talk.to_server[-1])["params"]["arguments"] == {"script": "a.sh", "files": [COPY.path]}


@pytest.mark.parametrize("refs", [{"/script": D}, {"/other": C}, {"/script": C, "/x": C}, [], None, {"/script": None}])
def test_a_permit_for_other_content_is_not_used(talk: Referring, refs: Any) -> None:
    talk.asks(script="a.sh")
    talk.copied(script=COPY)
    talk.permits(refs=refs)
    assert talk.to_server == []
    assert talk.told[-1] | {"id": 0} == {
        "type": "performed",
        "id": 0,
        "permit": talk.told[-1]["permit"],
        "fate": "not_started",
    }
    assert decision(talk.answer)["reason"] == "unavailable"
    assert talk.dropped == [DropCopies({"/script": COPY})]


def test_what_could_not_be_copied_is_asked_about_without_it(talk: Referring) -> None:
    talk.asks(script="a.sh")
    talk.copied()
    assert "refs" not in talk.told[-1]
    talk.answers({"type": "deny", "decision": {"decision": "deny", "reason": "missing_context"}})
    assert decision(talk.answer)["reason"] == "missing_context"
    assert talk.dropped == []


def test_who_cancels_while_it_is_copied_waits_for_nothing(talk: Referring) -> None:
    talk.asks(script="a.sh")
    talk.client({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
    talk.copied(script=COPY)
    assert (talk.told, talk.to_server, talk.to_client) == ([], [], [])
    assert talk.dropped == [DropCopies({"/script": COPY})]


def test_what_is_lost_while_it_is_copied_is_denied(talk: Referring) -> None:
    talk.asks(script="a.sh")
    talk.do(talk.relay.lost())
    talk.copied(script=COPY)
    assert talk.to_server == []
    assert decision(talk.answer)["reason"] == "unavailable"
    assert talk.dropped == [DropCopies({"/script": COPY})]


def test_nothing_is_copied_for_a_remote_server() -> None:
    talk = Referring(remote=True)
    talk.asks(script="a.sh")
    assert talk.wanted == []
    assert "refs" not in talk.told[-1]


def test_nothing_is_copied_where_nothing_is_named_or_too_much(talk: Referring) -> None:
    for arguments in ({"text": "a"}, {"script": None}, {"script": 7}, {"files": []}, {"files": ["x"] * 65}):
        talk.client(call("x", arguments=arguments))
        assert talk.wanted == []
        talk.answers({"type": "deny", "decision": {"decision": "deny", "reason": "forbidden"}})


def test_what_is_not_understood_of_a_welcome_binds_nothing() -> None:
    for said in (None, [], "x", {"t": "x"}, {"t": [1]}, {"t": None}):
        assert references_of({"references": said}) == {}
    assert references_of({}) == {}
