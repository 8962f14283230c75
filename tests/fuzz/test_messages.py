"""Whatever a client or a server sends: nothing is raised, and no unpermitted call reaches the server."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from forestall import frame
from forestall.core.errors import InvalidInput
from forestall.pep.mcp.message import is_batch, read_client, read_server, salvage_id, split_batch
from forestall.pep.mcp.relay import Relay
from forestall.pep.mcp.thing import Thing, ToClient, ToDecisionPoint, ToServer
from forestall.pep.mcp.tools import Definitions

ids = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.sampled_from(["a", "b", "forestall-0"])
)
methods = st.sampled_from(
    [
        *("tools/call", "tools/list", "Tools/Call", "ping", "initialize", "notifications/cancelled", "x", ""),
        *("notifications/tools/list_changed", "notifications/initialized", "resources/read", "server/discover"),
        "sampling/createMessage",
    ]
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5))
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "A", "id", "name"]), inner, max_size=3)
    ),
    max_leaves=6,
)
params = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["t", "u", "", 3]),
        "arguments": values,
        "_meta": st.sampled_from([{}, {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}, 1]),
        "requestId": ids,
        "cursor": ids,
        "protocolVersion": st.sampled_from(["2025-03-26", "2025-11-25", "2030-01-01", 1]),
        "clientInfo": values,
        "extra": values,
    },
)
definitions = st.fixed_dictionaries({"name": st.sampled_from(["t", "u"])})
results = st.one_of(
    values,
    st.fixed_dictionaries(
        {},
        optional={
            "tools": st.lists(st.one_of(values, definitions), max_size=3),
            "nextCursor": ids,
            "isError": values,
            "protocolVersion": st.sampled_from(["2025-03-26", "2025-11-25", 1]),
        },
    ),
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "jsonrpc": st.sampled_from(["2.0", "2.0", "2.0", "1.0"]),
        "id": ids,
        "method": st.one_of(methods, values),
        "Method": methods,
        "params": st.one_of(params, values),
        "result": results,
        "error": values,
    },
)
texts = st.one_of(
    messages.map(json.dumps),
    st.lists(messages, max_size=3).map(json.dumps),
    values.map(json.dumps),
    st.text(max_size=40),
)
lines = st.one_of(texts.map(lambda text: text.encode("utf-8", "surrogatepass")), st.binary(max_size=60)).map(
    lambda line: line.replace(b"\n", b"")
)
kinds = st.sampled_from(["permit", "deny", "hold", "tools", "release", "withhold", "nonsense"])
members = {"permit": values, "decision": values, "tools": values, "sentence": values}
answers = st.one_of(st.fixed_dictionaries({"type": kinds}, optional=members), st.just("permit"))
events = st.one_of(
    st.tuples(st.sampled_from(["client", "server"]), lines),
    st.tuples(st.just("answer"), answers),
    st.tuples(st.just("time"), st.sampled_from([1, 5_000, 61_000])),
    st.tuples(st.sampled_from(["lost", "connected", "not_connected", "ended", "long"]), st.none()),
)


@given(lines)
def test_reading_a_line_refuses_or_returns(line: bytes) -> None:
    salvage_id(line)
    for read in (read_client, read_server):
        try:
            message = read(line)
        except InvalidInput:
            continue
        assert message.line == line
    if is_batch(line):
        try:
            elements = split_batch(line, 10_000)
        except InvalidInput:
            return
        assert [json.loads(element) for element in elements] == json.loads(line)


class Judge:
    """Answers what the relay asks, and watches what it does with the answers."""

    def __init__(self) -> None:
        self.now = 0
        definitions = Definitions("s")
        definitions.replace([{"name": "t"}], 0, 0)
        self.relay = Relay("s", lambda: self.now, lambda: self.now, definitions)
        self.open: list[dict[str, Any]] = []
        self.permitted: list[tuple[str, Any]] = []

    def watch(self, things: list[Thing]) -> None:
        for thing in things:
            match thing:
                case ToDecisionPoint(data):
                    told = frame.decode(data[frame.HEAD :])
                    if told["type"] in {"ask", "method", "tools", "performed"}:
                        self.open.append(told)
                case ToServer(line):
                    self.sent(json.loads(line))
                    assert b"\n" not in line
                case ToClient(line):
                    assert json.loads(line)
                    assert b"\n" not in line

    def sent(self, message: dict[str, Any]) -> None:
        if message.get("method") == "tools/call":
            wanted = ("s/" + message["params"]["name"], message["params"].get("arguments", {}))
            assert wanted in self.permitted
            self.permitted.remove(wanted)

    def answer(self, answer: Any) -> None:
        if not self.open:
            return
        asked = self.open.pop(0)
        if answer == "permit":
            if asked["type"] != "ask":
                return
            answer = self.permit(asked)
        self.watch(self.relay.from_decision_point({**answer, "id": asked["id"]}))

    def permit(self, asked: dict[str, Any]) -> dict[str, Any]:
        from forestall.core.canonical import digest

        self.permitted.append((asked["tool"], asked["arguments"]))
        granted = {"tool": asked["tool"], "pin": asked["pin"], "digest": digest(asked["arguments"])}
        return {
            "type": "permit",
            "permit": {
                **granted,
                "id": f"p{asked['id']}",
                "expires_at": self.now + 5_000,
                "start_by": self.now + 1_000,
            },
        }


@settings(max_examples=400, deadline=None)
@given(st.lists(events, max_size=25))
@example(
    [("client", json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t"}}).encode())] * 2
)
def test_no_events_in_any_order_send_an_unpermitted_call(events: list[tuple[str, Any]]) -> None:
    judge = Judge()
    relay = judge.relay
    for kind, what in events:
        match kind:
            case "client":
                judge.watch(relay.from_client(what))
            case "server":
                judge.watch(relay.from_server(what))
            case "answer":
                judge.answer(what)
            case "time":
                judge.now += what
                judge.watch(relay.tick())
            case "lost":
                judge.open.clear()
                judge.watch(relay.lost())
            case "connected":
                judge.watch(relay.connected())
            case "not_connected":
                judge.watch(relay.not_connected())
            case "ended":
                judge.watch(relay.server_ended())
            case "long":
                judge.watch(relay.too_long_from_client(b'{"id":1,') + relay.too_long_from_server(b'{"id":1,"result":'))
    assert relay.held >= 0
