"""Held actions that wait for people, and what people said. Not safe to share: `LogState` holds its lock around it.

Bounded: of more holds than these, the first wait and the others cannot be approved. What expired makes room first.
A hold and each answer to it stand by themselves in the log, so either may be heard of first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from forestall.core.approval import Consent, Shown, binding_of, consent_from_json, judge, shown_from_json
from forestall.core.entry import HELD, Kind, Stream
from forestall.core.model import Action, Facts, Ruling, Subject
from forestall.core.reason import Reason
from forestall.port import Position, Waiting

MAX_OF_TASK = 32
"""Holds of one task that wait at a time: more than a person looks through before the first of them expires."""

MAX_HOLDS = 4096
"""Holds that wait at a time: those of as many tasks as there are connections by default."""

MAX_NAMES = 16
"""Ids that one hold is known by. A call that is repeated while it waits is held under another id each time."""


@dataclass(slots=True)
class Held:
    """One held action."""

    shown: Shown
    body: Mapping[str, Any]
    """Of a `held` entry, as far as its answers hold it."""
    sealed: Position
    """Beside which entry its arguments stand."""
    tree: str
    """Its task's."""
    until: int
    consents: dict[str, Consent] = field(default_factory=dict)
    names: list[str] = field(default_factory=list)
    declined: bool = False
    taken: bool = False
    """A permit uses it, or tried to."""

    def row(self) -> dict[str, Any]:
        return {
            "body": dict(self.body),
            "stream": self.sealed.stream.value,
            "index": self.sealed.index,
            "tree": self.tree,
            "until": self.until,
            "consents": [_consent_row(consent) for consent in self.consents.values()],
            "names": self.names,
            "declined": self.declined,
        }

    @classmethod
    def read(cls, hold: str, row: Mapping[str, Any]) -> Held:
        consents = [consent_from_json(one) for one in row["consents"]]
        return cls(
            shown_from_json(hold, row["body"]),
            row["body"],
            Position(Stream(row["stream"]), int(row["index"])),
            str(row["tree"]),
            int(row["until"]),
            {one.id: one for one in consents},
            [str(name) for name in row["names"]],
            bool(row["declined"]),
        )

    def waiting(self) -> Waiting:
        return Waiting(self.shown, self.body, self.sealed, self.until, tuple(self.consents.values()))


