"""What tools a server has: a small MCP client that starts a server, or connects to one, lists its tools, and ends it.

It speaks both eras: the handshake of up to 2025-11-25 first, and where a server refuses that, 2026-07-28.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from forestall.catalogue.read import MAX_DEPTH, by_name
from forestall.catalogue.statement import Definition
from forestall.core.canonical import parse
from forestall.core.errors import InvalidInput, SetupError, Unavailable
from forestall.core.pin import as_doubles
from forestall.setup.far import Address, Far, Unanswered
from forestall.setup.process import MAX_LINE, Command, Process

HANDSHAKE = "2025-11-25"
STATELESS = "2026-07-28"

REMOTE_FIRST_S = 30.0
"""Until a remote server's first answer: nothing is downloaded for it."""

MAX_PAGES = 200
MAX_TOOLS = 5000
"""Far beyond any server seen; a bound, so that a list that never ends does."""

MAX_ROUNDS = 5
"""Lists taken of a server that says each time that its list has changed."""

_CLIENT = {"name": "forestall-init", "version": "1"}
_CAPABILITIES: dict[str, Any] = {
    "roots": {"listChanged": True},
    "sampling": {"context": {}, "tools": {}},
    "elicitation": {"form": {}, "url": {}},
    "tasks": {
        "list": {},
        "cancel": {},
        "requests": {"sampling": {"createMessage": {}}, "elicitation": {"create": {}}},
    },
}
"""All there are: some servers show certain tools only to a client that has them, and those need review too."""

_META = "io.modelcontextprotocol/"
_METHOD_NOT_FOUND = -32601


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds."""

    first: float = 90.0
    """Until the first answer: a launcher may download the server first."""
    answer: float = 20.0
    settle: float = 0.25
    """After the list, for a server that says at once that the list has changed."""


@dataclass(frozen=True, slots=True)
class Listing:
    """What a server said of itself and of its tools."""

    about: str
    """Name and version as the server gives them; its word, no more."""
    protocol: str
    tools: Mapping[str, Definition]


class WantsCredential(Unavailable):
    """A remote server answers nobody without one."""


class _Refused(Exception):
    """The server answered with an error."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error.get('message', 'no message')!s:.200}")


def list_tools(command: Command, limits: Limits | None = None) -> Listing:
    """Start the server, list all its tools, end it.

    Raises:
        Unavailable: it does not start, does not answer in time, or sends what is not MCP; says which.
    """
    with Process(command) as process:
        return _listing(process, limits or Limits())


def list_remote(address: Address, limits: Limits | None = None) -> Listing:
    """Connect to a server, list all its tools, end the session.

    Raises:
        WantsCredential: it wants one that its entry does not have.
        Unavailable: it cannot be reached, refuses, does not answer in time, or sends what is not MCP; says which, and
            nothing of what its headers hold.
    """
    from forestall.pep.mcp.remote import WANTS_CREDENTIAL  # HTTP is not light

    with Far(address) as far:
        try:
            return _listing(far, limits or Limits(first=REMOTE_FIRST_S))
        except Unavailable as error:
            kind = WantsCredential if str(error).endswith(WANTS_CREDENTIAL) else Unavailable
            raise kind(address.without_secrets(str(error))) from None


def _listing(channel: Channel, limits: Limits) -> Listing:
    try:
        return _Conversation(channel, limits).listing()
    except _Refused as refusal:
        raise Unavailable(f"the server refuses to list its tools: {str(refusal)!a}") from None
    except SetupError as error:
        raise Unavailable(f"the server's list of tools cannot be used: {error}") from None


class Channel(Protocol):
    """Lines to a server, and from it."""

    def write(self, line: bytes) -> None: ...

    def read(self, deadline: float) -> bytes | None:
        """None where the deadline, in `time.monotonic` seconds, came first. Raises Unanswered, Unavailable."""
        ...


