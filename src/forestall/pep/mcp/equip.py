"""What a server is started with: asked of the decision point before there is a server, and put where it belongs."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from forestall import frame as frames
from forestall.core.errors import ForestallError, InvalidInput, Refused, SetupError, Unavailable
from forestall.core.place import Placed, Where
from forestall.pep.client import Connection
from forestall.pep.mcp.lent import Lent, read_lent

WITHIN_S = 60.0
"""Seconds for one credential: its backend may have to be asked twice."""

MAX_CLASSES = 16

Environment = dict[str, str]


class NotEquipped(ForestallError):
    """The decision point does not let the server be started with its credential."""

    exit_code = Refused.exit_code


def wanted(welcome: Mapping[str, Any]) -> tuple[str, ...]:
    """The classes of credentials that the server is started with."""
    names = welcome.get("equip", [])
    if not isinstance(names, list) or len(names) > MAX_CLASSES or not all(isinstance(name, str) for name in names):
        raise Unavailable("The decision point says in no known way what the server is started with.")
    return tuple(names)


async def ask(connection: Connection, names: Sequence[str], *, separate: bool, remote: bool = False) -> Lent:
    """All of them, or nothing. `separate`: the server will run as another user than the client. `remote`: it is not
    started, but spoken to, each message with these headers.

    Raises:
        NotEquipped: one is denied, or held.
        Unavailable: there was no answer.
    """
    answers: asyncio.Queue[Mapping[str, Any] | None] = asyncio.Queue()
    connection.on_frame = answers.put_nowait
    connection.on_lost = lambda: answers.put_nowait(None)
    found = Lent()
    for number, name in enumerate(names, 1):
        asked = {"type": "equip", "id": number, "credential": name, "separate": separate}
        connection.send(frames.encode(asked))
        try:
            async with asyncio.timeout(WITHIN_S):
                lent = read_lent(await _answer(answers, number, name))
        except TimeoutError:
            raise Unavailable(f"The decision point did not lend `{name}` in {WITHIN_S:.0f} s.") from None
        except InvalidInput as wrong:
            raise Unavailable(f"The decision point lends `{name}` in no known way: {wrong}") from None
        if len(lent.headers if remote else lent.at_start) != len(lent.placed):
            raise Unavailable(f"The credential `{name}` goes to a place that a server has not from its start.")
        _require_one_each(found, lent, name)
        found = Lent(found.placed + lent.placed, found.scrub + lent.scrub, found.bound or lent.bound)
    return found


def _require_one_each(found: Lent, more: Lent, credential: str) -> None:
    taken = {name.lower() for name, _ in found.headers}
    if twice := [name for name, _ in more.headers if name.lower() in taken]:
        raise SetupError(
            f"The credential `{credential}` goes to the header {twice[0]}, where another is; give it another `name`."
        )


async def _answer(answers: asyncio.Queue[Mapping[str, Any] | None], number: int, name: str) -> Mapping[str, Any]:
    while (answer := await answers.get()) is not None:
        if answer["type"] == "revoked":
            raise NotEquipped("The task was ended before its server was started.")
        if answer.get("id") != number:
            continue
        if answer["type"] == "equipped" and "credential" in answer:
            return answer
        raise NotEquipped(_refusal(name, answer.get("decision")))
    raise Unavailable("The decision point was lost before the server was started.")


def _refusal(name: str, decision: Any) -> str:
    told = decision if isinstance(decision, dict) else {}
    verb = "held" if told.get("decision") == "hold" else "denied"
    why = f"The server is not started: its credential `{name}` is {verb} ({told.get('reason', 'unavailable')})."
    return f"{why} {told.get('sentence', '')} See: forestall explain {told.get('decision_id')}"


@dataclass(slots=True)
class Start:
    """A command and an environment with a credential in them, until the server has been started."""

    command: list[str] = field(repr=False)
    environment: Environment | None = field(default=None, repr=False)
    """None: that of the gateway."""
    descriptors: list[int] = field(default_factory=list)
    """That the server inherits, and nobody else."""

    def close(self) -> None:
        """The server has its own by now."""
        for descriptor in self.descriptors:
            with suppress(OSError):
                os.close(descriptor)
        self.descriptors.clear()


def start_of(command: Sequence[str], placed: Sequence[Placed]) -> Start:
    """Where each credential goes.

    Raises:
        SetupError: the command line has no such word, or two go to one place.
    """
    start = Start(list(command))
    try:
        for one in placed:
            _put(start, one)
    except BaseException:
        start.close()
        raise
    return start


def _put(start: Start, one: Placed) -> None:
    match one.where:
        case Where.COMMAND:
            if one.name not in start.command[1:]:
                raise SetupError(f"The server's command line has no word {one.name!r} for its credential to replace.")
            words = [one.value if word == one.name else word for word in start.command[1:]]
            start.command = [start.command[0], *words]
        case Where.ENVIRONMENT:
            _set(start, one.name, one.value)
        case Where.DESCRIPTOR:
            descriptor = _filled(one.value.encode("utf-8", "surrogatepass"))
            start.descriptors.append(descriptor)
            _set(start, one.name, str(descriptor))
        case _:
            raise SetupError(f"A credential of the place `{one.where}` is not there from a server's start.")


def _set(start: Start, name: str, value: str) -> None:
    if start.environment is None:
        start.environment = dict(os.environ)
    elif start.environment.get(name) != os.environ.get(name):
        raise SetupError(f"Two credentials go to the variable {name}; give one another `name` in credentials.toml.")
    start.environment[name] = value


def _filled(value: bytes) -> int:
    """A pipe that holds this and nothing more: whoever reads it once has it, and nobody after."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    written = 0
    with suppress(BlockingIOError):
        written = os.write(writing, value)
    os.close(writing)
    if written != len(value):
        os.close(reading)
        raise SetupError("A credential is longer than a pipe takes; put it into a variable.")
    return reading
