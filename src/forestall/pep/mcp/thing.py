"""What the relay wants done: the whole of what a session can do to the world. Lines are without their line break."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from forestall.pep.mcp.content import Copies


@dataclass(frozen=True, slots=True)
class ToClient:
    line: bytes


@dataclass(frozen=True, slots=True)
class ToServer:
    line: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Of this one message, where the server is remote."""
    bound: str = ""
    """Of the credential in them that goes with a proof, its name."""


@dataclass(frozen=True, slots=True)
class ToDecisionPoint:
    frame: bytes
    meanwhile: Callable[[], None] | None = None
    """What is made ready, once it is sent, for the answer to it."""


@dataclass(frozen=True, slots=True)
class Connect:
    """Find the decision point again, starting it if need be; then `connected` or `not_connected`."""


@dataclass(frozen=True, slots=True)
class End:
    """The task was ended. Take back what the server was not given yet, send it these lines, end it with all that it
    started, and confirm `epoch` to the decision point once it is gone.
    """

    cancellations: tuple[bytes, ...]
    epoch: int


@dataclass(frozen=True, slots=True)
class MakeCopies:
    """Of the files that these texts name; then `copied` with the number."""

    number: int
    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DropCopies:
    """The call that they were for is over."""

    copies: Copies


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the user, on standard error."""

    sentence: str


Thing = ToClient | ToServer | ToDecisionPoint | Connect | End | MakeCopies | DropCopies | Say