class _Conversation:
    def __init__(self, channel: Channel, limits: Limits) -> None:
        self._channel = channel
        self._limits = limits
        self._next_id = 1
        self._changed = False
        self._stateless = False

    def listing(self) -> Listing:
        about, protocol = self._open()
        for _ in range(MAX_ROUNDS):
            tools = self._tools()
            if not self._settles_differently():
                return Listing(about, protocol, tools)
        raise Unavailable("the server's list of tools keeps changing")

    def _open(self) -> tuple[str, str]:
        hello = {"protocolVersion": HANDSHAKE, "capabilities": _CAPABILITIES, "clientInfo": _CLIENT}
        try:
            answer = self._ask("initialize", hello, self._limits.first)
        except _Refused:
            self._stateless = True
            answer = self._ask("server/discover", {}, self._limits.answer)
            return _about(answer.get("_meta", {}).get(f"{_META}serverInfo")), STATELESS
        self._send({"method": "notifications/initialized"})
        return _about(answer.get("serverInfo")), f"{answer.get('protocolVersion')!s:.20}"

    def _tools(self) -> dict[str, Definition]:
        self._changed = False
        found: list[Any] = []
        cursor: dict[str, Any] = {}
        for _ in range(MAX_PAGES):
            page = self._ask("tools/list", cursor, self._limits.answer)
            tools = page.get("tools")
            found += tools if isinstance(tools, list) else [tools]
            if len(found) > MAX_TOOLS:
                break
            if page.get("nextCursor") is None:
                return by_name(found)
            cursor = {"cursor": page["nextCursor"]}
        raise Unavailable(f"the server's list of tools does not end: {len(found)} so far")

    def _settles_differently(self) -> bool:
        """Does the server say, right after the list, that it has changed?"""
        deadline = time.monotonic() + self._limits.settle
        while not self._changed and (line := self._read(deadline)) is not None:
            self._hear(_message(line))
        return self._changed

    def _ask(self, method: str, params: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """The result of one request. Answers meanwhile what the server asks.

        Raises:
            _Refused: the server answered with an error.
            Unavailable: it did not answer, or not with an object.
        """
        number, self._next_id = self._next_id, self._next_id + 1
        self._send({"id": number, "method": method, "params": {**params, **self._meta()}})
        deadline = time.monotonic() + seconds
        while (line := self._read(deadline, number)) is not None:
            message = _message(line)
            if message.get("id") != number or "method" in message:
                self._hear(message)
            elif isinstance(error := message.get("error"), dict):
                raise _Refused(error)
            elif isinstance(result := message.get("result"), dict):
                return result
            else:
                raise Unavailable(f"the server's answer to {method} has no result")
        raise Unavailable(f"the server did not answer {method} within {seconds:g} s")

    def _read(self, deadline: float, number: int = 0) -> bytes | None:
        """The next line, for whoever waits for the answer to the request of this number."""
        while True:
            try:
                return self._channel.read(deadline)
            except Unanswered as over:
                if over.number == number:
                    raise Unavailable(str(over)) from None

    def _meta(self) -> dict[str, Any]:
        """What every request of the stateless era carries (2026-07-28, `_meta`)."""
        if not self._stateless:
            return {}
        values = {"protocolVersion": STATELESS, "clientCapabilities": _CAPABILITIES, "clientInfo": _CLIENT}
        return {"_meta": {f"{_META}{name}": value for name, value in values.items()}}

    def _send(self, message: Mapping[str, Any]) -> None:
        self._channel.write(json.dumps({"jsonrpc": "2.0", **message}).encode())

    def _hear(self, message: Mapping[str, Any]) -> None:
        """A notification, or a request of the server's: it gets an answer, so that it does not wait for one."""
        method = message.get("method")
        self._changed |= method == "notifications/tools/list_changed"
        if method is None or message.get("id") is None:
            return
        known: dict[str, Any] = {"ping": {}, "roots/list": {"roots": []}}
        if method in known:
            self._send({"id": message["id"], "result": known[method]})
        else:
            error = {"code": _METHOD_NOT_FOUND, "message": "Only the tools are being listed."}
            self._send({"id": message["id"], "error": error})


def _message(line: bytes) -> dict[str, Any]:
    try:
        message = as_doubles(parse(line, max_bytes=MAX_LINE, max_depth=MAX_DEPTH, exact=False))
    except InvalidInput as error:
        raise Unavailable(f"the server sent what cannot be read: {error}") from None
    if not isinstance(message, dict):
        raise Unavailable("the server sent what is not a message of MCP")
    return message


def _about(info: object) -> str:
    """`name version`, as far as it prints."""
    if not isinstance(info, dict):
        return ""
    words = f"{info.get('name', '')} {info.get('version', '')}".strip()
    return "".join(c for c in words if c.isprintable())[:100]
