"""The relay, as conversations: what comes in, and what it wants done."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from forestall import frame
from forestall.core.canonical import digest
from forestall.core.pin import definition_digest
from forestall.pep.mcp.message import MAX_FROM_SERVER
from forestall.pep.mcp.relay import CANCELLED_GRACE_MS, Relay
from forestall.pep.mcp.stage import ANSWER_WITHIN_MS, MAX_NOTES
from forestall.pep.mcp.thing import Connect, End, Say, Thing, ToClient, ToDecisionPoint, ToServer
from forestall.pep.mcp.tools import MAX_AGE_MS
from tests.mcpkit.decision_point import deny
from tests.mcpkit.session import decision

ECHO = {"name": "echo", "inputSchema": {"type": "object"}}
PIN = definition_digest("files", ECHO)
MODERN = {"io.modelcontextprotocol/protocolVersion": "2026-07-28", "io.modelcontextprotocol/clientCapabilities": {}}
NOTE = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": 1}}


class Conversation:
    """A relay between a client, a server and a decision point that all say what the test says."""

    def __init__(self) -> None:
        self.now = 1_000_000
        self.relay = Relay("files", lambda: self.now, lambda: self.now)
        self.to_client: list[bytes] = []
        self.to_server: list[bytes] = []
        self.told: list[dict[str, Any]] = []
        self.refused: list[dict[str, Any]] = []
        """What was told of messages that were refused for their form. Recorded at once."""
        self.said: list[str] = []
        self.connects = 0
        self.made_ready = 0
        """Asks while whose answer is waited for something was made ready."""
        self.ends: list[End] = []

    def do(self, things: list[Thing]) -> None:
        for thing in things:
            match thing:
                case ToClient(line):
                    self.to_client.append(line)
                case ToServer(line):
                    self.to_server.append(line)
                case ToDecisionPoint(data, meanwhile):
                    if meanwhile is not None:
                        self.made_ready += 1
                        meanwhile()
                    told = frame.decode(data[frame.HEAD :])
                    if told["type"] == "refused":
                        self.refused.append(told)
                        self.answers(deny(told["reason"]), told)
                    else:
                        self.told.append(told)
                case Say(sentence):
                    self.said.append(sentence)
                case Connect():
                    self.connects += 1
                case End():
                    self.ends.append(thing)

    def client(self, value: object) -> None:
        self.do(self.relay.from_client(value if isinstance(value, bytes) else json.dumps(value).encode()))

    def server(self, value: object) -> None:
        self.do(self.relay.from_server(value if isinstance(value, bytes) else json.dumps(value).encode()))

    def answers(self, value: dict[str, Any], to: dict[str, Any] | None = None) -> None:
        """The decision point answers what it was last told, or `to`."""
        self.do(self.relay.from_decision_point({"id": (to or self.told[-1])["id"], **value}))

    def permits(self, to: dict[str, Any] | None = None, **changes: Any) -> None:
        asked = to or self.told[-1]
        granted = {"id": f"p{asked['id']}", "tool": asked["tool"], "pin": asked["pin"], "expires_at": self.now + 5000}
        granted["start_by"] = self.now + 1000
        granted["digest"] = digest(asked["arguments"])
        self.answers({"type": "permit", "permit": {**granted, **changes}}, asked)

    def permits_method(self, to: dict[str, Any] | None = None) -> None:
        self.answers({"type": "permit", "permit": {"id": "p", "start_by": self.now + 1000}}, to)

    def revokes(self, reason: str = "revoked", epoch: int = 7) -> None:
        self.do(self.relay.from_decision_point({"type": "revoked", "reason": reason, "epoch": epoch}))

    def wait(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.do(self.relay.tick())

    def listed(self, *definitions: dict[str, Any]) -> None:
        """The gateway asked for the tools: they are these."""
        asked = json.loads(self.to_server.pop())
        assert asked["method"] == "tools/list"
        self.server({"jsonrpc": "2.0", "id": asked["id"], "result": {"tools": list(definitions)}})

    @property
    def answer(self) -> Any:
        """The last line that the client got."""
        return json.loads(self.to_client[-1])


def call(identity: object = 1, name: str = "echo", **params: Any) -> dict[str, Any]:
    params = {"name": name, "arguments": {"a": 1}, **params}
    return {"jsonrpc": "2.0", "id": identity, "method": "tools/call", "params": params}


def result(identity: object = 1, **members: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identity, "result": {"content": [], **members}}


def test_a_denial_of_a_tool_that_describes_its_output_has_no_other_structured_content() -> None:
    """Clients hold it against the tool's schema, and would show their user that it does not fit, and no denial."""
    talk = Conversation()
    talk.client(call())
    talk.listed({**ECHO, "outputSchema": {"type": "object", "required": ["text"]}})
    talk.answers(deny("forbidden"))
    told = talk.answer["result"]
    assert told["isError"]
    assert "structuredContent" not in told
    assert told["_meta"]["forestall/decision"]["reason"] == "forbidden"
    assert told["content"][0]["text"].startswith("Denied (forbidden): ")
    assert json.loads(told["content"][1]["text"]) == told["_meta"]["forestall/decision"]


def test_nor_has_what_became_of_its_call() -> None:
    talk = Conversation()
    talk.client(call())
    talk.listed({**ECHO, "outputSchema": {"type": "object"}})
    talk.permits(pin=definition_digest("files", {**ECHO, "outputSchema": {"type": "object"}}))
    talk.do(talk.relay.server_ended())
    told = talk.answer["result"]
    assert "structuredContent" not in told
    assert told["_meta"]["forestall/decision"]["reason"] == "outcome_unknown"


def test_nor_has_the_refusal_of_one_for_its_form() -> None:
    talk = Conversation()
    talk.client(call())
    talk.listed({**ECHO, "outputSchema": {"type": "object"}})
    talk.client(call(2, unknown=1))
    told = talk.answer["result"]
    assert "structuredContent" not in told
    assert told["_meta"]["forestall/decision"]["reason"] == "invalid_arguments"


@pytest.fixture
def talk() -> Conversation:
    """A session whose tools are known."""
    talk = Conversation()
    talk.client(call("first"))
    talk.listed(ECHO)
    talk.answers({"type": "deny", "decision": {"decision": "deny", "reason": "forbidden"}})
    talk.to_client.clear()
    talk.told.clear()
    return talk


def test_a_call_is_decided_forwarded_recorded_and_only_then_released(talk: Conversation) -> None:
    talk.client(call())
    assert talk.told == [
        {"type": "ask", "tool": "files/echo", "pin": PIN, "arguments": {"a": 1}, "id": talk.told[0]["id"]}
    ]
    assert talk.to_server == []
    talk.permits()
    assert json.loads(talk.to_server[0]) == call()
    line = b'{"jsonrpc": "2.0",  "id":1, "result":{"content":[]}}'
    talk.server(line)
    assert talk.told[-1]["type"] == "performed"
    assert talk.told[-1]["fate"] == "done"
    assert talk.to_client == []
    talk.answers({"type": "release"})
    assert talk.to_client == [line]


