"""The conversations of a session: who waits for what, and how each goes on when it comes. No I/O.

`Stage` carries out what a conversation wants (`forestall.pep.mcp.want`) as far as that is possible without I/O, and
collects what is left to do as `Thing`s. It does not look at messages; that is the relay's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from forestall import frame as frames
from forestall.core.errors import InvalidInput
from forestall.core.fate import Fate
from forestall.core.reason import Reason
from forestall.core.scrub import Scrubber
from forestall.pep.mcp import denial
from forestall.pep.mcp.batch import Batch
from forestall.pep.mcp.burned import Burned
from forestall.pep.mcp.call import Call
from forestall.pep.mcp.content import Copies
from forestall.pep.mcp.lent import Lent, read_lent
from forestall.pep.mcp.message import Id, Message, encode
from forestall.pep.mcp.presented import Sign
from forestall.pep.mcp.talks import list_tools
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
from forestall.pep.mcp.tools import Definitions
from forestall.pep.mcp.want import (
    AnswerServer,
    Bind,
    Ended,
    Forward,
    Hand,
    Interrupted,
    Late,
    Lost,
    Question,
    Ready,
    Report,
    ServerGone,
    Talk,
    Tell,
    Want,
)
from forestall.pep.sought import Sought

MAX_OPEN = 4096
"""Requests of one side without an answer. A client has dozens."""

ANSWER_WITHIN_MS = 30_000
"""For the decision point's answers, and for the server's to the gateway's own questions."""

SILENT_BEATS = 3
"""Heartbeats without a word after which the decision point counts as gone."""

MAX_RELISTS = 3
"""Times the tools are listed again because they changed while they were listed."""

MAX_NOTES = 64
"""Refused messages that wait to be recorded. A flood is answered without a decision's id: the ledger would count it
and no more."""

NOTE = "(a note of what was refused)"
LISTING = "(the gateway's own listing)"
EFFECTS = frozenset({"ask", "method"})
"""Frames that ask for leave to do something: not worth sending to a decision point that says nothing."""

STOPPING = {reason.value: reason for reason in (Reason.REVOKED, Reason.SUSPENDED, Reason.TASK_ENDED)}
WAIT = object()
ENDED = "The server ended before it answered"


@dataclass(slots=True)
class Open:
    """What is not finished: a request of the client's, or a conversation of the gateway's own."""

    id: Id | None
    method: str
    modern: bool = False
    batch: Batch | None = None
    talk: Talk | None = None
    """None of what is relayed."""
    call: Call | None = None
    at_server: bool = False
    """The server owes an answer under this id."""
    due: int | None = None
    """When it is given up, on the steady clock."""
    cancelled: bool = False
    """By the client, which waits no more; what the server says nevertheless is passed on."""
    held: int = 0
    """Bytes kept for it: of a call until it is forwarded, of an answer until it is released."""
    muted: bool = False
    """There is nothing more to tell the client."""
    copies: list[Copies] = field(default_factory=list)
    """Of what it refers to, of each attempt to decide it."""
    lent: list[str] = field(default_factory=list)
    """Permits that brought it a credential which is over when it is."""


@dataclass(slots=True)
class Waiter:
    """A frame that the decision point has not answered."""

    open: Open | None
    """None where nobody waits: a report, or an ask that was given up."""
    due: int
    kind: str
    """The frame's type."""
    void: Reason | None = None
    """Why a permit in answer is good for nothing: it was given before the task was ended, or suspended."""


