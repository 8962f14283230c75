"""What an HTTP request needs a permit for, whatever carries it (`asgi`, `proxy`). No I/O.

`McpHttp`: the body of a POST is a message of MCP, and a `tools/call` is what its params say. `PlainHttp`: a request is
a tool, `METHOD template`, and its arguments are the method, the path, the query and the digest of its body.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from forestall_edge.canonical import NotJson, parse
from forestall_edge.message import CALL, ERROR, SENTENCE, Demand, Shown
from forestall_edge.permit import Permit
from forestall_edge.refusal import Reason, Refused
from forestall_edge.verifier import Verifier

PERMIT, PROOF = b"forestall-permit", b"dpop"
"""Names of the headers, as they are compared."""

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a request's body. As many as the gateway takes of one message."""

Headers = Sequence[tuple[bytes, bytes]]

_ENVELOPE = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_SEGMENT = re.compile(r"[A-Za-z0-9._~!$&'()*+,;=:@-]+(?:%[0-9A-F]{2}[A-Za-z0-9._~!$&'()*+,;=:@-]*)*")
_NAME = re.compile(r"\{[a-z][a-z0-9_]*\}")


@dataclass(frozen=True, slots=True)
class Incoming:
    """A request, whole."""

    method: str
    path: str
    """As it was sent, percent-encoded, without the query."""
    query: str
    headers: Headers
    """Names in lower case."""
    body: bytes


@dataclass(frozen=True, slots=True)
class Passed:
    """What may go on in place of the request: what was verified, and nothing of a permit."""

    headers: Headers
    body: bytes


class Gate(Protocol):
    def check(self, request: Incoming) -> Passed:
        """Blocks as `Verifier.verify` does. Raises Refused."""
        ...

    def answer(self, request: Incoming) -> bytes:
        """What who is refused is told, as JSON."""
        ...


@dataclass(frozen=True, slots=True)
class McpHttp:
    """Streamable HTTP. Batches are refused; a GET opens a stream and a DELETE ends a session, without a permit."""

    demand: Demand
    path: str = "/mcp"
    """Where MCP is spoken, letter by letter. Nothing else is served."""

    def check(self, request: Incoming) -> Passed:
        if request.path != self.path:
            raise Refused(Reason.NOT_OPEN, "another path")
        if request.method in {"GET", "DELETE"}:
            _require_no_body(request)
            return Passed(_without(request.headers), b"")
        if request.method != "POST":
            raise Refused(Reason.NOT_OPEN, "a method that MCP does not have")
        message, shown = _message(request.body), _shown(request.headers)
        method = message.get("method")
        if method == CALL:
            message["params"] = self.demand.require_permit(message.get("params"), shown)
        elif "method" in message:
            self.demand.require_open(method if isinstance(method, str) else "")
        elif not {"result", "error"} & message.keys():
            raise Refused(Reason.BAD_ARGUMENTS, "no message")
        return Passed(_without(request.headers), _written(message))

    def answer(self, request: Incoming) -> bytes:
        try:
            identity = _message(request.body).get("id")
        except Refused:
            identity = None
        told = identity if isinstance(identity, str | int) else None
        return _json({"jsonrpc": "2.0", "id": told, "error": {"code": ERROR, "message": SENTENCE}})


@dataclass(frozen=True, slots=True)
class PlainHttp:
    """Requests of an API that is not MCP. What no template matches is refused."""

    verifier: Verifier
    server: str
    """As the catalogue calls it."""
    templates: Sequence[str]
    """`METHOD /path/{name}`: those that need a permit. `{name}` stands for one segment."""
    open: Sequence[str] = ()
    """Those that pass without one."""
    passed: Callable[[Permit], None] = lambda _permit: None

    def __post_init__(self) -> None:
        """Raises ValueError: a template is none."""
        for template in (*self.templates, *self.open):
            _require_template(template)

    def check(self, request: Incoming) -> Passed:
        path = _segments(request.path)
        if any(_matches(template, request.method, path) for template in self.open):
            return Passed(_without(request.headers), request.body)
        template = next((each for each in self.templates if _matches(each, request.method, path)), None)
        if template is None:
            raise Refused(Reason.NOT_OPEN, "no template matches")
        shown = _shown(request.headers)
        if shown is None:
            raise Refused(Reason.MISSING, "no permit")
        permit = self.verifier.verify(
            shown.permit,
            shown.proof,
            f"{self.server}/{template}",
            arguments_of(request),
            method=request.method,
            url=self.verifier.audience.rstrip("/") + request.path,
        )
        self.passed(permit)
        return Passed(_without(request.headers), request.body)

    def answer(self, request: Incoming) -> bytes:
        del request
        return _json({"error": "permit_required", "message": SENTENCE})


