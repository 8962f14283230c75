"""Proofs for requests that carry a bound credential (RFC 9449). Its key stays here; the request is somebody else's.

Whoever was lent the credential on this very connection gets one for each request, as long as the credential lives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from forestall.core.ask import CannotDo
from forestall.server.frames import read_prove

if TYPE_CHECKING:
    from forestall.server.connection import Connection

MAX_BOUND = 4096
"""Names that a connection may ask proofs for. Those of calls that ended make room, and only then the oldest."""


def note_bound(names: dict[str, None], credential: Mapping[str, Any] | None, lives: Callable[[str], bool]) -> None:
    """The connection is sent this credential; if it is bound, proofs for it are the connection's from now on."""
    if credential is None or "bound" not in credential:
        return
    if len(names) >= MAX_BOUND:
        for name in [name for name in names if not lives(name)] or [next(iter(names))]:
            del names[name]
    names[credential["bound"]] = None


def prove(connection: Connection, frame: Mapping[str, Any]) -> None:
    """Answer a proof; none where the credential is over, or was never lent here: which of the two is not said.

    Raises:
        InvalidInput: there is no such request.
    """
    asked = read_prove(frame)
    answer: dict[str, Any] = {"type": "proof", "id": asked.id}
    if asked.credential in connection.bound and connection.stopped is None:
        proving = connection.point.parts.lending.proving
        try:
            answer["proof"] = proving.prove(asked.credential, asked.method, asked.url, asked.nonce)
        except CannotDo:
            del connection.bound[asked.credential]
    connection.send(answer)
