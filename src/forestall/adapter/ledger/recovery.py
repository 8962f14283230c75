"""What is done to a log file when it is opened for writing (docs/adr/0004-log-format.md, Recovery).

The tree is rebuilt and held against the last checkpoint. An unfinished frame is a torn tail: no durable entry in it, or
behind it, was acknowledged, because those were synced, and a sync takes all that is before them along. In what no sync
has taken there is one checkpoint at most (stream.py). A disk may have taken that and not the entries before it, so one
checkpoint may stand behind what is torn. Everything else that does not check is Tampered, also a "torn" frame with more
of our checkpoints behind it: then its length was changed.

What is doubtful begins behind the last checkpoint but one: before the last was written, that one was synced, and with
it all that stands before it.
"""

from __future__ import annotations

import os
from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forestall.adapter.ledger.frames import (
    CHECKPOINT,
    ENTRY,
    MAX_ENTRY,
    PAYLOAD,
    ROOM,
    SECTOR,
    Frame,
    damaged,
    frames,
    is_room,
    read_header,
    written_end,
)
from forestall.core.canonical import parse
from forestall.core.errors import InvalidInput, Tampered
from forestall.core.merkle import Tree, leaf_hash

if TYPE_CHECKING:
    from pathlib import Path

    from forestall.adapter.ledger.checkpoint import Verifier

MARK_EVERY = 256
"""Entries between two remembered offsets: 8 bytes of memory for each, and at most 256 frames to skip in a look-up."""

_WINDOW = 4 * 1024 * 1024


@dataclass(slots=True)
class Recovered:
    """A log file as it should be from now on."""

    end: int
    """Where whole frames end; what lies beyond is cut."""
    tree: Tree = field(default_factory=Tree)
    marks: array[int] = field(default_factory=lambda: array("Q"))
    signed: int = -1
    """How many entries the last checkpoint covers; -1 without one."""
    doubtful: int = 0
    """From here on a former process may not have synced, even if the page cache has it."""
    torn: int = 0
    """Bytes beyond `end`: what was being written when the process or the machine died."""


def recover(fd: int, path: Path, verifier: Verifier) -> Recovered | None:
    """What the file holds; None where not even its header was written.

    Raises:
        Tampered: the file was changed; says which byte.
    """
    head = read_header(fd, path)
    if head is None:
        return None
    origin, start = head
    if origin != verifier.name:
        raise Tampered(f"{path}, byte 0: this is the log of {origin}; the keys are those of {verifier.name}.")
    end = os.fstat(fd).st_size
    found = _Scan(path, verifier, start)
    for frame in frames(fd, start, end, path):
        found.take(frame)
    found.finish()
    written = written_end(fd, found.recovered.end, end)
    if found.recovered.end < written:
        _require_torn(fd, path, found.recovered.end, written, verifier)
        found.recovered.torn = written - found.recovered.end
    return found.recovered


class _Scan:
    """Takes the frames of a file in order."""

    def __init__(self, path: Path, verifier: Verifier, start: int) -> None:
        self._path = path
        self._verifier = verifier
        self._last: tuple[Frame, Tree] | None = None
        self._pending: tuple[Frame, Tree] | None = None
        self._unsigned: list[Frame] = []
        self.recovered = Recovered(start, doubtful=start)

    def take(self, frame: Frame) -> None:
        state = self.recovered
        if frame.kind != PAYLOAD and self._pending is not None and self._is_cut_off():
            raise damaged(self._path, frame.start, "the payload of the entry before is missing")
        if frame.kind == ENTRY:
            self._entry(frame)
        elif frame.kind == PAYLOAD:
            if self._pending is None:
                raise damaged(self._path, frame.start, "a payload without its entry")
            self._pending = None
        elif frame.kind == CHECKPOINT:
            self._pending = None
            state.doubtful = self._last[0].end if self._last else state.doubtful
            self._last = (frame, state.tree.copy())
            self._unsigned.clear()
        state.end = frame.end

    def _entry(self, frame: Frame) -> None:
        if self._last is None:
            raise damaged(self._path, frame.start, "an entry before the first checkpoint")
        tree = self.recovered.tree
        self._pending = (frame, tree.copy())
        self._unsigned.append(frame)
        if tree.size % MARK_EVERY == 0:
            self.recovered.marks.append(frame.start)
        tree.append(leaf_hash(frame.body))

    def finish(self) -> None:
        """Verify the last checkpoint and what it does not sign; cut an entry off whose payload was torn off."""
        if self._last is not None:
            frame, tree = self._last
            self._require_checkpoint(frame, tree.size, tree.root())
            self.recovered.signed = tree.size
        for frame in self._unsigned:
            _is_sealed(frame.body, self._path, frame.start)
        if self._pending is not None and self._is_cut_off():
            frame, tree = self._pending
            self.recovered.end, self.recovered.tree = frame.start, tree
            del self.recovered.marks[-(-tree.size // MARK_EVERY) :]

    def _is_cut_off(self) -> bool:
        """Does the entry before say that a payload follows it?"""
        frame = self._pending[0] if self._pending else None
        return frame is not None and b'"sealed":true' in frame.body and _is_sealed(frame.body, self._path, frame.start)

    def _require_checkpoint(self, frame: Frame, size: int, root: bytes) -> None:
        try:
            checkpoint = self._verifier.verify(frame.body)
        except Tampered as error:
            raise damaged(self._path, frame.start, str(error).rstrip(".")) from None
        if (checkpoint.size, checkpoint.root) != (size, root):
            raise damaged(self._path, frame.start, "the entries are not those that the last checkpoint signs")


def _is_sealed(leaf: bytes, path: Path, start: int) -> bool:
    try:
        body = parse(leaf, max_bytes=MAX_ENTRY)
    except InvalidInput:
        body = None
    if not isinstance(body, dict):
        raise damaged(path, start, "the entry is not a JSON object")
    return body.get("sealed") is True


def _require_torn(fd: int, path: Path, start: int, written: int, verifier: Verifier) -> None:
    """Refuse to cut what was synced: of what a crash tore, one checkpoint of ours at most stands behind the tear.

    Not even that one where the frame ends in room, or beyond the file: then it is the length that was changed.
    """
    head = os.pread(fd, 5, start)
    if head[:1] == ROOM and not is_room(os.pread(fd, SECTOR - start % SECTOR, start)):
        raise damaged(path, start, "no frame begins here")
    whole = head[:1] == ROOM or start + 9 + int.from_bytes(head[1:], "big") <= written
    if _checkpoints(fd, path, start, written, verifier) > whole:
        raise damaged(path, start, "a frame announces more bytes than it has, and signed entries follow it")


def _checkpoints(fd: int, path: Path, start: int, end: int, verifier: Verifier) -> int:
    """How many checkpoints of ours stand between two offsets, as far as one need know: none, one, or more."""
    mark, count = f"{verifier.name}\n".encode(), 0
    for base in range(start, end, _WINDOW):
        window = os.pread(fd, _WINDOW + 2 * len(mark), base)
        found = window.find(mark)
        while 0 <= found < _WINDOW:
            count += _is_checkpoint(fd, path, base + found - 9, end, verifier)
            if count > 1:
                return count
            found = window.find(mark, found + 1)
    return count


def _is_checkpoint(fd: int, path: Path, start: int, end: int, verifier: Verifier) -> bool:
    try:
        frame = next(frames(fd, start, end, path), None)
        return frame is not None and frame.kind == CHECKPOINT and bool(verifier.verify(frame.body))
    except Tampered:
        return False