@dataclass(slots=True)
class Holds:
    changed: set[str] = field(default_factory=set)
    over: list[str] = field(default_factory=list)
    """Those that nobody waits for any more; who reads it empties it."""
    _held: dict[str, Held] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)
    """By every id that a hold is known by: its own."""
    _by_consent: dict[str, str] = field(default_factory=dict)
    _current: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """By task, tool and binding: the hold that waits for it."""
    _declined: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """By tree, tool and binding. What is declined in one task is declined in those that it is handed on to."""
    _of_task: dict[str, set[str]] = field(default_factory=dict)
    _used: dict[str, set[str]] = field(default_factory=dict)
    """By task: holds whose approvals were used. So many as people approved."""

    # -- what the log says

    def hold(self, body: Mapping[str, Any], sealed: Position, tree: str, bound: str) -> str | None:
        """An action was held. Answers the id that it waits under; None where it cannot be approved."""
        name, at = str(body["id"]), int(body["at"])
        if name in self._held:
            return name
        shown = shown_from_json(name, body, bound)
        if name in self._used.get(shown.task, ()) or sealed.index < 0:
            return None
        known = self._held.get(self._current.get(_key(shown), ""))
        if known is not None and bound:
            if _alike(known.shown, shown):
                self._rename(known, name, at + shown.lifetime_ms)
                return known.shown.hold
            self._drop(known.shown.hold)
        if not self._has_room(shown.task, at):
            return None
        self._add(Held(shown, _about(body), sealed, tree, at + shown.lifetime_ms))
        return name

    def answer(self, body: Mapping[str, Any], sealed: Position, tree: str) -> None:
        """A person approved or declined."""
        name = str(body["hold"])
        shown = shown_from_json(name, body)
        if name in self._used.get(shown.task, ()):
            return
        held = self._held.get(name)
        if held is None:
            held = Held(shown, _about(body), sealed, tree, int(body["at"]) + shown.lifetime_ms)
            self._add(held)
        if body["kind"] == Kind.DECLINED:
            held.declined = True
            self._decline(held)
        else:
            consent = consent_from_json(body)
            held.consents[consent.id] = consent
            self._by_consent[consent.id] = name
        self.changed.add(name)

    def use(self, consents: Iterable[str]) -> None:
        """A permit names them: they are good for nothing any more."""
        for hold in {self._by_consent[one] for one in consents if one in self._by_consent}:
            held = self._held[hold]
            self._used.setdefault(held.shown.task, set()).add(hold)
            self._drop(hold)

    def end(self, task: str) -> None:
        """A task is over, and with it what it waited for."""
        self._used.pop(task, None)
        ended = list(self._of_task.pop(task, ()))
        for name in (*ended, *{name for key, name in self._declined.items() if key[0] == task}):
            self._drop(name)

    # -- what is asked

    def take(self, asked: Action, asker: Subject, ruling: Ruling, facts: Facts, tree: str) -> tuple[str, ...] | Reason:
        """As `port.State.take_approval` says."""
        bound = binding_of(asked, facts)
        if (tree, asked.tool, bound) in self._declined:
            return Reason.NOT_APPROVED
        held = self._held.get(self._current.get((asked.task, asked.tool, bound), ""))
        if held is None or held.taken:
            return Reason.NEEDS_APPROVAL
        found = judge(held.shown, held.consents.values(), asked, asker, ruling, facts)
        if isinstance(found, Reason):
            over = found is Reason.APPROVAL_EXPIRED or (not held.consents and asked.at >= held.until)
            if over:
                self._drop(held.shown.hold)
            return Reason.APPROVAL_EXPIRED if over else found
        held.taken = True
        del self._current[_key(held.shown)]
        self.over.append(held.shown.hold)
        return found

    def find(self, name: str) -> Held | None:
        held = self._held.get(self._names.get(name, ""))
        return None if held is None or held.taken or held.declined else held

    def fate(self, name: str) -> Literal["waits", "used", "declined", "gone"]:
        held = self._held.get(self._names.get(name, ""))
        if held is None:
            return "used" if any(name in used for used in self._used.values()) else "gone"
        return "used" if held.taken else "declined" if held.declined else "waits"

    def all(self) -> Iterator[Held]:
        """Those that wait, the oldest first."""
        return (held for held in self._held.values() if not held.taken and not held.declined)

    def expire(self, at: int) -> None:
        """Nobody waits any more for what ran out. Whoever asks for it again is told so, once."""
        self.over += [name for name, held in self._held.items() if _over(held, at)]

    # -- the index

    def row(self, name: str) -> dict[str, Any] | None:
        held = self._held.get(name)
        return None if held is None else held.row()

    def load(self, name: str, row: Mapping[str, Any]) -> None:
        held = Held.read(name, row)
        self._add(held)
        for other in held.names:
            self._names[other] = name
        for consent in held.consents:
            self._by_consent[consent] = name
        self.changed.discard(name)

    def unbound(self) -> list[tuple[str, Position]]:
        """Holds that the log or the index told of, of which it is not known yet what exactly was held."""
        return [(name, held.sealed) for name, held in self._held.items() if not held.shown.binding]

    def bind(self, name: str, bound: str) -> None:
        """What exactly was held; empty where that is lost: then nobody can approve it."""
        held = self._held[name]
        if not bound:
            self._drop(name)
            return
        held.shown = replace(held.shown, binding=bound)
        other = self._held.get(self._current.get(_key(held.shown), ""))
        if held.declined:
            self._decline(held)
        elif other is not None and other.consents and _alike(other.shown, held.shown):
            self._drop(name)
            self._rename(other, name, held.until)
        else:
            if other is not None:
                self._drop(other.shown.hold)
            self._current[_key(held.shown)] = name

    # -- inside

    def _add(self, held: Held) -> None:
        name, task = held.shown.hold, held.shown.task
        self._held[name] = held
        self._names[name] = name
        self._of_task.setdefault(task, set()).add(name)
        if held.shown.binding and not held.declined:
            self._current[_key(held.shown)] = name
        self.changed.add(name)

    def _rename(self, held: Held, name: str, until: int) -> None:
        held.until = max(held.until, until)
        held.names.append(name)
        self._names[name] = held.shown.hold
        if len(held.names) > MAX_NAMES:
            del self._names[held.names.pop(0)]
        self.changed.add(held.shown.hold)

    def _decline(self, held: Held) -> None:
        """It waits no more, and is remembered for as long as its tree lives."""
        shown = held.shown
        self._of_task.get(shown.task, set()).discard(shown.hold)
        if self._current.get(_key(shown)) == shown.hold:
            del self._current[_key(shown)]
        self._declined[held.tree, shown.tool, shown.binding or shown.hold] = shown.hold
        self.over.append(shown.hold)

    def _drop(self, name: str) -> None:
        held = self._held.pop(name)
        for known in (name, *held.names):
            self._names.pop(known, None)
        for consent in held.consents:
            self._by_consent.pop(consent, None)
        self._of_task.get(held.shown.task, set()).discard(name)
        if self._current.get(_key(held.shown)) == name:
            del self._current[_key(held.shown)]
        for key in [key for key, declined in self._declined.items() if declined == name]:
            del self._declined[key]
        self.changed.add(name)
        self.over.append(name)

    def _has_room(self, task: str, at: int) -> bool:
        if len(self._of_task.get(task, ())) < MAX_OF_TASK and len(self._held) < MAX_HOLDS:
            return True
        for name in [name for name, held in self._held.items() if _over(held, at)]:
            self._drop(name)
        return len(self._of_task.get(task, ())) < MAX_OF_TASK and len(self._held) < MAX_HOLDS


def _key(shown: Shown) -> tuple[str, str, str]:
    return shown.task, shown.tool, shown.binding


def _about(body: Mapping[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name in HELD if name in body}


def _alike(one: Shown, other: Shown) -> bool:
    """Is the same shown to a person?"""
    return one == replace(other, hold=one.hold)


def _over(held: Held, at: int) -> bool:
    ends = max((consent.expires_at for consent in held.consents.values()), default=held.until)
    return not held.declined and not held.taken and at >= max(ends, held.until)


def _consent_row(consent: Consent) -> dict[str, Any]:
    return {
        "id": consent.id,
        "uid": consent.approver.uid,
        "names": sorted(consent.approver.names),
        "assurance": consent.approver.assurance.value,
        "expires_at": consent.expires_at,
    }