def test_what_is_forwarded_is_written_anew_from_what_was_decided(talk: Conversation) -> None:
    talk.client(
        b' { "id":1,"jsonrpc":"2.0","method":"tools\\/call","params":{"arguments":{"a":"\\u00e9"},"name":"echo"}}\r'
    )
    talk.permits()
    expected = '{"id":1,"jsonrpc":"2.0","method":"tools/call","params":{"arguments":{"a":"é"},"name":"echo"}}'
    assert talk.to_server == [expected.encode()]


def test_what_a_call_needs_is_made_ready_while_it_is_decided_and_is_the_same_where_it_was_not(
    talk: Conversation,
) -> None:
    talk.client(call(1, arguments={"b": [1.5, "é"], "a": None}))
    assert talk.made_ready == 2  # and of the first call of the session
    (ask,) = talk.relay.from_client(json.dumps(call(2, arguments={"b": [1.5, "é"], "a": None})).encode())
    assert isinstance(ask, ToDecisionPoint)
    assert ask.meanwhile is not None
    talk.permits()
    talk.permits(frame.decode(ask.frame[frame.HEAD :]))
    assert len(talk.to_server) == 2
    assert talk.to_server[1] == talk.to_server[0].replace(b'"id":1', b'"id":2')


@pytest.mark.parametrize("kind", ["deny", "hold"])
def test_a_denied_or_held_call_reaches_nobody_and_says_why(talk: Conversation, kind: str) -> None:
    talk.client(call())
    shown = {"decision": kind, "reason": "forbidden", "decision_id": "d1", "retry": "final", "sentence": "No."}
    talk.answers({"type": kind, "decision": {**shown, "policies": ["secret"]}})
    assert talk.to_server == []
    assert decision(talk.answer) == shown


@pytest.mark.parametrize(
    "changes",
    [
        {"tool": "files/other"},
        {"pin": "sha256:" + "0" * 64},
        {"digest": digest({"a": 2})},
        {"digest": None},
        {"expires_at": 0},
        {"expires_at": True},
        {"expires_at": None},
        {"expires_at": 1e18},
    ],
)
def test_a_permit_for_anything_else_is_not_used(talk: Conversation, changes: dict[str, Any]) -> None:
    talk.client(call())
    talk.permits(**changes)
    assert talk.to_server == []
    assert talk.told[-1]["fate"] == "not_started"
    assert decision(talk.answer)["reason"] == "unavailable"


@pytest.mark.parametrize("permit", [None, {}, "p", {"id": 3}])
def test_a_permit_that_is_none_is_not_used(talk: Conversation, permit: object) -> None:
    talk.client(call())
    talk.answers({"type": "permit", "permit": permit})
    assert talk.to_server == []
    assert decision(talk.answer)["reason"] == "unavailable"


def test_a_permit_is_used_once(talk: Conversation) -> None:
    talk.client(call(1))
    talk.permits(id="once")
    talk.client(call(2))
    talk.permits(id="once")
    assert len(talk.to_server) == 1
    assert decision(talk.answer)["decision"] == "deny"


def test_an_answer_of_another_type_is_not_a_permit(talk: Conversation) -> None:
    talk.client(call())
    talk.answers({"type": "release"})
    assert talk.to_server == []
    assert decision(talk.answer)["decision"] == "deny"


def test_a_failed_tool_and_an_error_are_output_too(talk: Conversation) -> None:
    for identity, answer in ((1, result(1, isError=True)), (2, {"jsonrpc": "2.0", "id": 2, "error": {"code": -1}})):
        talk.client(call(identity))
        talk.permits()
        talk.server(answer)
        assert talk.told[-1]["fate"] == "failed"
        assert talk.to_client == []
        talk.answers({"type": "release"})
        assert talk.answer == answer
        talk.to_client.clear()


@pytest.mark.parametrize("answer", [result(), result(isError=True), {"jsonrpc": "2.0", "id": 1, "error": {"code": -1}}])
def test_an_output_that_need_not_wait_is_released_once_its_outcome_is_on_its_way(
    talk: Conversation, answer: dict[str, Any]
) -> None:
    talk.client(call())
    talk.permits(release="at_once")
    line = json.dumps(answer).encode()
    told, out = talk.told[-1], talk.relay.from_server(line)
    assert [type(thing) for thing in out] == [ToDecisionPoint, ToClient], "in this order"
    talk.do(out)
    report = talk.told[-1]
    assert report != told
    assert (report["released"], report["digest"]) == (True, "sha256:" + hashlib.sha256(line).hexdigest())
    assert report["fate"] == ("done" if answer == result() else "failed")
    assert talk.to_client == [line]
    assert report["id"] not in talk.relay._waiting, "no answer is waited for"


@pytest.mark.parametrize("said", [None, True, "later", "", ["at_once"]])
def test_an_output_waits_unless_its_permit_says_in_so_many_words_that_it_need_not(
    talk: Conversation, said: object
) -> None:
    talk.client(call())
    talk.permits(release=said)
    talk.server(result())
    assert "released" not in talk.told[-1]
    assert talk.to_client == []


def test_an_output_that_need_not_wait_is_withheld_where_nobody_can_be_told_of_it(talk: Conversation) -> None:
    talk.client(call())
    talk.permits(release="at_once")
    talk.do(talk.relay.lost())
    talk.server(result(content=["the secret"]))
    assert b"the secret" not in b"".join(talk.to_client)
    assert decision(talk.answer)["reason"] == "outcome_unknown"


def test_an_output_whose_report_cannot_be_sent_is_withheld(talk: Conversation) -> None:
    talk.client(call())
    talk.permits(release="at_once", id="p" * frame.MAX_FRAME)
    assert talk.to_server != []
    talk.server(result(content=["the secret"]))
    assert b"the secret" not in b"".join(talk.to_client)
    assert decision(talk.answer)["reason"] == "outcome_unknown"


@pytest.mark.parametrize("reason", ["revoked", "task_ended"])
def test_once_the_task_is_over_no_output_is_released_at_once(talk: Conversation, reason: str) -> None:
    talk.client(call())
    talk.permits(release="at_once")
    talk.revokes(reason)
    talk.server(result(content=["the secret"]))
    assert b"the secret" not in b"".join(talk.to_client)
    assert talk.told[-1]["fate"] == "ambiguous"


def test_no_output_is_released_at_once_while_something_of_the_decision_point_is_unheard(talk: Conversation) -> None:
    talk.relay.behind = lambda: True
    talk.client(call())
    talk.permits(release="at_once")
    talk.server(result())
    assert "released" not in talk.told[-1]
    assert talk.to_client == []
    talk.answers({"type": "release"})
    assert talk.answer == result()


