"""What a conversation at the gateway may want, and what may come of it instead.

A conversation (`Talk`) is a generator: it yields what it wants, is resumed with what came of it, and returns the line
that answers the client, or None where nobody waits for one any more. It does no I/O; `forestall.pep.mcp.relay` carries
it out.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

from forestall.core.reason import Reason
from forestall.pep.mcp.message import Message


@dataclass(frozen=True, slots=True)
class Ready:
    """Wait until the decision point is there, and, if `listed`, the definitions are fresh. Answer: None."""

    listed: bool = False
    meta: Mapping[str, Any] = field(default_factory=dict)
    """`_meta` of the request that wants it: modern servers want the protocol's members on every request."""


@dataclass(frozen=True, slots=True)
class Tell:
    """Send the decision point a frame. Answer: its answer."""

    frame: dict[str, Any]
    meanwhile: Callable[[], None] | None = None
    """What is made ready while it answers."""


@dataclass(frozen=True, slots=True)
class Bind:
    """Make copies of the files that these texts name, by pointer. They live as long as the conversation. Answer:
    Copies, of those that there could be made.
    """

    names: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Report:
    """Send the decision point a report on a permit and go on. Answer: was it sent?"""

    frame: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the server this line, which it answers under the request's id. Answer: its Message. With a credential in it,
    or in the headers that go with it, it is secret.
    """

    line: bytes = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    """Of this one message, where the server is remote."""
    bound: str = ""
    """Of the credential in them that goes with a proof, its name."""


@dataclass(frozen=True, slots=True)
class Question:
    """Ask the server something of the gateway's own, under an id that nobody else uses. Answer: its Message."""

    method: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Hand:
    """Pass this message on as it came, to whom it was for. Answer: None."""

    message: Message
    to_server: bool


@dataclass(frozen=True, slots=True)
class AnswerServer:
    """Send the server this line in answer to a question of its own. Answer: None."""

    line: bytes


class Interrupted(Exception):
    """Thrown into a conversation in place of an answer."""


class Lost(Interrupted):
    """The decision point is gone."""


class Ended(Interrupted):
    """The task was ended, and the session with it."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.advice.sentence)
        self.reason = reason


class Late(Interrupted):
    """There was no answer in time."""


class ServerGone(Interrupted):
    """The server ended, or gave an answer that nobody can read. `str()` says which."""


class Leaked(Interrupted):
    """The server answered, and a credential came back in it: `message` is let out to nobody."""

    def __init__(self, message: Message) -> None:
        super().__init__(WITHHELD)
        self.message = message


WITHHELD = "The server's message held a credential; it is withheld, and the credential ends."

Want = Ready | Tell | Bind | Report | Forward | Question | Hand | AnswerServer
Talk = Generator[Want, Any, bytes | None]
