"""The gateway's process: pipes to the client and the server, a socket to the decision point, and one session between.

What is decided here is only when to read, when to stop, and how to end; what passes is the relay's to say.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from forestall import frame as frames
from forestall.core.errors import ForestallError, Refused, Unavailable
from forestall.pep.client import Connection, Prove, connect
from forestall.pep.mcp import canary, equip, memory
from forestall.pep.mcp.content import NO_COPIES, Copies, references_of
from forestall.pep.mcp.descendants import Descendants
from forestall.pep.mcp.equip import Start
from forestall.pep.mcp.lent import NOTHING_LENT
from forestall.pep.mcp.log import Log
from forestall.pep.mcp.message import MAX_FROM_CLIENT, MAX_FROM_SERVER
from forestall.pep.mcp.pipes import Lines, Sink, Source, TooLong
from forestall.pep.mcp.process import Account, Server
from forestall.pep.mcp.proofs import Proofs
from forestall.pep.mcp.relay import Relay
from forestall.pep.mcp.thing import (
    Connect,
    DropCopies,
    End,
    MakeCopies,
    Say,
    Thing,
    ToClient,
    ToDecisionPoint,
    ToServer,
)

if TYPE_CHECKING:  # loaded only where calls refer to content
    from concurrent.futures import ThreadPoolExecutor

    from forestall.pep.mcp.copies import Store

if TYPE_CHECKING:
    from forestall.pep.mcp.remote import Remote, Url

MAX_WAITING = 1024 * 1024
"""Bytes that wait for a slow reader before its writers are read no further. A whole message may go beyond it."""

MAX_HELD = 32 * 1024 * 1024
"""Bytes of calls and answers that wait for the decision point before nothing more is read."""

TICK_S = 1.0

END_WITHIN_S = 10.0
"""Seconds that the server has to end by itself, after its input has."""

KILL_AFTER_S = 1.5
"""Seconds from SIGTERM to SIGKILL. Shorter than the 2 s that the MCP SDK gives a gateway before it is killed itself."""

TASK_ENDED_TERM_S = 0.1
TASK_ENDED_KILL_S = 0.5
"""Seconds that the server has to end by itself, and after SIGTERM, when its task was ended. The acknowledgement waits
for it, and for a second at most.
"""

DRAIN_WITHIN_S = 1.0
"""Seconds for the last outcomes to be recorded, and the last lines to be read, once the server has ended."""

DISARMED = "The decision point was lost, and with it what the server was started with; start the server again."

BURY_LOOKS, LOOK_AGAIN_S = 200, 0.01
"""How often it is looked whether all that the server started is gone, and the seconds in between."""

RETRY_AFTER_S = 1.0
"""Seconds after a decision point was not found in which no other attempt is made."""

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Fault(ForestallError):
    """A fault of Forestall's own: a canary call was not denied, or a bug. Nothing more is passed on."""


class Presents(Protocol):
    """`forestall.pep.presenting.Presenter`, whose libraries are loaded only where a server demands permits."""

    def bind(self, nonce: str) -> str: ...

    def present(self, permit: str, audience: str) -> str: ...


@dataclass(frozen=True, slots=True)
class Options:
    name: str
    """The server's: the first part of its tools' ids."""
    command: Sequence[str]
    socket: Path
    start: Callable[[], None] | None
    """Starts the decision point; blocks."""
    mandate: str | None = None
    directory: str | None = None
    """Where the server's relative paths start; else where this process is."""
    presenter: Callable[[], Presents] | None = None
    """Makes the key that permits are presented with; called where the server demands them, and never else."""
    url: str = ""
    """Where the server is, instead of a command that starts it."""
    account: Account | None = None
    """Whom the server runs as; None: as ourselves."""
    copies: Path | None = None
    """Where copies are kept of what calls refer to; None: none are made."""
    prove: Prove | None = None
    """Of a connection's nonce, what shows that it acts in a task that was opened elsewhere; None: it opens its own."""


def run(options: Options) -> int:
    """Until the server has ended: its exit status, negative for the signal that it died of. Where its task was ended,
    until the client has left: the exit code of a refusal.

    Raises:
        ForestallError: the gateway refuses to start, or has to stop.
    """
    return asyncio.run(_Gateway(options).run())


def wall() -> int:
    return time.time_ns() // 1_000_000


def steady() -> int:
    return time.monotonic_ns() // 1_000_000


