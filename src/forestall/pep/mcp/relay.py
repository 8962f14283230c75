"""One MCP session between a client and a server, as a state machine without I/O: what came in, what to do about it.

A line goes to the server in four places only: relayed as it came, because the closed table says so (`_relay`); handed
on or forwarded by a conversation, which for a tool call is after its permit; as a question of the gateway's own; and
as its refusal of a question of the server's. Whatever is not understood goes nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from forestall.core.errors import InvalidInput
from forestall.core.reason import Reason
from forestall.pep.mcp import denial, methods
from forestall.pep.mcp.batch import Batch
from forestall.pep.mcp.call import govern, read_call
from forestall.pep.mcp.message import (
    MAX_FROM_CLIENT,
    MAX_FROM_SERVER,
    Id,
    Kind,
    Message,
    NotJson,
    is_batch,
    looks_like_json,
    read_client,
    read_server,
    salvage_id,
    split_batch,
)
from forestall.pep.mcp.methods import Treatment
from forestall.pep.mcp.stage import MAX_OPEN, Open, Stage
from forestall.pep.mcp.talks import drop, refuse, refuse_call, show_tools, unknown_from_client, unknown_from_server
from forestall.pep.mcp.thing import Thing
from forestall.pep.mcp.tools import Definitions
from forestall.pep.mcp.want import WITHHELD, Leaked, ServerGone

CANCELLED_GRACE_MS = 5_000
"""How long a cancelled call is waited for before its outcome counts as unknown."""

LIST_CHANGED = "notifications/tools/list_changed"

MAX_NAME = 256
"""Characters of what a client calls itself."""


class Relay(Stage):
    """The session. Every method that says what happened returns what to do, in order.

    Args:
        server: the server's name, the first part of its tools' ids.
        wall: milliseconds since the epoch, to compare with a permit's expiry.
        steady: milliseconds of a clock that never steps.
        definitions: what is known of the server's tools; nothing, unless given.
        remote: it is reached over HTTP, and a message to it has headers.
    """

    def __init__(
        self,
        server: str,
        wall: Callable[[], int],
        steady: Callable[[], int],
        definitions: Definitions | None = None,
        *,
        remote: bool = False,
    ) -> None:
        super().__init__(server, wall, steady, definitions, remote=remote)
        self._eras: frozenset[str] = frozenset()
        self.client: dict[str, str] | None = None
        """What the client says it is called, once it has."""

    # -- what happens

    def from_client(self, line: bytes) -> list[Thing]:
        """A line came from the client."""
        if is_batch(line):
            self._client_batch(line)
        elif line.strip():
            self._client_line(line, None)
        return self._take()

    def from_server(self, line: bytes) -> list[Thing]:
        """A line came from the server. What is not JSON is taken for its log, and dropped."""
        if self.ended is not None:
            return []
        if not looks_like_json(line):
            if line.strip():
                self._say_once("noise", "The server wrote what is no message to its output; such lines are dropped.")
            return self._take()
        try:
            elements = split_batch(line, MAX_FROM_SERVER) if is_batch(line) else [line]
        except InvalidInput as wrong:
            self._say_once("server", f"A batch from the server was dropped: {wrong}")
            return self._take()
        for element in elements:
            self._server_line(element)
        return self._take()

    def too_long_from_client(self, ends: bytes) -> list[Thing]:
        """A line beyond the limit was read and thrown away; `ends` is its beginning and its end."""
        sentence = f"A message may have {MAX_FROM_CLIENT} bytes; send less at a time."
        self._refuse(salvage_id(ends), denial.INVALID_REQUEST, sentence, None)
        return self._take()

    def too_long_from_server(self, ends: bytes) -> list[Thing]:
        if self.ended is None:
            self._unreadable(ends, f"it is longer than {MAX_FROM_SERVER} bytes.")
        return self._take()

    # -- from the client

    def _client_batch(self, line: bytes) -> None:
        try:
            elements = self._require_batch(line)
        except InvalidInput as wrong:
            self._refuse(None, denial.INVALID_REQUEST, str(wrong), None)
            return
        batch = Batch()
        for element in elements:
            self._client_line(element, batch)
        self._settle(batch, None)

    def _require_batch(self, line: bytes) -> list[bytes]:
        if methods.BATCHES not in self._eras:
            raise InvalidInput(f"Batches are for protocol revision {methods.BATCHES} alone.")
        return split_batch(line, MAX_FROM_CLIENT)

    def _client_line(self, line: bytes, batch: Batch | None) -> None:
        try:
            message = read_client(line)
            methods.require_spelled(message.method)
            if message.kind is Kind.REQUEST:
                self._require_room(message, batch)
        except InvalidInput as wrong:
            code = denial.PARSE_ERROR if isinstance(wrong, NotJson) else denial.INVALID_REQUEST
            self._refuse(salvage_id(line), code, str(wrong), batch)
            return
        self._learn_client(message)
        if message.kind is Kind.ANSWER:
            self._client_answer(message)
        elif message.kind is Kind.REQUEST:
            self._client_request(message, batch)
        else:
            self._client_notification(message)

    def _require_room(self, message: Message, batch: Batch | None) -> None:
        if len(self._open) >= MAX_OPEN:
            raise InvalidInput(f"{MAX_OPEN} requests wait for an answer already.")
        if batch is not None and message.method == "initialize":
            raise InvalidInput("initialize may not be part of a batch.")

    def _refuse(self, identity: Id | None, code: int, sentence: str, batch: Batch | None) -> None:
        """An error for a message that was not understood; not under an id that waits for another answer."""
        if batch is not None:
            batch.expect()
        identity = None if identity in self._open else identity
        if not self._note(refuse(identity, code, sentence), batch):
            self._answer(denial.error(identity, code, sentence, denial.own_decision(Reason.INVALID_MESSAGE)), batch)

    def _client_answer(self, message: Message) -> None:
        if message.id is not None and message.id not in self._asked_by_server:
            self._say_once("client-answer", "The client answered a question that was not asked; it was dropped.")
            return
        if message.id is not None:
            del self._asked_by_server[message.id]
        self._to_server(message.line)

    def _client_request(self, message: Message, batch: Batch | None) -> None:
        assert message.id is not None
        if message.id in self._open or message.id in self._owed:
            self._say_once("client-id", "The client used the id of a request that still waits; it was refused.")
            self._refuse(message.id, denial.INVALID_REQUEST, "This id waits for an answer already.", batch)
            return
        if batch is not None:
            batch.expect()
        treatment = methods.treatment(methods.CLIENT, message.method, self._eras)
        if self.ended is not None and treatment in {Treatment.LISTED, Treatment.RELAYED}:
            self._answer(self._over(message.id, self.ended), batch)
            return
        item = Open(message.id, message.method, methods.PROTOCOL_VERSION in _meta(message), batch)
        self._open[message.id] = item
        match treatment:
            case Treatment.DECIDED:
                self._client_call(item, message)
            case Treatment.LISTED:
                self._start(item, show_tools(message, self._definitions, self._steady, modern=item.modern))
            case Treatment.RELAYED:
                self._relay(item, message)
            case Treatment.UNKNOWN:
                self._start(item, unknown_from_client(message))

    def _client_call(self, item: Open, message: Message) -> None:
        assert message.id is not None
        try:
            members = methods.call_members(self._eras)
            item.call = read_call(message, self._server, members, modern=item.modern)
        except InvalidInput as wrong:
            self._start(item, refuse_call(message, str(wrong), self._definitions, modern=item.modern))
            return
        self._hold(item, 2 * len(message.line))  # as it was read, and as it will be written
        references = () if self._remote else self.references.get(item.call.name, ())
        talk = govern(
            item.call,
            self._definitions,
            self._burned.take,
            self._wall,
            remote=self._remote,
            sign=self.sign,
            references=references,
        )
        self._start(item, talk)

    def _client_notification(self, message: Message) -> None:
        treatment = methods.treatment(methods.CLIENT, message.method, self._eras)
        if treatment is Treatment.UNKNOWN:
            self._start(Open(None, message.method), unknown_from_client(message))
        elif treatment is not Treatment.RELAYED:
            sentence = f"A {message.method} without an id was dropped; it could not be answered."
            self._say_once("client-call", sentence)
            self._note(drop(sentence), None)
        elif message.method != "notifications/cancelled" or self._cancel(message):
            self._to_server(message.line)

    def _cancel(self, message: Message) -> bool:
        """The client wants this no more. Does the server know of it?"""
        identity = message.params.get("requestId")
        item = self._open.get(identity) if isinstance(identity, int | str) else None
        if item is None:
            return True  # too late, as it would be without us
        item.cancelled = True
        if item.call is not None:
            item.call.cancelled = True
        if item.at_server:
            item.due = self._steady() + CANCELLED_GRACE_MS
            return True
        for asked, waiter in self._waiting.items():
            if waiter.open is item:
                self._tell({"type": "cancel", "id": asked})
                break
        return False

    # -- from the server

    def _server_line(self, line: bytes) -> None:
        try:
            message = read_server(line)
        except InvalidInput as wrong:
            self._unreadable(line, str(wrong))
            return
        if self.scrubber and self.scrubber.finds_in(message.value):
            self._leak(message)
        elif message.kind is Kind.ANSWER:
            self._server_answer(message)
        elif message.kind is Kind.REQUEST:
            self._server_request(message)
        else:
            self._server_notification(message)

    def no_answer(self, request: Id, why: str) -> list[Thing]:
        """The server will not answer this request any more, if it has not."""
        item = self._open.get(request)
        if item is not None and item.at_server:
            self._interrupt(item, ServerGone(why))
        return self._take()

    def leaked_elsewhere(self, where: str) -> list[Thing]:
        """A credential came back in what is no message of the protocol, and was withheld."""
        self._say_once("leak", WITHHELD)
        self._tell({"type": "leaked", "where": where})
        return self._take()

    def _leak(self, message: Message) -> None:
        """A credential came back. Nobody sees it, and the decision point is told: of a call, with its outcome."""
        self._say_once("leak", WITHHELD)
        item = self._open.get(message.id) if message.kind is Kind.ANSWER and message.id is not None else None
        if item is not None and item.at_server:
            item.at_server, item.due = False, None
            if item.call is None:
                self._tell({"type": "leaked", "where": f"the answer to {item.method}"})
            if item.talk is not None:
                self._step(item, Leaked(message))
            else:
                self._finish(item, self._over(item.id, Reason.LEAKED) if item.id is not None else None)
            return
        if message.method == LIST_CHANGED:
            self._definitions.changed()
        row = message.method if message.method in methods.SERVER else "a message"
        self._tell({"type": "leaked", "where": f"{row} of the server's"})
        if message.kind is Kind.REQUEST:
            self._to_server(denial.error(message.id, denial.INTERNAL_ERROR, WITHHELD))

    def _server_answer(self, message: Message) -> None:
        item = self._open.get(message.id) if message.id is not None else None
        if item is None or not item.at_server:
            if message.id is not None:
                self._owed.pop(message.id, None)
            self._say_once("answer", "The server answered a request that does not wait for an answer; it was dropped.")
            return
        item.at_server = False
        item.due = None
        if item.talk is not None:
            self._hold(item, len(message.line))
            self._step(item, message)
            return
        if item.method == "initialize":
            self._learn_era(message)
        self._finish(item, message.line)

    def _server_request(self, message: Message) -> None:
        assert message.id is not None
        if message.id in self._asked_by_server:
            self._say_once("server-id", "The server used the id of a question that still waits; it was dropped.")
        elif methods.treatment(methods.SERVER, message.method, self._eras) is Treatment.RELAYED:
            self._hand_to_client(message)
        else:
            self._start(Open(None, message.method), unknown_from_server(message))

    def _server_notification(self, message: Message) -> None:
        if message.method == LIST_CHANGED:
            self._definitions.changed()
        if methods.treatment(methods.SERVER, message.method, self._eras) is Treatment.RELAYED:
            self._hand_to_client(message)
        else:
            self._start(Open(None, message.method), unknown_from_server(message))

    def _unreadable(self, line: bytes, why: str) -> None:
        """A line of the server's that cannot be forwarded; whoever waited for it is told."""
        self._say_once("unreadable", f"A message from the server was dropped: {why}")
        identity = None if b'"method"' in line[:512] else salvage_id(line)
        item = self._open.get(identity) if identity is not None else None
        if item is not None and item.at_server:
            self._interrupt(item, ServerGone("The server's answer could not be read"))

    # -- what is known of the session

    def _learn_client(self, message: Message) -> None:
        meta = _meta(message)
        if isinstance(version := meta.get(methods.PROTOCOL_VERSION), str):
            self._eras |= {methods.known(version)}
        info = message.params.get("clientInfo") if message.method == "initialize" else meta.get(methods.CLIENT_INFO)
        if not isinstance(info, dict):
            return
        client = {name: info[name][:MAX_NAME] for name in ("name", "version") if isinstance(info.get(name), str)}
        if client and client != self.client:
            self.client = client
            self._tell({"type": "client", "client": client})

    def _learn_era(self, message: Message) -> None:
        version = message.value.get("result", {}).get("protocolVersion")
        if isinstance(version, str):
            self._eras |= {methods.known(version)}


def _meta(message: Message) -> Mapping[str, Any]:
    meta = message.params.get("_meta")
    return meta if isinstance(meta, dict) else {}
