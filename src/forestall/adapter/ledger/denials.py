"""What is written of a flood of denials: the first of each kind, then counts (docs/adr/0004-log-format.md).

An agent that was taken over retries at machine speed. Its denials must not fill the disk, nor push each other out of
the record. Pure but for the clock that is passed in; holds a bounded amount of memory, about 5 MB at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from forestall.core.entry import Entry, Kind, Stream

WINDOW_MS = 60_000
"""Milliseconds in which an identical denial is counted and not written, and that a quota covers."""

ENTRIES_PER_MINUTE = 600
"""Denials written in a minute: ten a second is more than a person reads, and more than an honest agent gets."""

BYTES_PER_MINUTE = 8 * 1024 * 1024
"""Bytes written in a minute, sealed arguments included: half a message of the largest size, or 600 of 14 KB."""

TOTAL_BYTES = 4 * 1024 * 1024 * 1024
"""Bytes of the stream after which denials are only counted: eight hours of flood without a pause."""

ROOM_FOR_HOLDS = 8
"""One part in so many comes on top of each bound for holds alone: what is not written nobody can approve, and a flood
of denials is to keep nobody from that.
"""

MAX_REPETITIONS = 4096
"""Denials whose repetitions are counted at a time. With one more, the oldest is closed early."""

MAX_IDS = 16
"""Ids of repetitions that a `repeated` entry names: those that an agent is told first."""

SUPPRESSED = -1
"""The index of a denial that was only counted."""

COPIED = ("task", "tool", "reason")
"""What a `repeated` entry takes over from the first, so that it can be found by it."""

Write = Callable[[Entry], object]


@dataclass(frozen=True, slots=True)
class Quota:
    entries: int = ENTRIES_PER_MINUTE
    bytes: int = BYTES_PER_MINUTE
    total: int = TOTAL_BYTES
    repetitions: int = MAX_REPETITIONS


@dataclass(slots=True)
class _Repetition:
    """One denial that may come again."""

    id: str
    kind: Kind
    copied: dict[str, Any]
    index: int
    since: int
    last_at: int = 0
    count: int = 0
    ids: list[str] = field(default_factory=list)

    def entry(self, now: int) -> Entry:
        body = {**self.copied, "first": self.id, "of": self.kind.value, "count": self.count}
        return _counted(Kind.REPEATED, self.id, now, {**body, "last_at": self.last_at, "ids": self.ids})


class Denials:
    """Which denials are written. Not safe to call from several threads; its caller holds a lock.

    A denial goes: `close_due`, `repeats`, `admits`, then it is written, and `placed`.
    """

    def __init__(self, quota: Quota) -> None:
        self._quota = quota
        self._repetitions: dict[str, _Repetition] = {}
        self._since = 0
        self._entries = 0
        self._bytes = 0
        self._suppressed = 0

    def close_due(self, now: int, write: Write, *, everything: bool = False) -> None:
        """Write the counts of what is over. What `write` raises leaves the count to be written later."""
        while self._repetitions:
            fingerprint, oldest = next(iter(self._repetitions.items()))
            if not everything and _within(oldest.since, now):
                break
            self._close(fingerprint, now, write)
        if everything or not _within(self._since, now):
            self._close_minute(now, write)

    def repeats(self, entry: Entry) -> int | None:
        """The index of the denial that this one repeats, which is thereby counted; None where it is the first."""
        found = self._repetitions.get(entry.fingerprint) if entry.fingerprint else None
        if found is None:
            return None
        found.count += 1
        found.last_at = entry.at
        if len(found.ids) < MAX_IDS:
            found.ids.append(entry.id)
        return found.index

    def admits(self, size: int, total: int, *, held: bool = False) -> bool:
        """May an entry of `size` bytes be written to a stream of `total`? If not, it is thereby counted.

        `held`: it is a hold, for which there is room that no denial takes.
        """
        quota = self._quota

        def most(limit: int) -> int:
            return limit + limit // ROOM_FOR_HOLDS if held else limit

        of_entries = self._entries < most(quota.entries)
        if of_entries and self._bytes + size <= most(quota.bytes) and total + size <= most(quota.total):
            self._entries += 1
            self._bytes += size
            return True
        self._suppressed += 1
        return False

    def placed(self, entry: Entry, index: int, now: int, write: Write) -> None:
        """It was written at `index`; from now on its repetitions are counted."""
        if not entry.fingerprint:
            return
        if len(self._repetitions) >= self._quota.repetitions:
            self._close(next(iter(self._repetitions)), now, write)
        copied = {name: entry.body[name] for name in COPIED if name in entry.body}
        self._repetitions[entry.fingerprint] = _Repetition(entry.id, entry.kind, copied, index, now)

    def due_in(self, now: int) -> int | None:
        """Milliseconds until there is a count to write; None where nothing is counted."""
        since = [one.since for one in self._repetitions.values() if one.count]
        if self._suppressed:
            since.append(self._since)
        return max(0, min(since) + WINDOW_MS - now) if since else None

    def _close(self, fingerprint: str, now: int, write: Write) -> None:
        repetition = self._repetitions[fingerprint]
        if repetition.count:
            write(repetition.entry(now))
        del self._repetitions[fingerprint]

    def _close_minute(self, now: int, write: Write) -> None:
        if self._suppressed:
            body = {"count": self._suppressed, "from": self._since, "until": now}
            write(_counted(Kind.SUPPRESSED, f"suppressed-{self._since}", now, body))
        self._since, self._entries, self._bytes, self._suppressed = now, 0, 0, 0


def _within(since: int, now: int) -> bool:
    """A clock that stepped back ends a window: it must not hold counts for ever."""
    return since <= now < since + WINDOW_MS


def _counted(kind: Kind, name: str, now: int, body: dict[str, Any]) -> Entry:
    return Entry(Stream.DENIALS, kind, name, now, body, durable=False)
