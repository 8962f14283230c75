"""What a server that demands permits gets with a call, and what a client cannot put there."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forestall.pep.mcp.call import Call, govern, read_call
from forestall.pep.mcp.message import read_client
from forestall.pep.mcp.presented import PERMIT, PROOF, present, without
from forestall.pep.mcp.tools import Definitions
from forestall.pep.mcp.want import Forward, Ready, Report, Tell

MEMBERS = frozenset({"name", "arguments", "_meta"})


def call(**params: Any) -> Call:
    line = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "write", "arguments": {}, **params}}
    return read_call(read_client(json.dumps(line).encode()), "files", MEMBERS, modern=False)


def test_a_clients_own_is_taken_away_and_nothing_else() -> None:
    made = call(_meta={PERMIT: "x", PROOF: "y", "progressToken": 3})
    assert json.loads(made.line({}))["params"]["_meta"] == {"progressToken": 3}
    assert without({"name": "a"}) == {"name": "a"}
    assert without({"_meta": {"a": 1}}) == {"_meta": {"a": 1}}


@pytest.mark.parametrize("meta", [{}, {"_meta": {"progressToken": 3, PERMIT: "mine"}}])
def test_the_permit_and_its_proof_are_beside_the_arguments(meta: dict[str, Any]) -> None:
    made = call(**meta)
    sent = json.loads(made.line({}, present("the permit", lambda permit: f"proof of {permit}")))
    own = {} if not meta else {"progressToken": 3}
    assert sent["params"]["_meta"] == {**own, PERMIT: "the permit", PROOF: "proof of the permit"}
    assert sent["params"]["name"] == "write"


@pytest.mark.parametrize(("token", "signs", "forwarded"), [("t", True, True), ("t", False, False), (3, True, False)])
def test_a_permit_that_cannot_be_presented_is_not_begun(token: Any, *, signs: bool, forwarded: bool) -> None:
    definitions = Definitions("files")
    definitions.replace([{"name": "write", "inputSchema": {"type": "object"}}], 0, definitions.generation)
    pin = definitions.pin("write")
    made = call()
    talk = govern(made, definitions, lambda *_: True, lambda: 0, sign=(lambda permit: permit + "!") if signs else None)
    assert isinstance(next(talk), Ready)
    asked = talk.send(None)
    assert isinstance(asked, Tell)
    leave = {"id": "p", "tool": "files/write", "pin": pin, "expires_at": 9, "token": token}
    from forestall.core.canonical import digest

    want = talk.send({"type": "permit", "permit": {**leave, "digest": digest({})}})
    if forwarded:
        assert isinstance(want, Forward)
        assert json.loads(want.line)["params"]["_meta"] == {PERMIT: "t", PROOF: "t!"}
    else:
        assert isinstance(want, Report)
        assert want.frame["fate"] == "not_started"