class _Gateway:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._url = _url(options.url)
        self._relay = Relay(options.name, wall, steady, remote=self._url is not None)
        self._connection: Connection | None = None
        self._presenter: Presents | None = None
        self._served = False
        """Was there a connection before, and so a task whose labels are lost with it?"""
        self._connecting: asyncio.Task[None] | None = None
        self._not_before = 0.0
        self._ticking: asyncio.TimerHandle | None = None
        self._fault: BaseException | None = None
        self._client_ended = False
        self._client_left = False
        self._epoch: int | None = None
        """What is confirmed once the server is gone."""
        self._from_client = Lines(MAX_FROM_CLIENT)
        self._from_server = Lines(MAX_FROM_SERVER)
        self._timers: list[asyncio.TimerHandle] = []
        self._lends = False
        """Are there credentials at all? Then everything that the server says passes through here."""
        self._is_hidden = False
        """Can nobody of our own user look into this process?"""
        self._is_equipped = False
        """Was the server started with a credential, which ends with the task?"""
        self._descendants: Descendants | None = None
        self._log: Log | None = None
        self._store: Store | None = None
        """Copies of what calls refer to; None until the decision point says that some do."""
        self._copier: ThreadPoolExecutor | None = None

    async def run(self) -> int:
        self._loop = asyncio.get_running_loop()
        self._proofs = Proofs(self._loop, self._ask_proof)
        self._stopped = asyncio.Event()
        self._output_ended = asyncio.Event()
        self._quiet = asyncio.Event()
        self._loop.set_exception_handler(self._broke)
        await self._connect()
        start = await self._equip()
        for number in FORWARDED:
            self._loop.add_signal_handler(number, self._signalled, number)
        self._begin(start)
        try:
            self._open_pipes()
            await self._until_ended()
        finally:
            self._server.signal(signal.SIGTERM)
            status = await self._buried()
            self._close_store()
        if self._fault is not None:
            raise self._fault
        return status if self._relay.ended is None else Refused.exit_code

    async def _equip(self) -> Start:
        """What the server is started with.

        Raises:
            ForestallError: without it there is no server.
        """
        assert self._connection is not None
        self._lends = self._connection.welcome.get("lends") is True
        names = equip.wanted(self._connection.welcome)
        self._standing = NOTHING_LENT
        if not names:
            return equip.start_of(self._options.command, ())
        self._is_hidden = memory.hide()
        separate, remote = self._options.account is not None, self._url is not None
        lent = await equip.ask(self._connection, names, separate=separate, remote=remote)
        self._standing = lent
        self._heed(self._connection)
        self._relay.equipped(lent)
        if not remote and memory.adopt():
            self._descendants = Descendants()
            self._loop.add_signal_handler(signal.SIGCHLD, self._reap)
        self._is_equipped = True
        return equip.start_of(self._options.command, lent.at_start)

    def _reap(self) -> None:
        if self._descendants is not None:
            self._descendants.reap(self._server.pid)

    def _begin(self, start: Start) -> None:
        """The server, and the ways to it. Raises ForestallError where it does not start."""
        self._server: Server | Remote
        self._to_server: Sink | Remote
        self._output: Source | Remote
        if self._url is not None:
            self._server = self._to_server = self._output = self._remote(self._url)
        else:
            self._server = Server(start, self._options.account, keep_stderr=self._lends)
            self._to_server = Sink(self._server.stdin, self._balance, lambda: None)
            self._output = Source(self._server.stdout, self._server_bytes, self._server_done)

    def _open_pipes(self) -> None:
        standard_input, standard_output = _take_standard()
        self._to_client = Sink(standard_output, self._balance, self._client_gone)
        self._client = Source(standard_input, self._client_bytes, self._client_gone)
        if self._lends and self._url is None:
            self._log = Log(self._server.stderr, lambda: self._relay.scrubber, self._log_leaked)
        self._balance()

    def _remote(self, url: Url) -> Remote:
        from forestall.pep.mcp.remote import Remote, require_headers

        require_headers(self._standing.headers)
        return Remote(
            url,
            self._standing,
            prove=self._proofs.make,
            on_line=lambda line: self._do(self._relay.from_server(line)),
            on_done=lambda request, why: self._do(self._relay.no_answer(request, why)),
            on_room=self._balance,
            on_end=self._server_done,
        )

    def _log_leaked(self) -> None:
        self._do(self._relay.leaked_elsewhere("the server's standard error"))

    # -- the decision point

    async def _connect(self) -> None:
        """A connection whose canaries were all denied.

        Raises:
            ForestallError: there is none.
        """
        options = self._options
        hello: dict[str, Any] = {"type": "hello", "kind": "gateway", "server": options.name}
        hello["command"] = [
            options.command[0] if self._url is None else self._url.origin
        ]  # its arguments may hold secrets
        hello["directory"] = options.directory or os.getcwd()  # noqa: PTH109 - a string is what is sent
        if self._served:
            hello["again"] = True
        if options.mandate is not None:
            hello["mandate"] = options.mandate
        if self._relay.client is not None:
            hello["client"] = self._relay.client
        if self._is_hidden:
            self._is_hidden = not memory.show()  # what it held is over, and it is looked at
        connection = await connect(options.socket, hello, options.start, options.prove)
        try:
            self._bind(connection)
            await _prove(connection, options.name)
        except BaseException:
            connection.close()
            raise
        self._heed(connection)
        self._connection = connection
        self._relay.references = references_of(connection.welcome)
        if self._relay.references and self._url is None:
            self._open_store()
        heartbeat = connection.welcome.get("heartbeat_ms")
        self._relay.welcomed(heartbeat if type(heartbeat) is int else 0)
        self._served = True

    def _open_store(self) -> None:
        """Some calls refer to content: from now on it is copied before they are decided."""
        options, account = self._options, self._options.account
        if self._store is None and options.copies is not None:
            from concurrent.futures import ThreadPoolExecutor

            from forestall.pep.mcp.copies import Store

            where = options.directory or os.getcwd()  # noqa: PTH109 - as the hello says it
            self._store = Store(options.copies, where, None if account is None else account.gid)
            self._copier = ThreadPoolExecutor(1, "copies")
            self._copier.submit(self._store.sweep)

    def _make_copies(self, number: int, names: Mapping[str, str]) -> None:
        """Beside the loop, one after the other."""
        if self._store is None or self._copier is None:
            self._do(self._relay.copied(number, NO_COPIES))
            return
        making = self._loop.run_in_executor(self._copier, self._store.copy, names)
        making.add_done_callback(lambda made: self._do(self._relay.copied(number, made.result())))

    def _drop_copies(self, copies: Copies) -> None:
        if self._store is not None and self._copier is not None:
            self._copier.submit(self._store.discard, copies)

    def _close_store(self) -> None:
        if self._store is not None and self._copier is not None:
            self._copier.shutdown()
            self._store.close()

    def _bind(self, connection: Connection) -> None:
        """Where its server demands permits, show the key that they are to be bound to.

        Raises:
            Fault: there is none.
        """
        self._relay.sign = None
        demanded = connection.welcome.get("permits")
        if demanded is None:
            return
        if self._options.presenter is None or not isinstance(demanded, dict):
            raise Fault("The server demands permits, and this gateway cannot present any.")
        self._presenter = self._presenter or self._options.presenter()
        audience = str(demanded.get("audience"))
        connection.send(frames.encode({"type": "bind", "proof": self._presenter.bind(connection.nonce)}))
        self._relay.sign = partial(self._presenter.present, audience=audience)

    def _heed(self, connection: Connection) -> None:
        connection.on_frame = self._frame
        connection.on_lost = self._lost
        self._relay.behind = lambda: connection.behind

    async def _reconnect(self) -> None:
        try:
            if self._loop.time() < self._not_before:
                raise Fault("")
            await self._connect()
        except (ForestallError, OSError) as error:
            if str(error):
                say(f"{error} Calls are denied meanwhile.")
                self._not_before = self._loop.time() + RETRY_AFTER_S
            self._do(self._relay.not_connected())
        else:
            self._do(self._relay.connected())
        finally:
            self._connecting = None

    def _frame(self, frame: dict[str, Any]) -> None:
        if "credential" in frame and not self._is_hidden:
            self._is_hidden = memory.hide()
        if frame["type"] == "proof":
            self._proofs.answered(frame)
            return
        self._do(self._relay.from_decision_point(frame))

    def _ask_proof(self, frame: bytes) -> bool:
        if self._connection is not None:
            self._connection.send(frame)
        return self._connection is not None

    def _lost(self) -> None:
        self._connection = None
        self._proofs.lost()
        if self._is_equipped and self._relay.ended is None and not self._stopped.is_set():
            self._fault = Unavailable(DISARMED)
            self._stopped.set()
        elif not self._stopped.is_set() and self._relay.ended is None:
            say("The decision point was lost. Calls are denied until it is back.")
        self._do(self._relay.lost())

    # -- the client and the server

    def _client_bytes(self, chunk: bytes) -> None:
        for line in self._from_client.feed(chunk):
            self._do(
                self._relay.too_long_from_client(line.ends)
                if isinstance(line, TooLong)
                else self._relay.from_client(line)
            )
        if self._ticking is None:
            self._ticking = self._loop.call_later(TICK_S, self._tick)

    def _server_bytes(self, chunk: bytes) -> None:
        for line in self._from_server.feed(chunk):
            self._do(
                self._relay.too_long_from_server(line.ends)
                if isinstance(line, TooLong)
                else self._relay.from_server(line)
            )

    def _tick(self) -> None:
        self._ticking = None
        self._do(self._relay.tick())
        if self._relay.busy:
            self._ticking = self._loop.call_later(TICK_S, self._tick)

    def _do(self, things: Iterable[Thing]) -> None:
        for thing in things:
            match thing:
                case ToClient(line):
                    self._to_client.write(line + b"\n")
                case ToServer(line, headers, bound):
                    self._to_server.send(line, headers, bound)
                case ToDecisionPoint(frame, meanwhile):
                    if self._connection is not None:
                        self._connection.send(frame)
                    if meanwhile is not None:
                        meanwhile()
                case Connect():
                    if self._connecting is None:
                        self._connecting = self._loop.create_task(self._reconnect())
                case End(cancellations, epoch):
                    self._end(cancellations, epoch)
                case MakeCopies(number, names):
                    self._make_copies(number, names)
                case DropCopies(copies):
                    self._drop_copies(copies)
                case Say(sentence):
                    say(sentence)
        self._balance()

    def _balance(self) -> None:
        """Read from each side only while those whom that concerns keep up; see `docs/adr/0003`."""
        unsent = 0 if self._connection is None else self._connection.unsent
        deciding = unsent > MAX_WAITING or self._relay.held > MAX_HELD
        slow_client = self._to_client.waiting > MAX_WAITING
        self._output.pause(slow_client or deciding)
        self._client.pause(slow_client or deciding or self._to_server.waiting > MAX_WAITING)
        if self._client_ended and not self._relay.undecided:
            self._close_server_input()
        if self._relay.ended is not None and not (self._client_left and self._server.exited.done()):
            return
        if self._relay.ended is not None and not self._relay.undecided:
            self._stopped.set()
        if self._output_ended.is_set() and not self._relay.unreported:  # else an answer may be released yet
            self._to_client.close()
            if self._to_client.broken:
                self._quiet.set()

    # -- the end

    def _end(self, cancellations: Iterable[bytes], epoch: int) -> None:
        """The task was ended: end the server, and stay to say so to the client until that leaves."""
        again, self._epoch = self._epoch is not None, epoch
        if self._server.exited.done():
            self._confirm()
        elif not again:
            self._to_server.discard()
            for line in cancellations:
                self._to_server.send(line)
            self._to_server.close()
            for seconds, number in ((TASK_ENDED_TERM_S, signal.SIGTERM), (TASK_ENDED_KILL_S, signal.SIGKILL)):
                self._timers.append(self._loop.call_later(seconds, self._server.signal, number))

    def _server_exited(self) -> None:
        if self._relay.ended is None:
            self._stopped.set()
            return
        self._server.signal(signal.SIGKILL)  # what it started, and left behind
        if self._descendants is None:
            self._confirm()
        else:
            self._burying = self._loop.create_task(self._bury_then_confirm())
        self._balance()

    async def _bury_then_confirm(self) -> None:
        await self._bury()
        self._confirm()

    async def _bury(self) -> None:
        """Whatever the server started is killed, also what left its group; and what that starts meanwhile."""
        for _ in range(BURY_LOOKS):
            if self._descendants is None or not self._descendants.kill():
                return
            await asyncio.sleep(LOOK_AGAIN_S)
        say("Something that the server started could not be killed; look for it.")

    def _confirm(self) -> None:
        if self._connection is not None:
            self._connection.send(frames.encode({"type": "confirmed", "epoch": self._epoch}))

    def _client_gone(self) -> None:
        """The client ended its side. What it asked for before is still decided, and only then the server told."""
        self._client.end()
        self._client_left = True
        if self._from_client.unfinished:
            say("The client ended in the middle of a message; it was not passed on.")
        self._client_ended = True
        self._balance()

    def _close_server_input(self) -> None:
        self._client_ended = False
        self._to_server.close()
        self._terminate_after(END_WITHIN_S)

    def _server_done(self) -> None:
        """The server closed its output."""
        self._output_ended.set()
        self._do(self._relay.server_ended())
        self._terminate_after(END_WITHIN_S)

    def _signalled(self, number: int) -> None:
        if self._server.exited.done():
            self._stopped.set()
        self._server.signal(number)
        if number != signal.SIGINT:
            self._timers.append(self._loop.call_later(KILL_AFTER_S, self._server.signal, signal.SIGKILL))

    def _terminate_after(self, seconds: float) -> None:
        for later, number in ((seconds, signal.SIGTERM), (seconds + KILL_AFTER_S, signal.SIGKILL)):
            self._timers.append(self._loop.call_later(later, self._server.signal, number))

    async def _until_ended(self) -> None:
        self._server.exited.add_done_callback(lambda _: self._server_exited())
        await self._stopped.wait()
        if self._fault is not None:
            return
        with suppress(TimeoutError):
            await asyncio.wait_for(self._output_ended.wait(), DRAIN_WITHIN_S)
        if not self._output_ended.is_set():
            self._output.end()
            self._server_done()
        self._balance()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._quiet.wait(), DRAIN_WITHIN_S)

    async def _buried(self) -> int:
        """The server's exit status, at the latest soon after it is killed."""
        kill = self._loop.call_later(KILL_AFTER_S, self._server.signal, signal.SIGKILL)
        await self._server.exited
        kill.cancel()
        await self._bury()
        if self._log is not None:
            await self._log.drain(DRAIN_WITHIN_S)
        for timer in self._timers:
            timer.cancel()
        if self._connection is not None:
            self._connection.on_lost = lambda: None
            self._connection.close()
        return self._server.reap()

    def _broke(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A bug is a reason to stop: what is not understood is not passed on."""
        error = context.get("exception")
        what = f"{type(error).__name__}" if error is not None else str(context.get("message"))
        self._fault = Fault(f"The gateway stopped because of a fault of its own ({what}); please report it.")
        self._fault.__cause__ = error
        self._stopped.set()


def _url(text: str) -> Url | None:
    """Imported only where it is needed: HTTP is not light."""
    if not text:
        return None
    from forestall.pep.mcp.remote import Url

    return Url.parse(text)


def _take_standard() -> tuple[int, int]:
    """Standard input and output, moved out of the way: a stray print must not end up between the messages."""
    taken = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    return taken


async def _prove(connection: Connection, server: str) -> None:
    """Send the canaries through a session of their own.

    Raises:
        Fault: one was not denied, or something of them would have reached the server.
        Unavailable: the task was ended meanwhile.
    """
    relay = canary.canary_relay(server, wall, steady)
    answers: list[bytes] = []
    reached = 0
    done = asyncio.Event()

    def do(things: Iterable[Thing]) -> None:
        nonlocal reached
        for thing in things:
            if isinstance(thing, ToClient):
                answers.append(thing.line)
            elif isinstance(thing, ToServer):
                reached += len(thing.line)
            elif isinstance(thing, ToDecisionPoint):
                connection.send(thing.frame)
        if len(answers) >= len(canary.CANARIES):
            done.set()

    connection.on_frame = lambda frame: do(relay.from_decision_point(frame))
    connection.on_lost = lambda: do(relay.lost())
    for line in canary.lines():
        do(relay.from_client(line))
    with suppress(TimeoutError):
        await asyncio.wait_for(done.wait(), canary.WITHIN_S)
    if relay.ended is not None:
        raise Unavailable(relay.ended.advice.sentence)
    if reached:
        raise Fault("A canary call reached the server; the gateway does not start. Please report it.")
    if passed := canary.passed(answers):
        raise Fault(f"A canary call was not denied ({passed[0]}); the gateway does not start.")


def say(sentence: str) -> None:
    """To the user, between the server's own lines."""
    with suppress(OSError):
        os.write(2, f"forestall: {sentence}\n".encode())