@pytest.mark.parametrize("reason", ["revoked", "task_ended"])
def test_it_may_have_been_the_end_of_its_task(talk: Conversation, reason: str) -> None:
    talk.relay.behind = lambda: True
    talk.client(call())
    talk.permits(release="at_once")
    talk.server(result(content=["the secret"]))
    report = talk.told[-1]
    talk.revokes(reason)
    talk.answers({"type": "withhold", "sentence": "The task was ended."}, report)
    assert b"the secret" not in b"".join(talk.to_client)
    assert decision(talk.answer)["reason"] == reason


def test_withheld_output_does_not_reach_the_client(talk: Conversation) -> None:
    talk.client(call())
    talk.permits()
    talk.server(result(content=["the secret"]))
    talk.answers({"type": "withhold", "sentence": "It could not be recorded."})
    assert b"the secret" not in talk.to_client[-1]
    assert decision(talk.answer)["reason"] == "outcome_unknown"


def test_what_the_decision_point_asks_about_an_output_is_measured_and_nothing_else(talk: Conversation) -> None:
    line = json.dumps(result(content=[{"type": "text", "text": "a\nb\nc"}])).encode()
    for asked, told in (
        (["bytes", "rows"], {"bytes": len(line), "rows": 3}),
        (["rows"], {"rows": 3}),
        ([], None),
    ):
        talk.client(call())
        talk.permits(measure=asked)
        talk.server(line)
        assert talk.told[-1].get("used") == told
        talk.answers({"type": "release"})
        assert talk.to_client[-1] == line


def test_an_error_is_measured_too(talk: Conversation) -> None:
    talk.client(call())
    talk.permits(measure=["rows"])
    talk.server({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "no", "data": [1, 2]}})
    assert talk.told[-1]["used"] == {"rows": 2}


def test_an_output_that_is_too_much_is_a_refusal_and_says_that_the_call_was_carried_out(talk: Conversation) -> None:
    talk.client(call())
    talk.permits(measure=["bytes"])
    talk.server(result(content=["all the secrets"]))
    talk.answers({"type": "withhold", "sentence": "It is withheld.", "reason": "budget"})
    assert b"all the secrets" not in talk.to_client[-1]
    told = decision(talk.answer)
    assert (told["reason"], told["decision_id"]) == ("budget", f"p{talk.told[0]['id']}")
    assert "was carried out" in told["sentence"]


def test_calls_are_forwarded_in_the_order_of_their_permits(talk: Conversation) -> None:
    for identity in (1, 2, 3):
        talk.client(call(identity))
    asks = list(talk.told)
    for index in (2, 0, 1):
        talk.permits(asks[index])
    assert [json.loads(line)["id"] for line in talk.to_server] == [3, 1, 2]


