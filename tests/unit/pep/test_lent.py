"""A credential at the gateway: put where it belongs, and never let back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from forestall.core.errors import InvalidInput
from forestall.core.pin import definition_digest
from forestall.pep.mcp.lent import Lent, read_lent
from forestall.pep.mcp.relay import Relay
from forestall.pep.mcp.thing import ToServer
from forestall.pep.sought import MAX_OVER
from tests.mcpkit.session import decision
from tests.unit.pep.test_relay import Conversation, call, result

SECRET = "pX7/w+Zq-93_kLmN"
TOOL = {
    "name": "echo",
    "inputSchema": {"type": "object", "properties": {"a": {}, "key": {"type": "string"}}, "required": ["key"]},
}
SAID = {"content": [{"type": "text", "text": f"the key is {SECRET}"}]}


def lent(where: str = "argument", name: str = "key", value: str = SECRET) -> dict[str, Any]:
    return {"placed": [{"where": where, "name": name, "value": value}], "scrub": [SECRET]}


@pytest.fixture(params=[False])
def talk(request: pytest.FixtureRequest) -> Conversation:
    return _talk(remote=request.param)


def _talk(*, remote: bool) -> Conversation:
    talk = Conversation()
    talk.relay = Relay("files", lambda: talk.now, lambda: talk.now, remote=remote)
    talk.client(call("first"))
    talk.listed(TOOL)
    talk.answers({"type": "deny", "decision": {"decision": "deny", "reason": "forbidden"}})
    talk.to_client.clear()
    talk.told.clear()
    return talk


def permits(talk: Conversation, credential: object, **changes: Any) -> None:
    asked = talk.told[-1]
    granted = {"id": f"p{asked['id']}", "tool": asked["tool"], "pin": asked["pin"], "expires_at": talk.now + 5000}
    granted["start_by"] = talk.now + 1000
    from forestall.core.canonical import digest

    granted["digest"] = digest(asked["arguments"])
    talk.answers({"type": "permit", "permit": {**granted, **changes}, "credential": credential}, asked)


def test_the_server_gets_the_argument_and_the_decision_point_was_asked_without_it(talk: Conversation) -> None:
    talk.client(call())
    assert talk.told[-1]["arguments"] == {"a": 1}
    permits(talk, lent())
    sent = json.loads(talk.to_server[-1])
    assert sent["params"] == {"name": "echo", "arguments": {"a": 1, "key": SECRET}}
    talk.server(result())
    talk.answers({"type": "release"})
    assert talk.answer == result()


def test_a_credential_that_comes_back_is_withheld_whatever_its_permit_says_of_waiting(talk: Conversation) -> None:
    talk.client(call())
    permits(talk, lent(), release="at_once")
    talk.server(result(content=[SECRET]))
    assert talk.told[-1]["leaked"] is True
    assert "released" not in talk.told[-1]
    assert talk.to_client == []
    talk.answers({"type": "withhold", "sentence": "no", "reason": "leaked"})
    assert SECRET.encode() not in talk.to_client[-1]


def test_the_next_call_has_nothing_of_it(talk: Conversation) -> None:
    talk.client(call())
    permits(talk, lent())
    talk.server(result())
    talk.answers({"type": "release"})
    talk.client(call(2))
    talk.permits()
    assert json.loads(talk.to_server[-1]) == call(2)


@pytest.mark.parametrize(
    "credential",
    [
        None,
        [],
        {},
        {"placed": []},
        {"placed": [1], "scrub": []},
        {"placed": [{"where": "argument", "name": "key"}], "scrub": []},
        {**lent(), "scrub": [1]},
        lent("nowhere"),
        lent("header", "Authorization"),
        lent("environment", "KEY"),
        lent(name="a"),
        lent(name="A"),
    ],
    ids=str,
)
def test_what_cannot_be_put_in_place_is_not_begun(talk: Conversation, credential: Any) -> None:
    talk.client(call())
    before = len(talk.to_server)
    permits(talk, credential)
    assert len(talk.to_server) == before
    assert (talk.told[-1]["type"], talk.told[-1]["fate"]) == ("performed", "not_started")
    assert decision(talk.answer)["reason"] == "unavailable"


def test_a_header_goes_with_exactly_the_message_that_the_permit_is_for() -> None:
    talk = _talk(remote=True)
    lines: list[ToServer] = []
    do = talk.do

    def kept(things: list[Any]) -> None:
        lines.extend(thing for thing in things if isinstance(thing, ToServer))
        do(things)

    talk.do = kept  # type: ignore[method-assign]
    talk.client(call())
    permits(talk, lent("header", "Authorization", f"Bearer {SECRET}"))
    talk.client({"jsonrpc": "2.0", "id": 5, "method": "resources/list"})
    assert [line.headers for line in lines] == [(("Authorization", f"Bearer {SECRET}"),), ()]
    assert SECRET not in lines[0].line.decode()
    assert SECRET not in repr(lines)


def test_what_is_bound_goes_with_the_name_that_its_proofs_are_asked_by() -> None:
    talk = _talk(remote=True)
    lines: list[ToServer] = []
    do = talk.do

    def kept(things: list[Any]) -> None:
        lines.extend(thing for thing in things if isinstance(thing, ToServer))
        do(things)

    talk.do = kept  # type: ignore[method-assign]
    talk.client(call())
    permits(talk, {**lent("header", "Authorization", f"DPoP {SECRET}"), "bound": "forestall-0-1"})
    talk.client({"jsonrpc": "2.0", "id": 5, "method": "resources/list"})
    assert [line.bound for line in lines] == ["forestall-0-1", ""]


@pytest.mark.parametrize("name", ["Host", "Mcp-Session-Id", "DPoP", "A B"])
def test_a_header_that_is_not_a_credentials_is_not_begun(name: str) -> None:
    talk = _talk(remote=True)
    talk.client(call())
    before = len(talk.to_server)
    permits(talk, lent("header", name))
    assert len(talk.to_server) == before
    assert (talk.told[-1]["type"], talk.told[-1]["fate"]) == ("performed", "not_started")


@pytest.mark.parametrize(
    "credential",
    [
        {**lent("header", "Authorization"), "bound": ""},
        {**lent("header", "Authorization"), "bound": 1},
        {**lent("header", "X-Key"), "bound": "a"},
        {**lent(), "bound": "a"},
    ],
    ids=str,
)
def test_what_is_bound_and_goes_elsewhere_is_not_understood(credential: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        read_lent({"credential": credential})


def test_an_answer_that_holds_it_is_withheld_and_that_is_reported(talk: Conversation) -> None:
    talk.client(call())
    permits(talk, lent())
    talk.server(result(**SAID))
    report = talk.told[-1]
    assert (report["type"], report["fate"], report["leaked"]) == ("performed", "done", True)
    assert talk.to_client == []
    talk.answers({"type": "withhold", "sentence": "no", "reason": "leaked"})
    said = decision(talk.answer)
    assert (said["reason"], said["decision_id"]) == ("leaked", report["permit"])
    assert SECRET not in talk.to_client[-1].decode()


def test_even_where_the_decision_point_would_release_it(talk: Conversation) -> None:
    talk.client(call())
    permits(talk, lent())
    talk.server(result(**SAID))
    talk.answers({"type": "release"})
    assert decision(talk.answer)["reason"] == "leaked"


def test_an_error_that_holds_it_is_a_failure_and_withheld(talk: Conversation) -> None:
    talk.client(call())
    permits(talk, lent())
    talk.server({"jsonrpc": "2.0", "id": 1, "error": {"code": -1, "message": f"no such host: {SECRET}"}})
    assert (talk.told[-1]["fate"], talk.told[-1]["leaked"]) == ("failed", True)
    talk.answers({"type": "withhold", "sentence": "no"})
    assert SECRET not in talk.to_client[-1].decode()


@pytest.mark.parametrize(
    "message",
    [
        {"method": "notifications/message", "params": {"level": "info", "data": SECRET}},
        {"method": "notifications/progress", "params": {"progressToken": 1, "progress": 1, "message": SECRET}},
        {"method": "notifications/of/" + SECRET},
        {"method": "sampling/createMessage", "id": 9, "params": {"systemPrompt": SECRET}},
    ],
    ids=lambda message: message["method"],
)
def test_whatever_else_the_server_says_is_dropped_and_told(talk: Conversation, message: dict[str, Any]) -> None:
    talk.client(call())
    permits(talk, lent())
    talk.server({"jsonrpc": "2.0", **message})
    assert talk.to_client == []
    told = talk.told[-1]
    assert told["type"] == "leaked"
    assert SECRET not in json.dumps(told)
    assert talk.said == ["The server's message held a credential; it is withheld, and the credential ends."]
    if "id" in message:
        assert json.loads(talk.to_server[-1])["error"]["code"] == -32603


def test_the_answer_to_what_is_no_call_is_withheld(talk: Conversation) -> None:
    talk.client(call())
    permits(talk, lent())
    talk.client({"jsonrpc": "2.0", "id": 5, "method": "resources/read", "params": {"uri": "env://"}})
    talk.server(result(5, contents=[{"text": SECRET}]))
    assert talk.answer["error"]["data"]["reason"] == "leaked"
    assert talk.told[-1] == {"type": "leaked", "where": "the answer to resources/read"}


def test_a_list_of_tools_that_holds_it_is_not_shown(talk: Conversation) -> None:
    talk.client(call())
    permits(talk, lent())
    talk.client({"jsonrpc": "2.0", "id": 5, "method": "tools/list"})
    talk.server(result(5, tools=[{**TOOL, "description": SECRET}]))
    assert "error" in talk.answer
    assert SECRET not in talk.to_client[-1].decode()
    assert SECRET not in json.dumps(talk.told)


def test_a_list_that_changed_is_listed_again_though_the_notice_is_dropped(talk: Conversation) -> None:
    talk.client(call())
    permits(talk, lent())
    talk.server({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": {"_meta": {"a": SECRET}}})
    talk.client(call(2))
    assert json.loads(talk.to_server[-1])["method"] == "tools/list"


def test_it_is_looked_for_after_the_call_as_well(talk: Conversation) -> None:
    talk.client(call())
    permits(talk, lent())
    talk.server(result())
    talk.answers({"type": "release"})
    talk.client(call(2))
    talk.permits()
    talk.server(result(2, **SAID))
    assert talk.told[-1]["leaked"] is True


def test_a_tasks_credential_is_known_by_what_shows_nothing_of_it_and_is_one_for_all_calls(talk: Conversation) -> None:
    for number in range(2):
        talk.relay.lent(Lent(scrub=(SECRET, "another secret"), until=1 << 50), f"permit-{number}", None)
    assert talk.relay.scrubber.finds(SECRET.encode())
    assert len(talk.relay._sought._alive) == 1
    assert SECRET not in repr(talk.relay._sought._alive)


def test_a_late_answer_that_holds_it_is_for_nobody(talk: Conversation) -> None:
    talk.client(call())
    permits(talk, lent())
    talk.server(result(77, **SAID))
    assert talk.to_client == []
    assert talk.told[-1]["type"] == "leaked"


def test_without_a_credential_nothing_is_looked_for(talk: Conversation) -> None:
    assert not talk.relay.scrubber
    talk.client(call())
    talk.permits()
    talk.server(result(**SAID))
    assert "leaked" not in talk.told[-1]


def many(talk: Conversation, count: int) -> None:
    """So many calls that are over by now, each with a secret of its own."""
    for number in range(count):
        talk.relay.lent(Lent(scrub=(f"secret-number-{number:04}",)), f"permit-{number}", None)


def test_of_calls_that_are_over_the_last_are_looked_for(talk: Conversation) -> None:
    many(talk, MAX_OVER + 2)
    assert not talk.relay.scrubber.finds(b"secret-number-0000")
    assert talk.relay.scrubber.finds(b"secret-number-0002")
    assert talk.relay.scrubber.finds(f"secret-number-{MAX_OVER + 1:04}".encode())


def test_what_the_server_has_from_its_start_is_looked_for_whatever_calls_bring(talk: Conversation) -> None:
    talk.relay.equipped(Lent(scrub=(SECRET,)))
    many(talk, 2 * MAX_OVER)
    assert talk.relay.scrubber.finds(SECRET.encode())


def test_a_long_calls_secret_is_looked_for_until_it_is_over_whatever_others_bring(talk: Conversation) -> None:
    talk.client(call())
    permits(talk, lent())
    many(talk, 2 * MAX_OVER)
    assert talk.relay.scrubber.finds(SECRET.encode())
    talk.server(result(1, **SAID))
    assert talk.told[-1]["leaked"] is True
    talk.answers({"type": "release"})
    many(talk, 2 * MAX_OVER)
    assert not talk.relay.scrubber.finds(SECRET.encode())


def test_a_tasks_secret_is_looked_for_until_it_ends(talk: Conversation) -> None:
    talk.client(call())
    permits(talk, {**lent(), "until": talk.now + 60_000})
    talk.server(result())
    talk.answers({"type": "release"})
    many(talk, 2 * MAX_OVER)
    assert talk.relay.scrubber.finds(SECRET.encode())
    talk.now += 60_000
    many(talk, 2 * MAX_OVER)
    assert not talk.relay.scrubber.finds(SECRET.encode())


def test_the_client_sees_nothing_of_a_hidden_argument(talk: Conversation) -> None:
    talk.client({"jsonrpc": "2.0", "id": 5, "method": "tools/list"})
    talk.server(result(5, tools=[TOOL]))
    pin = definition_digest("files", TOOL)
    assert talk.told[-1]["tools"] == [TOOL], "the decision point judges what the server says"
    talk.answers({"type": "tools", "tools": [{"name": "echo", "show": True, "pin": pin, "hide": ["key"]}]})
    (shown,) = talk.answer["result"]["tools"]
    assert shown["inputSchema"] == {"type": "object", "properties": {"a": {}}, "required": []}
    talk.client(call())
    assert talk.told[-1]["pin"] == pin, "and a call is decided on that"


def test_what_is_lent_is_in_no_text() -> None:
    found = read_lent({"credential": lent()})
    assert found.arguments == {"key": SECRET}
    assert SECRET not in repr(found)
    with pytest.raises(InvalidInput) as caught:
        read_lent({"credential": lent("nowhere")})
    assert SECRET not in str(caught.value)