def arguments_of(request: Incoming) -> dict[str, str]:
    """What stands for the arguments of a plain request."""
    return {
        "method": request.method,
        "path": request.path,
        "query": request.query,
        "body": "sha256:" + hashlib.sha256(request.body).hexdigest(),
    }


def _shown(headers: Headers) -> Shown | None:
    """Raises Refused: missing, where there is one of the two, or more than one of either."""
    permits, proofs = ([value for name, value in headers if name == wanted] for wanted in (PERMIT, PROOF))
    if not permits:
        return None  # `DPoP` alone is about a token of another kind
    if len(permits) != 1 or len(proofs) != 1:
        raise Refused(Reason.MISSING, "not one permit and one proof")
    try:
        return Shown(permits[0].decode("ascii"), proofs[0].decode("ascii"))
    except UnicodeDecodeError:
        raise Refused(Reason.MALFORMED, "a header is not ASCII") from None


def _without(headers: Headers) -> Headers:
    """Without the permit; `DPoP` stays where there is none, as a proof of something else."""
    if all(name != PERMIT for name, _ in headers):
        return headers
    return [(name, value) for name, value in headers if name not in {PERMIT, PROOF}]


def _message(body: bytes) -> dict[str, Any]:
    """One message, the same to every reader. Raises Refused: bad_arguments."""
    try:
        value = parse(body, max_bytes=MAX_BODY)
        _require_one_case(value, 64)
    except NotJson as error:
        raise Refused(Reason.BAD_ARGUMENTS, str(error)) from None
    if not isinstance(value, dict) or not value.keys() <= _ENVELOPE:
        raise Refused(Reason.BAD_ARGUMENTS, "not one message of JSON-RPC")
    return value


def _require_one_case(value: Any, depth: int) -> None:
    """Some readers take members that differ only in case for one. Raises NotJson."""
    if depth <= 0:
        raise NotJson("it nests too deep")
    if isinstance(value, dict):
        if len({name.casefold() for name in value}) != len(value):
            raise NotJson("members that differ only in case")
        value = list(value.values())
    if isinstance(value, list):
        for member in value:
            if isinstance(member, dict | list):
                _require_one_case(member, depth - 1)


def _written(message: Mapping[str, Any]) -> bytes:
    try:
        return _json(message)
    except UnicodeEncodeError:
        raise Refused(Reason.BAD_ARGUMENTS, "half of a surrogate pair") from None


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _require_no_body(request: Incoming) -> None:
    if request.body:
        raise Refused(Reason.BAD_ARGUMENTS, "a body where there is none")


def _segments(path: str) -> list[str]:
    """Raises Refused: not_open, for a path that another reader would read as another one."""
    if not path.startswith("/"):
        raise Refused(Reason.NOT_OPEN, "a path that is none")
    segments = path[1:].split("/")
    for number, segment in enumerate(segments):
        if not segment and number == len(segments) - 1:
            continue
        decoded = re.sub(r"%2[Ee]", ".", segment)
        if not _SEGMENT.fullmatch(segment) or decoded in {".", ".."} or re.search("%(2F|5C|00)", segment):
            raise Refused(Reason.NOT_OPEN, "a path that has more than one reading")
    return segments


def _matches(template: str, method: str, path: Sequence[str]) -> bool:
    wanted, _, pattern = template.partition(" ")
    parts = pattern[1:].split("/")
    return wanted == method and len(parts) == len(path) and all(map(_fits, parts, path))


def _fits(part: str, segment: str) -> bool:
    return bool(segment) if _NAME.fullmatch(part) else part == segment


def _require_template(template: str) -> None:
    method, _, pattern = template.partition(" ")
    good = method.isascii() and method.isalpha() and method.isupper() and pattern.startswith("/")
    if not good or not all(
        not part or _NAME.fullmatch(part) or _SEGMENT.fullmatch(part) for part in pattern.split("/")
    ):
        raise ValueError(f"{template!r} is not like 'GET /orders/{{order}}'")
