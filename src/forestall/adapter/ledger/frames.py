"""The bytes of a log file (docs/adr/0004-log-format.md): a header line, then frames.

A frame is its kind (1 byte), the length of its body (4 bytes, big-endian), a check (the first 4 bytes of
SHA-256(kind || length || body)) and the body. The check finds accidents and says where; the tree finds intent.

While a log is being written its file ends in room: zeros, on disk already, so that a sync has no blocks to allocate. No
frame begins with a zero. A crash can leave a part of a frame in it, in whole sectors: what is unfinished is told from
what is damaged by what is missing of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from struct import Struct
from typing import NamedTuple

from forestall.core.errors import Tampered

ENTRY, PAYLOAD, CHECKPOINT = b"E", b"P", b"C"

MAX_ENTRY = 65_535
"""Bytes of a leaf: what fits a C2SP entry bundle."""

MAX_SEALED = 16 * 1024 * 1024
"""Bytes that may be sealed beside an entry: as many as a message may have (`forestall.frame.MAX_FRAME`)."""

MAX_CHECKPOINT = 4096
"""Bytes of a signed checkpoint. Ours have about 250; the rest is room for witnesses."""

HEAD = 9
"""Bytes of a frame before its body."""

SEAL_OVERHEAD = 28
"""Bytes that sealing adds: a nonce of 12 and a tag of 16."""

LIMITS = {ENTRY: MAX_ENTRY, PAYLOAD: MAX_SEALED + SEAL_OVERHEAD, CHECKPOINT: MAX_CHECKPOINT}

MAGIC = "forestall-log 1 "
MAX_HEADER = 512
"""Bytes of the header line."""

ROOM = b"\0"
"""What stands where nothing was written yet."""

SECTOR = 512
"""Bytes that a disk writes as a whole or not at all."""

_HEAD = Struct(">cI4s")
_BLOCK = 256 * 1024


class Frame(NamedTuple):
    kind: bytes
    body: bytes
    start: int
    """Where in the file it begins."""
    end: int


def encode(kind: bytes, body: bytes) -> bytes:
    head = kind + len(body).to_bytes(4, "big")
    return b"".join((head, sha256(head + body).digest()[:4], body))


def header(origin: str) -> bytes:
    return f"{MAGIC}{origin}\n".encode()


def read_header(fd: int, path: Path) -> tuple[str, int] | None:
    """The origin that the file names, and where its frames begin; None where the file ends within the line.

    Raises:
        Tampered: the file does not begin as a log does.
    """
    line, newline, _ = os.pread(fd, MAX_HEADER, 0).partition(b"\n")
    magic = MAGIC.encode()
    if not newline and len(line) < MAX_HEADER and magic.startswith(line[: len(magic)]):
        return None
    try:
        text = line.decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if not newline or not text.startswith(MAGIC):
        raise Tampered(f"{path}, byte 0: this is not a Forestall log. Restore it from a backup.")
    return text.removeprefix(MAGIC), len(line) + 1


def frames(fd: int, start: int, end: int, path: Path) -> Iterator[Frame]:
    """The whole frames between two offsets. Room, or a last one that is unfinished, ends the iteration.

    Raises:
        Tampered: a frame's kind, length or check is wrong; says which byte.
    """
    at, base, block = start, start, b""
    while end - at >= _HEAD.size:
        if at + _HEAD.size > base + len(block):
            base, block = at, os.pread(fd, _BLOCK, at)
            if len(block) < _HEAD.size:
                return
        kind, length, check = _HEAD.unpack_from(block, at - base)
        if kind == ROOM:
            return
        if length > LIMITS.get(kind, -1):
            raise damaged(path, at, "no frame begins here")
        stop = at + _HEAD.size + length
        if stop > end:
            return
        if stop > base + len(block):
            base, block = at, os.pread(fd, max(_BLOCK, stop - at), at)
            if len(block) < stop - at:
                return
        offset = at - base
        body = block[offset + _HEAD.size : stop - base]
        if sha256(block[offset : offset + 5] + body).digest()[:4] != check:
            data = block[offset : stop - base]
            if is_unfinished(fd, at, data, end) or os.pread(fd, len(data), at) != data:  # it is being written
                return
            raise damaged(path, at, "the frame does not match its check")
        yield Frame(kind, body, at, stop)
        at = stop


def is_unfinished(fd: int, start: int, data: bytes, end: int) -> bool:
    """Is a part of a frame, of which this was read, still room: a whole sector of it, or all from somewhere on?

    `end`: of the file, with the room that follows. A writer is in the midst of it, or died there.
    """
    stop = start + len(data)
    bounds = [start, *range(start - start % SECTOR + SECTOR, stop, SECTOR), stop]
    return any(is_room(data[a - start : b - start]) for a, b in pairwise(bounds)) or (
        data.endswith(ROOM) and written_end(fd, stop, end) == stop
    )


def written_end(fd: int, start: int, end: int) -> int:
    """Where room begins, at or behind `start`."""
    while end > start:
        base = max(start, end - _BLOCK)
        written = os.pread(fd, end - base, base).rstrip(ROOM)
        if written:
            return base + len(written)
        end = base
    return start


def is_room(data: bytes) -> bool:
    return not data.strip(ROOM)


def damaged(path: Path, byte: int, what: str) -> Tampered:
    return Tampered(f"{path}, byte {byte}: {what}. The ledger was changed or damaged; restore it from a backup.")
