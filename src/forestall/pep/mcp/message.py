"""One line of MCP's stdio transport, read strictly: a request, a notification, an answer, or nothing at all.

A line that two readers could read differently is refused, so that what was looked at is what the other side will see:
duplicate members, envelope members equal to a known one but for case (Go's reader does not care about case), a line
break that only some readers take for one (Python's text mode takes a bare carriage return), a message that is a
request and an answer at once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from forestall.core.canonical import parse
from forestall.core.compact import encoder
from forestall.core.errors import InvalidInput

MAX_FROM_CLIENT = 4 * 1024 * 1024
"""Bytes of one line. Arguments hold files at most; a model's whole context is smaller."""

MAX_FROM_SERVER = 16 * 1024 * 1024
"""Bytes of one line. Results hold base64 images and files."""

MAX_METHOD = 128
"""Characters of a method's name. The longest of the protocol's has 40."""

MAX_BATCH = 100
"""Messages in one batch (MCP 2025-03-26 alone has them)."""

Id = int | str
NOTHING: Mapping[str, Any] = {}

_ENVELOPE = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_ID = rb'"id"\s*:\s*(-?\d{1,15}|"[^"\\\x00-\x1f]{1,128}")\s*'
_HEAD = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID + rb"[,}]")
_TAIL = re.compile(_ID + rb'(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z')
_SALVAGE = 512
_compact = encoder()


class NotJson(InvalidInput):
    """The line holds no value, or not the same to every reader (JSON-RPC 2.0 section 5.1, -32700)."""


class Kind(StrEnum):
    REQUEST = "request"
    NOTIFICATION = "notification"
    ANSWER = "answer"


@dataclass(frozen=True, slots=True)
class Message:
    """A line that was understood."""

    kind: Kind
    line: bytes
    """As it came, without its line break."""
    value: Mapping[str, Any]
    id: Id | None
    """None in a notification, and in an error answer to nothing in particular."""
    method: str
    """Empty in an answer."""
    params: Mapping[str, Any]


def read_client(line: bytes) -> Message:
    """A message from the client. Every number must be exact, since it may be decided on.

    Raises:
        InvalidInput: with the sentence that the client is told.
    """
    return _classify(line, _value(line, MAX_FROM_CLIENT, exact=True))


def read_server(line: bytes) -> Message:
    """A message from the server.

    Raises:
        InvalidInput: it is not forwarded.
    """
    return _classify(line, _value(line, MAX_FROM_SERVER, exact=False))


def require_one_case(value: Any) -> None:
    """Refuse members equal but for case, however deep.

    Raises:
        InvalidInput: there are such members.
    """
    if type(value) is dict:
        _require_one_case_here(value)
    elif type(value) is not list:
        return
    for member in value.values() if type(value) is dict else value:
        if type(member) is dict or type(member) is list:
            require_one_case(member)


def is_batch(line: bytes) -> bool:
    return line.lstrip()[:1] == b"["


def split_batch(line: bytes, max_bytes: int) -> list[bytes]:
    """The messages of a batch, each as it stood in the line.

    Raises:
        InvalidInput: not a JSON array of 1 to `MAX_BATCH` objects, or not the same to every reader.
    """
    whole = _value(line, max_bytes, exact=False)
    if not whole or len(whole) > MAX_BATCH:
        raise InvalidInput(f"A batch holds 1 to {MAX_BATCH} messages; this one holds {len(whole)}.")
    return [element.encode() for element in _elements(line.decode().strip())]


def salvage_id(line: bytes) -> Id | None:
    """The id at either end of a refused line, so that whoever waits for it can be told. Never used to forward."""
    found = _HEAD.match(line[:_SALVAGE]) or _TAIL.search(line[-_SALVAGE:])
    if found is None:
        return None
    try:
        value: Id = json.loads(found[1])
    except ValueError:
        return None
    return value


def looks_like_json(line: bytes) -> bool:
    """A server that writes its log to standard output writes something else."""
    return line.lstrip()[:1] in (b"{", b"[")


def encode(value: Mapping[str, Any]) -> bytes:
    """A message of ours, or one re-serialised from what was decided: compact, members in the order they had."""
    return _compact(value).encode()


def _value(line: bytes, max_bytes: int, *, exact: bool) -> Any:
    if b"\r" in line.removesuffix(b"\r") or b"\n" in line:
        raise NotJson("The message holds a line break, which some readers take for its end.")
    try:
        return parse(line, max_bytes=max_bytes, exact=exact)
    except InvalidInput as wrong:
        raise NotJson(str(wrong)) from None


def _elements(text: str) -> Iterator[str]:
    """The source text of each element of a JSON array that was parsed before."""
    decoder, at = json.JSONDecoder(), 1
    while True:
        while text[at] in " \t\r\n,":
            at += 1
        if text[at] == "]":
            return
        _, end = decoder.raw_decode(text, at)
        yield text[at:end]
        at = end


def _classify(line: bytes, value: Any) -> Message:
    if not isinstance(value, dict):
        raise InvalidInput("The message is not a JSON object.")
    if not value.keys() <= _ENVELOPE:
        _require_known_case(value)
    if value.get("jsonrpc") != "2.0":
        raise InvalidInput('The message does not say "jsonrpc":"2.0".')
    params = value.get("params", NOTHING)
    if not isinstance(params, dict) and params is not NOTHING:
        raise InvalidInput("The message's params are not an object.")
    _require_one_case_here(params)
    if "method" in value:
        return _asking(line, value, params)
    return _answer(line, value, params)


def _asking(line: bytes, value: Mapping[str, Any], params: Mapping[str, Any]) -> Message:
    method = value["method"]
    if not isinstance(method, str) or not 0 < len(method) <= MAX_METHOD:
        raise InvalidInput(f"The message's method is not a string of 1 to {MAX_METHOD} characters.")
    if "result" in value or "error" in value:
        raise InvalidInput("The message is a request and an answer at once.")
    if "id" not in value:
        return Message(Kind.NOTIFICATION, line, value, None, method, params)
    return Message(Kind.REQUEST, line, value, _id(value["id"]), method, params)


def _answer(line: bytes, value: Mapping[str, Any], params: Mapping[str, Any]) -> Message:
    if ("result" in value) == ("error" in value) or "params" in value or "id" not in value:
        raise InvalidInput("The message is neither a request, nor a notification, nor an answer.")
    if not isinstance(value.get("result", NOTHING), dict) or not isinstance(value.get("error", NOTHING), dict):
        raise InvalidInput("The answer's result or error is not an object.")
    anonymous = value["id"] is None and "error" in value
    return Message(Kind.ANSWER, line, value, None if anonymous else _id(value["id"]), "", params)


def _id(value: Any) -> Id:
    """Strings and integers alone (MCP, all revisions): 1 and 1.0 would be one id to some and two to others."""
    if type(value) is int or (type(value) is str and value):
        return value
    raise InvalidInput("The message's id is neither a string nor an integer.")


def _require_known_case(value: Mapping[str, Any]) -> None:
    for name in value:
        if name not in _ENVELOPE and name.casefold() in _ENVELOPE:
            raise InvalidInput("A member of the message is written in another case than the protocol's.")
    _require_one_case_here(value)


def _require_one_case_here(value: Mapping[str, Any]) -> None:
    if len(value) > 1 and len(set(map(str.casefold, value))) != len(value):
        raise InvalidInput("Two members of one object differ only in case.")
