"""Reading a log, also while another process writes it, and without its lock.

A reader trusts nothing but frames: that entries are the signed ones is for `forestall-verify` to say.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forestall.adapter.ledger.frames import CHECKPOINT, ENTRY, MAX_ENTRY, PAYLOAD, damaged, frames, read_header
from forestall.adapter.ledger.seal import Sealer
from forestall.core.canonical import parse
from forestall.core.entry import Stream
from forestall.core.errors import InvalidInput, SetupError, Tampered, cure
from forestall.core.merkle import leaf_hash
from forestall.port import Position, Written


@dataclass(frozen=True, slots=True)
class Leaf:
    """An entry as it stands in the file."""

    position: Position
    body: bytes
    start: int
    end: int

    def written(self, path: Path) -> Written:
        """Raises Tampered where it is not the JSON object that a ledger writes."""
        try:
            body = parse(self.body, max_bytes=MAX_ENTRY)
        except InvalidInput as error:
            raise damaged(path, self.start, str(error).rstrip(".")) from None
        if not isinstance(body, dict):
            raise damaged(path, self.start, "the entry is not a JSON object")
        return Written(self.position, body)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A stream at one moment, as far as it is signed or not: what proofs are made from."""

    origin: str
    leaves: list[bytes]
    """Leaf hashes."""
    checkpoint: bytes | None
    """The last signed note; its signature is not verified here."""


def read_leaves(fd: int, start: int, end: int, first: Position, path: Path) -> Iterator[Leaf]:
    """The entries between two offsets, of which the first is `first`."""
    index = first.index
    for frame in frames(fd, start, end, path):
        if frame.kind == ENTRY:
            yield Leaf(Position(first.stream, index), frame.body, frame.start, frame.end)
            index += 1


def read_payload(fd: int, leaf: Leaf, end: int, path: Path, sealer: Sealer) -> bytes | None:
    """What was sealed beside an entry. Raises Tampered where it does not open."""
    following = next(frames(fd, leaf.end, end, path), None)
    if following is None or following.kind != PAYLOAD:
        return None
    try:
        return sealer.unseal(following.body, leaf_hash(leaf.body))
    except Tampered as error:
        raise damaged(path, following.start, str(error).rstrip(".")) from None


class LogReader:
    """The streams of a ledger's directory."""

    def __init__(self, directory: Path, sealer: Sealer | None = None) -> None:
        self._directory = directory
        self._sealer = sealer

    def path(self, stream: Stream) -> Path:
        return self._directory / f"{stream.value}.log"

    def begun(self, stream: Stream) -> bool:
        """Is there a log of this stream, with its header at least?"""
        path = self.path(stream)
        if not path.exists():
            return False
        with _opened(path) as (fd, _, _):
            return read_header(fd, path) is not None

    def read(self, stream: Stream, start: int = 0) -> Iterator[Written]:
        """Entries from `start` on, as far as they are written now.

        Raises:
            SetupError: there is no such log, or it cannot be read.
            Tampered: the file is damaged; says which byte.
        """
        for leaf in self._leaves(stream):
            if leaf.position.index >= start:
                yield leaf.written(self.path(stream))

    def cursor(self, stream: Stream) -> Cursor:
        """Reads on from where it was, for those who follow a log."""
        return Cursor(self.path(stream), stream)

    def find(self, name: str) -> list[Written]:
        """Every entry whose id is `name`, and the `repeated` ones that name it; permits first, in order."""
        needle = name.encode()
        hits = (
            leaf.written(self.path(stream)) for stream in Stream for leaf in self._leaves(stream) if needle in leaf.body
        )
        return [written for written in hits if _names(written, name)]

    def leaf(self, position: Position) -> bytes:
        """The bytes that were hashed. Raises SetupError where there is no such entry."""
        for leaf in self._leaves(position.stream):
            if leaf.position == position:
                return leaf.body
        raise _missing(position)

    def unseal(self, position: Position) -> bytes | None:
        """What was sealed beside the entry; None where nothing was, or where it was erased.

        Raises:
            SetupError: there is no such entry, or this reader has no payload key.
            Tampered: the payload does not open.
        """
        if self._sealer is None:
            raise SetupError("What was sealed opens only with the payload key; give its file.")
        path = self.path(position.stream)
        with _opened(path) as (fd, start, end):
            for leaf in read_leaves(fd, start, end, Position(position.stream, 0), path):
                if leaf.position == position:
                    return read_payload(fd, leaf, end, path, self._sealer)
        raise _missing(position)

    def snapshot(self, stream: Stream) -> Snapshot:
        path = self.path(stream)
        leaves: list[bytes] = []
        checkpoint = None
        with _opened(path) as (fd, start, end):
            origin = (read_header(fd, path) or ("", 0))[0]
            for frame in frames(fd, start, end, path):
                if frame.kind == ENTRY:
                    leaves.append(leaf_hash(frame.body))
                elif frame.kind == CHECKPOINT:
                    checkpoint = frame.body
        return Snapshot(origin, leaves, checkpoint)

    def _leaves(self, stream: Stream) -> Iterator[Leaf]:
        path = self.path(stream)
        with _opened(path) as (fd, start, end):
            yield from read_leaves(fd, start, end, Position(stream, 0), path)


class Cursor:
    """A place in a stream. Each call of `new` goes on where the one before ended."""

    def __init__(self, path: Path, stream: Stream) -> None:
        self._path = path
        self._next = Position(stream, 0)
        self._offset = 0

    def new(self) -> Iterator[Written]:
        """What was written since; raises as `LogReader.read`."""
        with _opened(self._path) as (fd, start, end):
            for leaf in read_leaves(fd, max(start, self._offset), end, self._next, self._path):
                self._next = Position(leaf.position.stream, leaf.position.index + 1)
                self._offset = leaf.end
                yield leaf.written(self._path)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[int, int, int]]:
    """A descriptor, where frames begin, and where the file ends now."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            os.close(fd)
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    except FileNotFoundError:
        raise SetupError(f"{path} does not exist: nothing was recorded yet, or --home names another place.") from None
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {cure(error)}.") from None
    try:
        head = read_header(fd, path)
        end = os.fstat(fd).st_size
        yield fd, head[1] if head else end, end
    finally:
        os.close(fd)


def _names(written: Written, name: str) -> bool:
    body: Mapping[str, Any] = written.body
    ids = body.get("ids")
    return body.get("id") == name or (isinstance(ids, list) and name in ids)


def _missing(position: Position) -> SetupError:
    return SetupError(f"There is no entry {position.index} in {position.stream.value}.")