class Stage:
    def __init__(
        self,
        server: str,
        wall: Callable[[], int],
        steady: Callable[[], int],
        definitions: Definitions | None = None,
        *,
        remote: bool = False,
    ) -> None:
        self._server = server
        self._wall = wall
        self._steady = steady
        self._definitions = definitions or Definitions(server)
        self._remote = remote
        self._sought = Sought()
        self._out: list[Thing] = []
        self._open: dict[Id, Open] = {}
        self._asked_by_server: dict[Id, None] = {}
        self._owed: dict[Id, None] = {}
        """Ids under which the server may still answer what was given up. What it then says is for nobody."""
        self._waiting: dict[int, Waiter] = {}
        self._offline: list[tuple[Open, Ready]] = []
        self._unlisted: list[tuple[Open, Ready]] = []
        self._listing: int | None = None
        """The generation of the definitions that is being read, while one is."""
        self._relists = 0
        self._notes = 0
        self._connected = True
        self._heard = steady()
        """When the decision point said something last."""
        self._heartbeat_ms = 0
        """How often it does at least; 0: it does not say."""
        self.ended: Reason | None = None
        """Why the task is over; nothing reaches the server any more, and nothing of it the client."""
        self.sign: Sign | None = None
        """Proves that a permit for the server is ours; None where the server demands none."""
        self.references: Mapping[str, Collection[str]] = {}
        """By name of a tool: arguments that name files whose content a call uses, as the decision point says."""
        self.behind: Callable[[], bool] = lambda: False
        """Has the decision point said something, or gone, that was not heard yet? It may be that the task is over."""
        self._copying: dict[int, Open] = {}
        self._server_ended = False
        self._frames = 0
        self._copies = 0
        self._questions = 0
        self._said: set[str] = set()
        self._burned = Burned(wall)
        self.held = 0
        """Bytes kept while the decision point is asked."""

    @property
    def scrubber(self) -> Scrubber:
        """What must not come back from the server."""
        return self._sought.scrubber

    def equipped(self, lent: Lent) -> None:
        """The server has this from its start, and must not say it for as long as it runs, whatever else it is lent."""
        self._sought.add("", lent.scrub, until=None, now=self._wall())

    def lent(self, lent: Lent, permit: str, call: Open | None) -> None:
        """From now on the server may have this, and must not say it. `call`: whose it is; None where nobody waits."""
        if not lent.scrub:
            return
        name = permit if lent.until is None else _name_of(lent.scrub)
        self._sought.add(name, lent.scrub, until=lent.until, now=self._wall())
        if lent.until is not None:
            return
        if call is None:
            self._sought.end(name)
        else:
            call.lent.append(name)

    # -- what happens, messages aside

    def welcomed(self, heartbeat_ms: int) -> None:
        """The decision point says that it will not be silent for longer than that."""
        self._heartbeat_ms, self._heard = heartbeat_ms, self._steady()

    def from_decision_point(self, frame: Mapping[str, Any]) -> list[Thing]:
        """A frame came from the decision point."""
        self._heard = self._steady()
        identity = frame.get("id")
        waiter = self._waiting.pop(identity, None) if type(identity) is int else None
        if waiter is not None:
            self._answered(waiter, frame)
        elif frame["type"] == "revoked":
            self._revoked(frame)
        return self._take()

    def _answered(self, waiter: Waiter, frame: Mapping[str, Any]) -> None:
        answer: Any = frame
        if frame["type"] == "permit":
            if "credential" in frame:
                with suppress(InvalidInput):  # then nothing of it goes to the server
                    self.lent(read_lent(frame), _permit_of(frame), waiter.open)
            void = waiter.void or (None if self._in_time(frame) else Reason.UNAVAILABLE)
            if waiter.kind == "ask" and (void is not None or waiter.open is None):
                self._report({"type": "performed", "permit": _permit_of(frame), "fate": Fate.NOT_STARTED.value})
            if void is not None:
                answer = {"type": "deny", "decision": denial.own_decision(void)}
        elif waiter.kind == "performed" and self.ended is not None:
            answer = Ended(self.ended)
        if waiter.open is not None:
            self._step(waiter.open, answer)

    def _in_time(self, frame: Mapping[str, Any]) -> bool:
        """Is the permit's lease still running? What was stopped for longer starts nothing."""
        permit = frame.get("permit")
        start_by = permit.get("start_by") if isinstance(permit, dict) else None
        return type(start_by) is int and self._wall() < start_by

    def _revoked(self, frame: Mapping[str, Any]) -> None:
        """The task was ended or suspended: no permit that was given before is begun. What is not understood ended it.

        A suspension leaves alone what runs; everything else cancels it, withholds its output and ends the session.
        """
        reason, epoch = STOPPING.get(str(frame.get("reason")), Reason.REVOKED), frame.get("epoch")
        epoch = epoch if type(epoch) is int else 0
        for waiter in self._waiting.values():
            waiter.void = waiter.void or reason
        if reason is Reason.SUSPENDED and self.ended is None:
            self._tell({"type": "confirmed", "epoch": epoch})
            return
        self._end(self.ended or reason, epoch)

    def _end(self, reason: Reason, epoch: int) -> None:
        running = [item for item in self._open.values() if item.at_server]
        cancellations = tuple(_cancellation(item.id) for item in running if item.method != "initialize")
        self.ended = reason
        self._out.append(End(cancellations, epoch))
        self._say_once("ended", f"{reason.advice.sentence} Its server is ended; calls are denied.")
        unlisted, self._unlisted = self._unlisted, []
        for item in [*running, *(item for item, _ in unlisted)]:
            self._interrupt(item, Ended(reason))

    def _to_server(self, line: bytes, headers: tuple[tuple[str, str], ...] = (), bound: str = "") -> None:
        """The one way there."""
        if self.ended is None:
            self._out.append(ToServer(line, headers, bound))

    def lost(self) -> list[Thing]:
        """The decision point is gone: nothing that it permitted is good any more."""
        self._connected = False
        self._definitions.changed()
        waiting, self._waiting = self._waiting, {}
        for waiter in waiting.values():
            if waiter.open is not None:
                self._interrupt(waiter.open, Lost() if self.ended is None else Ended(self.ended))
        for item in [item for item in self._open.values() if item.call is not None and item.at_server]:
            self._interrupt(item, Lost())
        return self._take()

    def connected(self) -> list[Thing]:
        """The decision point was found again: another connection, another task."""
        self._connected = True
        offline, self._offline = self._offline, []
        for item, want in offline:
            self._ready(item, want)
        return self._take()

    def copied(self, number: int, copies: Copies) -> list[Thing]:
        """The copies that were wanted are there, as far as they could be made."""
        item = self._copying.pop(number)
        item.copies.append(copies)
        self._step(item, copies)
        return self._take()

    def not_connected(self) -> list[Thing]:
        offline, self._offline = self._offline, []
        for item, _ in offline:
            self._interrupt(item, Lost())
        return self._take()

    def server_ended(self) -> list[Thing]:
        """The server will say nothing more."""
        self._server_ended = True
        for item in [item for item in self._open.values() if item.at_server]:
            self._interrupt(item, ServerGone(ENDED))
        return self._take()

    def tick(self) -> list[Thing]:
        """Time passed. Wanted about once a second while `busy`."""
        now = self._steady()
        for identity in [identity for identity, waiter in self._waiting.items() if self._too_long(waiter, now)]:
            waiter = self._waiting[identity]
            item, waiter.open = waiter.open, None
            self._tell({"type": "cancel", "id": identity})
            if item is not None:
                self._interrupt(item, Late() if waiter.due <= now else Lost())
        for item in [
            item for item in self._open.values() if item.at_server and item.due is not None and item.due <= now
        ]:
            self._interrupt(item, Late())
        return self._take()

    def _too_long(self, waiter: Waiter, now: int) -> bool:
        if waiter.open is None:
            return False
        return waiter.due <= now or (waiter.kind in EFFECTS and self._silent(now))

    def _silent(self, now: int) -> bool:
        """Has the decision point missed its heartbeats: is it stopped, or out of reach?"""
        return 0 < self._heartbeat_ms * SILENT_BEATS < now - self._heard

    @property
    def busy(self) -> bool:
        """Something has a time limit."""
        waited_for = any(waiter.open is not None for waiter in self._waiting.values())
        return waited_for or any(item.due is not None for item in self._open.values())

    @property
    def undecided(self) -> bool:
        """Something of the client's has not yet reached the server, and may."""
        return any(item.talk is not None and not item.at_server for item in self._open.values())

    @property
    def unreported(self) -> bool:
        """The decision point has not confirmed everything it was told."""
        return bool(self._waiting)

    # -- conversations

    def _start(self, item: Open, talk: Talk) -> None:
        item.talk = talk
        self._step(item, None)

    def _note(self, talk: Talk, batch: Batch | None) -> bool:
        """Start a conversation about something that was refused. Not one too many."""
        if self._notes >= MAX_NOTES:
            return False
        self._notes += 1
        self._start(Open(None, NOTE, batch=batch), talk)
        return True

    def _interrupt(self, item: Open, why: Interrupted) -> None:
        if item.at_server and item.id is not None and not isinstance(why, ServerGone):
            if len(self._owed) >= MAX_OPEN:
                del self._owed[next(iter(self._owed))]
            self._owed[item.id] = None
        item.at_server = False
        item.due = None
        item.muted = item.cancelled
        if item.talk is not None:
            self._step(item, why)
        elif isinstance(why, Ended) and item.id is not None:
            self._finish(item, self._over(item.id, why.reason))
        elif isinstance(why, ServerGone) and not self._server_ended and item.id is not None:
            self._finish(item, denial.error(item.id, denial.INTERNAL_ERROR, f"{why}."))
        else:
            self._finish(item, None)

    def _over(self, identity: Id, reason: Reason) -> bytes:
        """The answer to what is no call, once the task was ended."""
        return denial.error(identity, denial.INTERNAL_ERROR, reason.advice.sentence, denial.own_decision(reason))

    def _step(self, item: Open, answer: Any) -> None:
        """Resume a conversation, until it has to wait for somebody, or ends."""
        assert item.talk is not None
        try:
            while True:
                want = item.talk.throw(answer) if isinstance(answer, Interrupted) else item.talk.send(answer)
                answer = self._carry_out(item, want)
                if answer is WAIT:
                    return
        except StopIteration as end:
            self._finish(item, end.value)

    def _carry_out(self, item: Open, want: Want) -> Any:
        """What came of it, or WAIT where that is not yet known."""
        match want:
            case Tell(frame, meanwhile):
                return self._ask(item, frame, meanwhile)
            case Bind(names):
                self._copies += 1
                self._copying[self._copies] = item
                self._out.append(MakeCopies(self._copies, names))
                return WAIT
            case Forward(line, headers, bound):
                return self._forward(item, line, headers, bound)
            case Ready():
                return self._require_ready(item, want)
            case Report(frame):
                return self._report(frame)
            case Question(method, params):
                return self._question(item, method, params)
            case Hand(message, to_server):
                if to_server:
                    self._to_server(message.line)
                else:
                    self._hand_to_client(message)
            case AnswerServer(line):
                self._to_server(line)
        return None

    def _ask(self, item: Open, frame: dict[str, Any], meanwhile: Callable[[], None] | None) -> Any:
        self._frames += 1
        now, kind = self._steady(), frame["type"]
        if (kind in EFFECTS and self._silent(now)) or not self._tell({**frame, "id": self._frames}, meanwhile):
            return Lost()
        self._waiting[self._frames] = Waiter(item, now + ANSWER_WITHIN_MS, kind)
        return WAIT

    def _report(self, frame: dict[str, Any]) -> bool:
        """Was it sent? What was released at once gets no answer; nothing is, while the end of its task may be unheard:
        an order is acknowledged over a gateway that was stopped for long.
        """
        if "released" in frame and self.behind():
            return False
        self._frames += 1
        if not self._tell({**frame, "id": self._frames}):
            return False
        if "released" not in frame:
            self._waiting[self._frames] = Waiter(None, 0, frame["type"])
        return True

    def _tell(self, frame: dict[str, Any], meanwhile: Callable[[], None] | None = None) -> bool:
        """Was it sent? Not without a decision point, nor if it is longer than a frame."""
        if not self._connected:
            return False
        try:
            self._out.append(ToDecisionPoint(frames.encode(frame), meanwhile))
        except (InvalidInput, ValueError):
            self._say_once("frame", "A message was too long for the decision point; it went no further.")
            return False
        return True

    def _hold(self, item: Open, size: int) -> None:
        self.held += size - item.held
        item.held = size

    def _forward(self, item: Open, line: bytes, headers: tuple[tuple[str, str], ...] = (), bound: str = "") -> Any:
        self._hold(item, 0)
        if self.ended is not None:
            return Ended(self.ended)
        if self._server_ended:
            return ServerGone(ENDED)
        item.at_server = True
        self._to_server(line, headers, bound)
        return WAIT

    def _question(self, item: Open, method: str, params: Mapping[str, Any]) -> Any:
        """The gateway's own: under an id that no request of the client's has, and that none can take meanwhile."""
        if item.id is not None:
            self._open.pop(item.id, None)
        while (identity := f"forestall-{self._questions}") in self._open:
            self._questions += 1
        self._questions += 1
        item.id = identity
        self._open[identity] = item
        item.due = self._steady() + ANSWER_WITHIN_MS
        return self._forward(item, encode({"jsonrpc": "2.0", "id": identity, "method": method, "params": params}))

    def _require_ready(self, item: Open, want: Ready) -> Any:
        if self.ended is not None:  # the denial is recorded by whoever ended it, as long as that is there
            return None if self._connected else Ended(self.ended)
        if not self._connected:
            if not self._offline:
                self._out.append(Connect())
            self._offline.append((item, want))
            return WAIT
        if not want.listed or self._definitions.fresh(self._steady()):
            return None
        self._unlisted.append((item, want))
        self._list(want.meta)
        return WAIT

    def _ready(self, item: Open, want: Ready) -> None:
        if (answer := self._require_ready(item, want)) is not WAIT:
            self._step(item, answer)

    def _list(self, meta: Mapping[str, Any]) -> None:
        if self._listing is None:
            self._listing = self._definitions.generation
            self._start(Open(None, LISTING), list_tools(self._definitions, meta, self._steady))

    def _listed(self) -> None:
        """The gateway's own listing ended, well or not."""
        changed, self._listing = self._listing != self._definitions.generation, None
        unlisted, self._unlisted = self._unlisted, []
        fresh = self._definitions.fresh(self._steady())
        again = changed and not fresh and self._relists < MAX_RELISTS
        self._relists = self._relists + 1 if again else 0
        for item, want in unlisted:
            if fresh or again:
                self._ready(item, want)
            else:
                self._interrupt(item, Late())

    def _hand_to_client(self, message: Message) -> None:
        if message.id is not None:
            if len(self._asked_by_server) >= MAX_OPEN:
                del self._asked_by_server[next(iter(self._asked_by_server))]
            self._asked_by_server[message.id] = None
        self._out.append(ToClient(message.line))

    # -- ends

    def _relay(self, item: Open, message: Message) -> None:
        item.at_server = True
        self._to_server(message.line)

    def _finish(self, item: Open, line: bytes | None) -> None:
        if item.id is not None:
            self._open.pop(item.id, None)
        self._hold(item, 0)
        item.talk = None
        self._out += [DropCopies(copies) for copies in item.copies if copies]
        for permit in item.lent:
            self._sought.end(permit)
        line = None if item.muted else line
        self._notes -= item.method == NOTE
        if item.method == LISTING:
            self._listed()
        elif item.batch is not None:
            self._settle(item.batch, line)
        elif line is not None:
            self._out.append(ToClient(line))

    def _answer(self, line: bytes, batch: Batch | None) -> None:
        if batch is not None:
            self._settle(batch, line)
        else:
            self._out.append(ToClient(line))

    def _settle(self, batch: Batch, line: bytes | None) -> None:
        if (whole := batch.settle(line)) is not None:
            self._out.append(ToClient(whole))

    def _say_once(self, about: str, sentence: str) -> None:
        if about not in self._said:
            self._said.add(about)
            self._out.append(Say(sentence))

    def _take(self) -> list[Thing]:
        out, self._out = self._out, []
        return out


def _name_of(secrets: Sequence[str]) -> str:
    """Of a task's credential: the same for each call that brings it, and shows nothing of it."""
    return hashlib.sha256("\n".join(secrets).encode("utf-8", "surrogatepass")).hexdigest()


def _permit_of(frame: Mapping[str, Any]) -> str:
    """Its id; empty where it has none."""
    permit = frame.get("permit")
    return str(permit.get("id") or "") if isinstance(permit, dict) else ""


def _cancellation(request: Id | None) -> bytes:
    """As every revision has it (MCP, "Cancellation")."""
    params = {"requestId": request, "reason": "The task was ended."}
    return encode({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