def test_a_pending_decision_holds_nothing_else_up(talk: Conversation) -> None:
    talk.client(call())
    talk.client({"jsonrpc": "2.0", "id": 2, "method": "resources/read", "params": {"uri": "a:b"}})
    talk.server(NOTE)
    talk.server({"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {}})
    assert len(talk.to_server) == 1
    assert len(talk.to_client) == 2


def test_what_is_relayed_passes_byte_for_byte(talk: Conversation) -> None:
    asked = b'{ "jsonrpc":"2.0", "id": "x\\u0041", "method":"prompts/get" ,"params":{"name":"p"} } '
    talk.client(asked)
    answered = b'{"result":{"n":1.0e5,"big":123456789012345678901},"id":"xA","jsonrpc":"2.0"}\r'
    talk.server(answered)
    assert (talk.to_server, talk.to_client) == ([asked], [answered])


# -- answers that nobody waits for


@pytest.mark.parametrize("identity", [7, "1", None])
def test_an_answer_to_nothing_is_dropped_and_said_once(talk: Conversation, identity: object) -> None:
    talk.client(call())
    talk.permits()
    for _ in range(2):
        talk.server({"jsonrpc": "2.0", "id": identity, "error": {"code": 1, "message": "m"}})
    assert talk.to_client == []
    assert len(talk.said) == 1


def test_an_answer_before_the_permit_is_dropped(talk: Conversation) -> None:
    talk.client(call())
    talk.server(result(content=["too early"]))
    assert talk.to_client == []
    talk.permits()
    talk.server(result())
    talk.answers({"type": "release"})
    assert talk.answer == result()


def test_a_second_answer_is_dropped(talk: Conversation) -> None:
    talk.client(call())
    talk.permits()
    talk.server(result())
    talk.server(result(content=["again"]))
    talk.answers({"type": "release"})
    talk.server(result(content=["again"]))
    assert talk.to_client == [json.dumps(result()).encode()]


def test_a_client_answer_to_nothing_is_dropped(talk: Conversation) -> None:
    talk.client(result("s1"))
    assert talk.to_server == []
    talk.server({"jsonrpc": "2.0", "id": "s1", "method": "roots/list"})
    talk.client(result("s1"))
    talk.client(result("s1"))
    assert len(talk.to_server) == 1


def test_an_id_that_waits_is_not_taken_twice(talk: Conversation) -> None:
    talk.client(call(1))
    talk.client(call(1))
    assert talk.answer["error"]["code"] == -32600
    assert talk.answer["id"] is None
    assert [told["type"] for told in talk.told] == ["ask"]


# -- definitions


def test_the_tools_are_listed_before_the_first_call() -> None:
    talk = Conversation()
    talk.client(call())
    assert talk.told == []
    talk.listed(ECHO)
    assert [told["type"] for told in talk.told] == ["tools", "ask"]
    assert talk.told[-1]["pin"] == PIN


def test_the_gateways_own_answers_do_not_reach_the_client() -> None:
    talk = Conversation()
    talk.client(call())
    talk.listed(ECHO)
    assert talk.to_client == []


def test_old_definitions_are_listed_again(talk: Conversation) -> None:
    talk.wait(MAX_AGE_MS)
    talk.client(call())
    assert json.loads(talk.to_server[-1])["method"] == "tools/list"
    talk.listed({**ECHO, "description": "now worse"})
    assert talk.told[-1]["pin"] not in ("", PIN)


def test_changed_definitions_are_listed_again(talk: Conversation) -> None:
    talk.server({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    talk.client(call())
    assert talk.told == []
    talk.listed()
    assert talk.told[-1] == {**talk.told[-1], "type": "ask", "pin": ""}


def test_a_definition_that_changes_while_it_is_decided_voids_the_permit(talk: Conversation) -> None:
    talk.client(call())
    asked = talk.told[-1]
    talk.server({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
    talk.permits(asked)
    assert talk.told[-1]["fate"] == "not_started"
    talk.listed({**ECHO, "title": "new"})
    assert talk.told[-1]["type"] == "ask"
    assert talk.told[-1]["pin"] != PIN


def test_a_definition_that_always_changes_is_denied(talk: Conversation) -> None:
    for round_ in range(3):
        if round_ == 0:
            talk.client(call())
        asked = talk.told[-1]
        talk.server({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        talk.permits(asked)
        if round_ < 2:
            talk.listed(ECHO)
    assert talk.to_server == []
    assert decision(talk.answer)["reason"] == "tool_changed"


def test_a_list_that_changes_while_it_is_read_is_read_again() -> None:
    talk = Conversation()
    talk.client(call())
    for _ in range(3):
        talk.server({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"})
        talk.listed(ECHO)
    assert not [told for told in talk.told if told["type"] == "ask"]
    talk.listed(ECHO)
    assert talk.told[-1]["type"] == "ask"


def test_a_server_that_does_not_list_its_tools_gets_no_calls(talk: Conversation) -> None:
    talk.wait(MAX_AGE_MS)
    talk.client(call())
    talk.wait(ANSWER_WITHIN_MS)
    assert decision(talk.answer)["reason"] == "deadline"
    assert talk.told == []


@pytest.mark.parametrize("answer", [{"result": {"tools": 3}}, {"result": {}}, {"error": {"code": -32000}}])
def test_a_list_that_is_none_decides_nothing(talk: Conversation, answer: dict[str, Any]) -> None:
    talk.wait(MAX_AGE_MS)
    talk.client(call())
    talk.server({"jsonrpc": "2.0", "id": json.loads(talk.to_server.pop())["id"], **answer})
    assert decision(talk.answer)["reason"] == "deadline"


def test_a_server_without_tools_is_still_asked_about_by_name(talk: Conversation) -> None:
    talk.wait(MAX_AGE_MS)
    talk.client(call())
    asked = json.loads(talk.to_server.pop())
    talk.server({"jsonrpc": "2.0", "id": asked["id"], "error": {"code": -32601, "message": "no"}})
    assert talk.told[-1]["pin"] == ""


def test_a_tool_listed_twice_has_no_pin(talk: Conversation) -> None:
    talk.wait(MAX_AGE_MS)
    talk.client(call())
    talk.listed(ECHO, {**ECHO, "description": "other"})
    assert talk.told[-1]["pin"] == ""
    talk.permits()
    assert talk.to_server == []


def test_a_list_of_many_huge_pages_is_not_gathered(talk: Conversation) -> None:
    talk.wait(MAX_AGE_MS)
    talk.client(call())
    big = [{"name": "t", "description": "x" * (MAX_FROM_SERVER // 2)}]
    pages = 0
    while talk.to_server:
        asked = json.loads(talk.to_server.pop())
        talk.server({"jsonrpc": "2.0", "id": asked["id"], "result": {"tools": big, "nextCursor": "more"}})
        pages += 1
    assert pages == 2
    assert decision(talk.answer)["reason"] == "deadline"


def test_pages_are_all_read_and_never_without_end(talk: Conversation) -> None:
    talk.wait(MAX_AGE_MS)
    talk.client(call())
    for page in range(100):
        asked = json.loads(talk.to_server.pop())
        assert asked["params"].get("cursor") == (str(page - 1) if page else None)
        tools = [{"name": f"t{page}"}]
        talk.server({"jsonrpc": "2.0", "id": asked["id"], "result": {"tools": tools, "nextCursor": str(page)}})
    assert talk.to_server == []
    assert decision(talk.answer)["reason"] == "deadline"


def test_the_gateways_own_ids_never_meet_the_clients(talk: Conversation) -> None:
    talk.wait(MAX_AGE_MS)
    for number in range(5):
        talk.client({"jsonrpc": "2.0", "id": f"forestall-{number}", "method": "prompts/list"})
    talk.to_server.clear()
    talk.client(call())
    own = json.loads(talk.to_server[-1])["id"]
    assert own == "forestall-5"
    talk.client({"jsonrpc": "2.0", "id": own, "method": "prompts/list"})
    assert talk.answer["error"]["code"] == -32600


def test_a_modern_server_is_asked_with_the_protocols_members() -> None:
    talk = Conversation()
    talk.client(call(_meta={**MODERN, "progressToken": 1, "traceparent": "x"}))
    assert json.loads(talk.to_server[-1])["params"] == {"_meta": MODERN}


# -- tools/list


def list_request(**params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": "l", "method": "tools/list", "params": params}


def show(talk: Conversation, *names: str) -> None:
    tools = talk.told[-1]["tools"]
    talk.answers({"type": "tools", "tools": [{"name": t["name"], "show": t["name"] in names} for t in tools]})


def test_a_list_with_nothing_hidden_passes_byte_for_byte(talk: Conversation) -> None:
    talk.client(list_request())
    line = b'{"jsonrpc":"2.0", "id":"l","result":{"tools":[{"name":"echo","inputSchema":{"x":1e3}}]}}'
    talk.server(line)
    assert talk.to_client == []
    show(talk, "echo")
    assert talk.to_client == [line]


def test_hidden_tools_are_not_seen(talk: Conversation) -> None:
    talk.client(list_request())
    talk.server({"jsonrpc": "2.0", "id": "l", "result": {"tools": [ECHO, {"name": "bad"}, {"nameless": 1}, 3]}})
    assert [tool["name"] for tool in talk.told[-1]["tools"]] == ["echo", "bad"]
    show(talk, "echo")
    assert talk.answer["result"] == {"tools": [ECHO]}


def test_a_filtered_list_is_private_in_the_modern_era(talk: Conversation) -> None:
    talk.client(list_request(_meta=MODERN))
    talk.server({"jsonrpc": "2.0", "id": "l", "result": {"tools": [ECHO], "cacheScope": "public", "ttlMs": 5}})
    show(talk)
    assert talk.answer["result"] == {"tools": [], "cacheScope": "private", "ttlMs": 5}


@pytest.mark.parametrize(
    "verdicts", [None, [], {}, [{"name": "other", "show": True}], [{"name": "echo", "show": 1}], [5]]
)
def test_a_verdict_that_is_none_hides(talk: Conversation, verdicts: object) -> None:
    talk.client(list_request())
    talk.server({"jsonrpc": "2.0", "id": "l", "result": {"tools": [ECHO]}})
    talk.answers({"type": "tools", "tools": verdicts})
    assert talk.answer["result"]["tools"] == []


def test_a_list_is_not_shown_without_the_decision_point(talk: Conversation) -> None:
    talk.client(list_request())
    talk.server({"jsonrpc": "2.0", "id": "l", "result": {"tools": [ECHO]}})
    talk.do(talk.relay.lost())
    assert talk.answer["error"]["code"] == -32603


def test_pages_of_the_clients_are_filtered_each(talk: Conversation) -> None:
    for cursor, name in ((None, "a"), ("2", "b")):
        talk.client(list_request(**({"cursor": cursor} if cursor else {})))
        more = {} if cursor else {"nextCursor": "2"}
        talk.server({"jsonrpc": "2.0", "id": "l", "result": {"tools": [{"name": name}], **more}})
        show(talk, "a")
        assert [tool["name"] for tool in talk.answer["result"]["tools"]] == (["a"] if name == "a" else [])


def test_a_list_with_int64_limits_is_understood(talk: Conversation) -> None:
    tool = b'{"name":"echo","inputSchema":{"maximum":9223372036854775807}}'
    talk.client(list_request())
    talk.server(b'{"jsonrpc":"2.0","id":"l","result":{"tools":[' + tool + b"]}}")
    show(talk, "echo")
    assert tool in talk.to_client[-1]


def test_a_list_of_too_many_tools_is_not_shown(talk: Conversation) -> None:
    talk.client(list_request())
    talk.server({"jsonrpc": "2.0", "id": "l", "result": {"tools": [{"name": str(n)} for n in range(4097)]}})
    assert talk.answer["error"]["code"] == -32603


# -- cancellation


def cancel(identity: object = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": identity}}


def test_a_call_cancelled_while_it_is_decided_is_not_started(talk: Conversation) -> None:
    talk.client(call())
    asked = talk.told[-1]
    talk.client(cancel())
    assert talk.told[-1] == {"type": "cancel", "id": asked["id"]}
    talk.permits(asked)
    assert (talk.to_server, talk.to_client) == ([], [])
    assert talk.told[-1]["fate"] == "not_started"


def test_a_call_cancelled_at_the_server_is_told_and_settled_ambiguous(talk: Conversation) -> None:
    talk.client(call())
    talk.permits()
    talk.client(cancel())
    assert json.loads(talk.to_server[-1]) == cancel()
    talk.wait(CANCELLED_GRACE_MS)
    assert talk.told[-1]["fate"] == "ambiguous"
    talk.server(result(content=["late"]))
    assert talk.to_client == []


def test_a_cancelled_call_that_is_answered_is_settled_as_answered(talk: Conversation) -> None:
    talk.client(call())
    talk.permits()
    talk.client(cancel())
    talk.server(result())
    assert talk.told[-1]["fate"] == "done"


def test_a_call_cancelled_while_the_tools_are_listed_is_not_asked_about(talk: Conversation) -> None:
    talk.wait(MAX_AGE_MS)
    talk.client(call())
    talk.client(cancel())
    talk.listed(ECHO)
    assert [told["type"] for told in talk.told] == ["tools"]
    assert (talk.to_server, talk.to_client) == ([], [])


def test_a_cancelled_relayed_request_is_given_up_in_silence(talk: Conversation) -> None:
    talk.client({"jsonrpc": "2.0", "id": 5, "method": "prompts/list"})
    talk.client(cancel(5))
    assert len(talk.to_server) == 2
    talk.wait(CANCELLED_GRACE_MS)
    assert (talk.to_client, talk.relay.busy) == ([], False)


@pytest.mark.parametrize("identity", [None, [], {}, 99, 1.5])
def test_a_cancellation_of_nothing_is_relayed(talk: Conversation, identity: object) -> None:
    talk.client(cancel(identity))
    assert len(talk.to_server) == 1


# -- losses


def test_a_decision_that_does_not_come_is_a_denial_and_too_late_a_permit(talk: Conversation) -> None:
    talk.client(call())
    asked = talk.told[-1]
    talk.wait(ANSWER_WITHIN_MS)
    assert decision(talk.answer)["reason"] == "deadline"
    talk.permits(asked)
    assert talk.to_server == []
    assert talk.told[-1]["fate"] == "not_started"


def test_output_is_withheld_when_the_record_does_not_come(talk: Conversation) -> None:
    talk.client(call())
    talk.permits()
    talk.server(result(content=["the secret"]))
    talk.wait(ANSWER_WITHIN_MS)
    assert decision(talk.answer)["reason"] == "outcome_unknown"


def test_without_the_decision_point_calls_are_denied_and_the_rest_goes_on(talk: Conversation) -> None:
    talk.client(call(1))
    talk.do(talk.relay.lost())
    assert decision(talk.answer)["reason"] == "unavailable"
    talk.client(call(2))
    assert talk.connects == 1
    talk.do(talk.relay.not_connected())
    assert decision(talk.answer)["reason"] == "unavailable"
    talk.client({"jsonrpc": "2.0", "id": 3, "method": "prompts/list"})
    assert len(talk.to_server) == 1


def test_a_call_at_the_server_when_the_decision_point_is_lost_is_unknown(talk: Conversation) -> None:
    talk.client(call())
    talk.permits()
    talk.do(talk.relay.lost())
    assert decision(talk.answer)["reason"] == "outcome_unknown"
    talk.server(result(content=["the secret"]))
    assert len(talk.to_client) == 1


def test_calls_go_on_with_another_task_when_it_is_back(talk: Conversation) -> None:
    talk.do(talk.relay.lost())
    talk.client(call(1))
    talk.client(call(2))
    assert talk.connects == 1
    talk.do(talk.relay.connected())
    talk.listed(ECHO)
    asks = [told for told in talk.told if told["type"] == "ask"]
    assert len(asks) == 2
    talk.permits(asks[1])
    assert json.loads(talk.to_server[-1])["id"] == 2


@pytest.mark.parametrize("given_up", ["lost", "cancelled"])
def test_an_output_that_was_given_up_does_not_come_out_under_the_id_of_another_request(
    talk: Conversation, given_up: str
) -> None:
    """Else a client that asks for something that is relayed, under the same id, has the output that is withheld."""
    talk.client(call())
    talk.permits()
    if given_up == "lost":
        talk.do(talk.relay.lost())
    else:
        talk.client(cancel())
        talk.wait(CANCELLED_GRACE_MS)
    talk.to_client.clear()
    reused = {"jsonrpc": "2.0", "id": 1, "method": "resources/list"}
    talk.client(reused)
    assert talk.answer["error"]["code"] == -32600
    talk.server(result(content=["withheld"]))
    assert b"withheld" not in b"".join(talk.to_client)
    talk.client(reused)
    assert json.loads(talk.to_server[-1]) == reused, "the server owes nothing under it any more"


def test_revisions_that_nobody_knows_are_one(talk: Conversation) -> None:
    before = len(talk.relay._eras)
    for number in range(100):
        meta = {"io.modelcontextprotocol/protocolVersion": f"made-up-{number}"}
        talk.client({"jsonrpc": "2.0", "id": number, "method": "prompts/list", "params": {"_meta": meta}})
    assert len(talk.relay._eras) == before + 1
    assert talk.told[-1]["type"] == "method", "what no revision that is spoken has is unknown"


def test_a_permit_of_a_lost_decision_point_is_worth_nothing(talk: Conversation) -> None:
    talk.client(call())
    asked = talk.told[-1]
    talk.do(talk.relay.lost())
    talk.permits(asked)
    assert talk.to_server == []


def test_a_server_that_ends_leaves_its_calls_unknown(talk: Conversation) -> None:
    talk.client(call(1))
    talk.permits()
    talk.client(call(2))
    asked = talk.told[-1]
    talk.do(talk.relay.server_ended())
    assert decision(talk.answer)["reason"] == "outcome_unknown"
    assert talk.told[-1]["fate"] == "ambiguous"
    talk.permits(asked)
    assert len(talk.to_server) == 1
    assert decision(talk.answer)["decision_id"] == f"p{asked['id']}"


def test_an_answer_that_cannot_be_read_settles_its_call(talk: Conversation) -> None:
    for identity, line in enumerate(
        (b'{"jsonrpc":"2.0","id":0,"result":{', b'{"result":{"a":1,"a":2},"jsonrpc":"2.0","id":1}')
    ):
        talk.client(call(identity))
        talk.permits()
        talk.server(line)
        assert talk.told[-1]["fate"] == "ambiguous"
        assert talk.answer["id"] == identity
        assert decision(talk.answer)["reason"] == "outcome_unknown"


def test_an_answer_that_is_too_long_settles_its_call(talk: Conversation) -> None:
    talk.client(call())
    talk.permits()
    talk.do(talk.relay.too_long_from_server(b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"te' + b"x" * 900))
    assert decision(talk.answer)["reason"] == "outcome_unknown"


def test_an_unreadable_answer_to_a_relayed_request_is_an_error(talk: Conversation) -> None:
    talk.client({"jsonrpc": "2.0", "id": 4, "method": "prompts/list"})
    talk.server(b'{"jsonrpc":"2.0","id":4,"result":{"a":NaN}}')
    assert talk.answer == {
        "jsonrpc": "2.0",
        "id": 4,
        "error": {"code": -32603, "message": "The server's answer could not be read."},
    }


# -- methods


@pytest.mark.parametrize("method", ["x/y", "tools/calls", "sampling/createMessage", "elicitation/create"])
def test_an_unknown_method_of_the_clients_is_asked_about(talk: Conversation, method: str) -> None:
    asked = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {}}
    talk.client(asked)
    assert talk.told[-1] == {**talk.told[-1], "type": "method", "method": method, "direction": "client"}
    talk.answers({"type": "deny", "decision": {}})
    assert (talk.to_server, talk.answer["error"]["code"]) == ([], -32601)
    talk.client(asked)
    talk.permits_method()
    assert json.loads(talk.to_server[-1]) == asked
    talk.server(result())
    assert talk.answer == result()


@pytest.mark.parametrize("method", ["tools/Call", "tools/call ", "tools/call\0", "TOOLS//CALL", "toolscall", "Ping"])
def test_a_method_that_could_be_taken_for_a_known_one_is_refused_whatever_policy_says(
    talk: Conversation, method: str
) -> None:
    talk.client({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}})
    talk.client({"jsonrpc": "2.0", "method": method, "params": {}})
    assert (talk.to_server, talk.told, talk.answer["error"]["code"]) == ([], [], -32600)


def test_an_unknown_method_of_the_servers_is_asked_about(talk: Conversation) -> None:
    asked = {"jsonrpc": "2.0", "id": "s", "method": "tools/call", "params": {}}
    talk.server(asked)
    talk.answers({"type": "deny", "decision": {}})
    assert talk.to_client == []
    assert json.loads(talk.to_server[-1])["error"]["code"] == -32601
    talk.server(asked)
    talk.permits_method()
    assert talk.answer == asked
    talk.client(result("s"))
    assert json.loads(talk.to_server[-1]) == result("s")


def test_unknown_notifications_are_dropped_unless_permitted(talk: Conversation) -> None:
    for send, seen in ((talk.client, talk.to_server), (talk.server, talk.to_client)):
        send({"jsonrpc": "2.0", "method": "notifications/new"})
        talk.answers({"type": "deny", "decision": {}})
        assert seen == []
        send({"jsonrpc": "2.0", "method": "notifications/new"})
        talk.permits_method()
        assert len(seen) == 1


def test_a_call_without_an_id_goes_nowhere(talk: Conversation) -> None:
    for method in ("tools/call", "tools/list"):
        talk.client({"jsonrpc": "2.0", "method": method, "params": {"name": "echo"}})
    assert (talk.to_server, talk.told) == ([], [])
    assert [one["reason"] for one in talk.refused] == ["invalid_message"] * 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{", "invalid_message"),
        (b'{"jsonrpc":"2.0","id":7,"method":"ping","method":"tools/call"}', "invalid_message"),
        (b'{"jsonrpc":"2.0","id":7,"method":"Tools/Call"}', "invalid_message"),
        (
            b'{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{"name":"echo","more":"s3cret"}}',
            "invalid_arguments",
        ),
        (b'[{"jsonrpc":"2.0","id":7,"method":"ping"}]', "invalid_message"),
    ],
)
def test_what_is_refused_for_its_form_is_told_without_its_values_and_answered_once_recorded(
    talk: Conversation, line: bytes, reason: str
) -> None:
    talk.client(line)
    (told,) = talk.refused
    assert (told["reason"], talk.to_server) == (reason, [])
    assert "s3cret" not in told["detail"]
    shown = talk.answer["error"]["data"] if "error" in talk.answer else decision(talk.answer)
    assert shown.keys() == {"decision", "reason", "decision_id", "retry", "sentence"}
    assert (shown["decision"], shown["reason"]) == ("deny", reason)
    assert shown["decision_id"].startswith("decision-")


def test_without_a_decision_point_it_is_refused_all_the_same(talk: Conversation) -> None:
    talk.do(talk.relay.lost())
    talk.client(b"{")
    assert (talk.connects, talk.answer["error"]["data"]["decision_id"]) == (0, None)
    talk.client(call(more=1))
    assert decision(talk.answer)["reason"] == "invalid_arguments"
    assert talk.to_server == []


def test_a_flood_of_it_is_bounded_and_answered() -> None:
    relay, told, answers = Relay("files", lambda: 0, lambda: 0), 0, 0
    for _ in range(1000):
        for thing in relay.from_client(b"{"):
            told += isinstance(thing, ToDecisionPoint)
            answers += isinstance(thing, ToClient)
    assert (told, answers) == (MAX_NOTES, 1000 - MAX_NOTES)


def test_a_method_that_is_not_permitted_says_which_decision_it_was(talk: Conversation) -> None:
    talk.client({"jsonrpc": "2.0", "id": 1, "method": "files/list"})
    talk.answers(deny("unknown_method"))
    assert talk.answer["error"]["code"] == -32601
    data = talk.answer["error"]["data"]
    assert (data["reason"], data["decision"]) == ("unknown_method", "deny")
    assert data["decision_id"].startswith("decision-")


def initialize(talk: Conversation, version: str) -> None:
    info = {"name": "c" * 1000, "version": "1", "icons": []}
    params = {"protocolVersion": version, "clientInfo": info}
    talk.client({"jsonrpc": "2.0", "id": "i", "method": "initialize", "params": params})
    talk.server({"jsonrpc": "2.0", "id": "i", "result": {"protocolVersion": version}})
    talk.to_server.clear()
    talk.to_client.clear()


def test_a_method_of_another_era_is_unknown(talk: Conversation) -> None:
    initialize(talk, "2025-06-18")
    talk.client({"jsonrpc": "2.0", "id": 1, "method": "tasks/list"})
    assert (talk.to_server, talk.told[-1]["type"]) == ([], "method")


def test_a_revision_that_nobody_knows_has_no_known_methods_but_its_calls_are_decided(talk: Conversation) -> None:
    initialize(talk, "2031-01-01")
    talk.client({"jsonrpc": "2.0", "id": 1, "method": "prompts/list"})
    assert talk.told[-1]["type"] == "method"
    talk.client(call(2))
    assert talk.told[-1]["type"] == "ask"


def test_the_clients_name_is_told_once_and_cut(talk: Conversation) -> None:
    initialize(talk, "2025-11-25")
    assert talk.told == [{"type": "client", "client": {"name": "c" * 256, "version": "1"}}]
    meta = {**MODERN, "io.modelcontextprotocol/clientInfo": {"name": "m", "version": "2"}}
    for _ in range(2):
        talk.client({"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}})
    assert talk.told[1:] == [{"type": "client", "client": {"name": "m", "version": "2"}}]
    assert talk.relay.client == {"name": "m", "version": "2"}


# -- the form of a call


@pytest.mark.parametrize(
    "params",
    [
        {"name": 3},
        {"name": ""},
        {"name": "x" * 257},
        {"arguments": []},
        {"arguments": "{}"},
        {"_meta": 1},
        {"arguments": {"a": 1, "A": 2}},
        {"arguments": {"deep": [{"ß": 1, "SS": 2}]}},
        {"extra": 1},
        {"inputResponses": []},
        {"requestState": 4},
        {"task": "now"},
    ],
)
def test_a_call_that_is_not_well_formed_is_denied_unasked(talk: Conversation, params: dict[str, Any]) -> None:
    talk.client(call(**params))
    assert (talk.to_server, talk.told) == ([], [])
    assert decision(talk.answer)["reason"] == "invalid_arguments"


def test_members_equal_but_for_case_are_refused(talk: Conversation) -> None:
    for message in (call(Arguments={}), {**call(), "Method": "ping"}, {**call(), "ID": 2}):
        talk.client(message)
        assert (talk.to_server, talk.told) == ([], [])
        assert talk.answer["error"]["code"] == -32600


def test_null_arguments_are_decided_and_sent_as_none(talk: Conversation) -> None:
    talk.client(call(arguments=None))
    assert talk.told[-1]["arguments"] == {}
    talk.permits()
    assert json.loads(talk.to_server[-1])["params"]["arguments"] == {}


def test_members_of_another_era_are_unknown(talk: Conversation) -> None:
    initialize(talk, "2025-06-18")
    talk.client(call(task={}))
    assert decision(talk.answer)["reason"] == "invalid_arguments"


def test_a_modern_round_trip_is_two_calls(talk: Conversation) -> None:
    talk.client(call(1, _meta=MODERN))
    talk.permits()
    asked = result(1, resultType="input_required", requestState="s")
    talk.server(asked)
    assert talk.told[-1]["fate"] == "done"
    talk.answers({"type": "release"})
    assert talk.answer == asked
    again = call(2, _meta=MODERN, inputResponses={"a": {}}, requestState="s")
    talk.client(again)
    assert talk.told[-1]["type"] == "ask"
    talk.permits()
    assert json.loads(talk.to_server[-1]) == again


def test_a_modern_denial_says_that_it_is_complete(talk: Conversation) -> None:
    talk.client(call(_meta=MODERN))
    talk.answers({"type": "deny", "decision": {}})
    assert talk.answer["result"]["resultType"] == "complete"


# -- batches


def test_batches_are_for_one_revision_alone(talk: Conversation) -> None:
    talk.client(json.dumps([call()]).encode())
    assert talk.answer["error"]["code"] == -32600
    initialize(talk, "2025-06-18")
    talk.client(json.dumps([call()]).encode())
    assert (talk.to_server, talk.answer["error"]["code"]) == ([], -32600)


def test_each_message_of_a_batch_is_treated_by_itself(talk: Conversation) -> None:
    initialize(talk, "2025-03-26")
    ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
    note = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
    talk.client(json.dumps([call(1), ping, note, {"nonsense": 1}, call(3, extra=1), call(1)]).encode())
    assert [json.loads(line) for line in talk.to_server] == [ping, note]
    talk.server({"jsonrpc": "2.0", "id": 2, "result": {}})
    assert talk.to_client == []
    talk.answers({"type": "deny", "decision": {"decision": "deny"}})
    answers = talk.answer
    assert [answer["id"] for answer in answers] == [None, 3, None, 2, 1]


@pytest.mark.parametrize("batch", [[], [{"jsonrpc": "2.0", "method": "ping", "id": n} for n in range(101)]])
def test_a_batch_of_none_or_too_many_is_refused(talk: Conversation, batch: list[object]) -> None:
    initialize(talk, "2025-03-26")
    talk.client(json.dumps(batch).encode())
    assert (talk.to_server, talk.answer["error"]["code"]) == ([], -32600)


def test_a_batch_from_the_server_is_treated_message_by_message(talk: Conversation) -> None:
    talk.client(call())
    talk.permits()
    talk.server(json.dumps([NOTE, result(), result()]).encode())
    assert talk.to_client == [json.dumps(NOTE).encode()]
    talk.answers({"type": "release"})
    assert talk.answer == result()


def test_initialize_may_not_hide_in_a_batch(talk: Conversation) -> None:
    initialize(talk, "2025-03-26")
    talk.client(json.dumps([{"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}]).encode())
    assert (talk.to_server, talk.answer[0]["error"]["code"]) == ([], -32600)


# -- bounds


def test_too_many_open_requests_are_refused(talk: Conversation) -> None:
    for number in range(4097):
        talk.client({"jsonrpc": "2.0", "id": number, "method": "prompts/list"})
    assert len(talk.to_server) == 4096
    assert talk.answer["error"]["code"] == -32600


def test_what_is_held_for_the_decision_point_is_counted(talk: Conversation) -> None:
    talk.client(call())
    held = talk.relay.held
    assert held > 0
    talk.permits()
    assert talk.relay.held == 0
    talk.server(result())
    assert talk.relay.held > 0
    talk.answers({"type": "release"})
    assert talk.relay.held == 0


def test_a_line_that_is_too_long_is_refused_with_its_id(talk: Conversation) -> None:
    talk.do(
        talk.relay.too_long_from_client(
            b'{"jsonrpc":"2.0","id":"big","method":"tools/call","params":{"name":"' + b"x" * 999
        )
    )
    assert (talk.answer["id"], talk.answer["error"]["code"]) == ("big", -32600)


# -- orders


def running(talk: Conversation, identity: object = 1, **params: Any) -> None:
    """A call that the server works on."""
    talk.client(call(identity, **params))
    talk.permits()
    assert json.loads(talk.to_server[-1])["id"] == identity


def reports(talk: Conversation) -> list[str]:
    return [told["fate"] for told in talk.told if told["type"] == "performed"]


@pytest.mark.parametrize("reason", ["revoked", "task_ended", "unheard_of", None])
@pytest.mark.parametrize("meta", [{}, {"_meta": MODERN}], ids=["handshake", "modern"])
def test_an_ended_task_cancels_what_runs_withholds_its_output_and_ends_the_session(
    talk: Conversation, reason: Any, meta: dict[str, Any]
) -> None:
    running(talk, **meta)
    talk.to_server.clear()
    talk.revokes(reason)
    (end,) = talk.ends
    assert end.epoch == 7
    (cancelled,) = map(json.loads, end.cancellations)
    assert (cancelled["method"], cancelled["params"]["requestId"]) == ("notifications/cancelled", 1)
    said = decision(talk.answer)
    assert said["reason"] == (reason if reason == "task_ended" else "revoked")
    assert (said["decision"], said["retry"]) == ("deny", "final")
    assert "may have happened" in said["sentence"]
    assert reports(talk) == ["ambiguous"]
    assert not [told for told in talk.told if told["type"] == "confirmed"]  # not before the server is gone
    shown = len(talk.to_client)
    talk.server(result())
    talk.server(NOTE)
    assert (len(talk.to_client), talk.to_server) == (shown, [])


def test_after_its_task_was_ended_every_call_is_still_put_to_the_decision_point_and_reaches_nobody(
    talk: Conversation,
) -> None:
    talk.revokes()
    talk.client(call(2))
    assert talk.told[-1]["type"] == "ask"
    talk.answers(deny("revoked"))
    assert decision(talk.answer)["reason"] == "revoked"
    talk.client(call(3))
    talk.permits()  # which it must not
    assert decision(talk.answer)["reason"] == "revoked"
    assert talk.to_server == []


@pytest.mark.parametrize("method", ["tools/list", "ping", "resources/read", "initialize"])
def test_after_its_task_was_ended_every_other_request_is_an_error_at_once(talk: Conversation, method: str) -> None:
    talk.revokes()
    talk.client({"jsonrpc": "2.0", "id": 9, "method": method, "params": {}})
    assert talk.answer["error"]["data"]["reason"] == "revoked"
    talk.client({"jsonrpc": "2.0", "method": "notifications/initialized"})
    assert talk.to_server == []


def test_it_opens_no_new_task_by_itself_after_its_own_was_ended(talk: Conversation) -> None:
    talk.revokes()
    talk.client(call(2))
    talk.do(talk.relay.lost())
    assert decision(talk.answer)["reason"] == "revoked"
    talk.client(call(3))
    assert decision(talk.answer)["reason"] == "revoked"
    assert (talk.connects, talk.to_server) == (0, [])


def test_a_request_that_is_no_call_is_told_too(talk: Conversation) -> None:
    talk.client({"jsonrpc": "2.0", "id": 5, "method": "resources/read", "params": {}})
    talk.revokes()
    assert talk.answer["error"]["data"]["reason"] == "revoked"
    assert [json.loads(line)["params"]["requestId"] for line in talk.ends[0].cancellations] == [5]


def test_the_first_request_of_a_session_is_not_cancelled() -> None:
    talk = Conversation()
    talk.client({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}})
    talk.revokes()
    assert talk.ends[0].cancellations == ()
    assert talk.answer["error"]["data"]["reason"] == "revoked"


def test_a_call_that_waits_for_the_tools_list_is_told(talk: Conversation) -> None:
    talk.wait(MAX_AGE_MS)
    talk.client(call(2))
    assert json.loads(talk.to_server[-1])["method"] == "tools/list"
    talk.revokes()
    assert decision(talk.answer)["reason"] == "revoked"


@pytest.mark.parametrize("reason", ["revoked", "suspended"])
def test_a_permit_from_before_the_order_is_not_begun(talk: Conversation, reason: str) -> None:
    talk.client(call())
    asked = talk.told[-1]
    talk.revokes(reason)
    talk.permits(asked)
    assert talk.to_server == []
    assert reports(talk) == ["not_started"]
    assert decision(talk.answer)["reason"] == reason


def test_a_method_permitted_before_the_order_is_not_passed_on(talk: Conversation) -> None:
    talk.client({"jsonrpc": "2.0", "id": 1, "method": "x/y"})
    asked = talk.told[-1]
    talk.revokes("suspended")
    talk.permits_method(asked)
    assert talk.to_server == []
    assert talk.answer["error"]["data"]["reason"] == "suspended"


def test_a_suspension_is_confirmed_at_once_and_leaves_alone_what_runs(talk: Conversation) -> None:
    running(talk)
    talk.revokes("suspended", 3)
    assert talk.told[-1] == {"type": "confirmed", "epoch": 3}
    talk.server(result())
    talk.answers({"type": "release"})
    assert talk.answer == result()
    talk.client(call(2))  # and the decision point says when it is over
    talk.permits()
    assert json.loads(talk.to_server[-1])["id"] == 2
    assert talk.ends == []


def test_a_release_that_comes_with_the_end_is_not_taken(talk: Conversation) -> None:
    running(talk)
    talk.server(result())
    told = talk.told[-1]
    talk.revokes()
    talk.answers({"type": "release"}, told)
    assert decision(talk.answer)["reason"] == "revoked"
    assert "may have happened" in decision(talk.answer)["sentence"]


def test_a_second_end_is_confirmed_too(talk: Conversation) -> None:
    talk.revokes(epoch=1)
    talk.revokes("suspended", epoch=2)
    assert [end.epoch for end in talk.ends] == [1, 2]
    assert talk.relay.ended == "revoked"


@pytest.mark.parametrize("changes", [{"start_by": 0}, {"start_by": None}, {"start_by": True}, {"start_by": "soon"}])
def test_a_permit_whose_lease_ran_out_is_not_begun(talk: Conversation, changes: dict[str, Any]) -> None:
    talk.client(call())
    talk.permits(**changes)
    assert talk.to_server == []
    assert reports(talk) == ["not_started"]
    assert decision(talk.answer)["reason"] == "unavailable"


def test_a_decision_point_that_missed_its_heartbeats_is_not_waited_for(talk: Conversation) -> None:
    talk.relay.welcomed(1000)
    talk.client(call(1))
    asked = talk.told[-1]
    talk.wait(3001)
    assert decision(talk.answer)["reason"] == "unavailable"  # what waited
    talk.client(call(2))
    assert decision(talk.answer)["reason"] == "unavailable"  # what comes
    assert talk.told[-1]["type"] == "cancel"
    talk.permits(asked)  # it goes on, and so does everything else
    assert reports(talk) == ["not_started"]
    talk.client(call(3))
    talk.permits()
    assert json.loads(talk.to_server[-1])["id"] == 3


def test_a_beat_is_a_word(talk: Conversation) -> None:
    talk.relay.welcomed(1000)
    for _ in range(5):
        talk.wait(1000)
        talk.do(talk.relay.from_decision_point({"type": "beat"}))
    talk.client(call())
    assert talk.told[-1]["type"] == "ask"


def test_what_ran_while_the_decision_point_was_silent_is_still_reported(talk: Conversation) -> None:
    talk.relay.welcomed(1000)
    running(talk)
    talk.wait(10_000)
    talk.server(result())
    assert reports(talk) == ["done"]
