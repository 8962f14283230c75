"""What tests of the ledger share: entries as the flow makes them, and the stand-alone verifier."""

from __future__ import annotations

import base64
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import forestall_verify
from forestall.adapter.ledger import keys as key_files
from forestall.adapter.ledger.denials import Quota
from forestall.adapter.ledger.frames import Frame, encode, frames, read_header
from forestall.adapter.ledger.keys import Keys
from forestall.adapter.ledger.log import FileLedger
from forestall.core.canonical import canonical
from forestall.core.entry import Entry, Kind, Stream

ORIGIN = "example.org/test"


def permitted(name: str, *, at: int = 1, durable: bool = True, sealed: bool = True, tool: str = "git/push") -> Entry:
    salt, arguments = hashlib.sha256(name.encode()).digest()[:16], canonical({"ref": name})
    body = {
        "task": "t1",
        "tool": tool,
        "arguments": "sha256:" + hashlib.sha256(salt + arguments).hexdigest(),
        "policies": ["p1"],
    }
    payload = b'{"arguments":' + arguments + b',"salt":"' + base64.b64encode(salt) + b'"}'
    return Entry(Stream.PERMITS, Kind.PERMITTED, name, at, body, durable, payload if sealed else None)


def settled(name: str, *, at: int = 2) -> Entry:
    body = {"task": "t1", "tool": "git/push", "fate": "done", "output": "", "detail": ""}
    return Entry(Stream.PERMITS, Kind.SETTLED, name, at, body, durable=False)


def denied(name: str, *, at: int = 3, fingerprint: str = "", sealed: bytes | None = None) -> Entry:
    body = {"task": "t1", "tool": "git/push", "reason": "forbidden", "policies": [], "detail": ""}
    return Entry(Stream.DENIALS, Kind.DENIED, name, at, body, False, sealed, fingerprint)


@dataclass
class Clock:
    """Milliseconds since the epoch, moved by hand."""

    now: int = 1_000_000

    def __call__(self) -> int:
        return self.now


@dataclass
class Place:
    """A directory with keys and a ledger."""

    root: Path

    @property
    def ledger(self) -> Path:
        return self.root / "ledger"

    @property
    def keys(self) -> Keys:
        return key_files.load_or_create(self.root / "keys", self.ledger, ORIGIN)

    @property
    def permits(self) -> Path:
        return self.ledger / "permits.log"

    @property
    def denials(self) -> Path:
        return self.ledger / "denials.log"

    def open(self, *, clock: Clock | None = None, quota: Quota | None = None) -> FileLedger:
        return FileLedger.open(self.ledger, keys=self.keys, now=clock or Clock(), quota=quota)

    def verify(self, *arguments: str) -> int:
        """The exit code of `forestall-verify` over the whole ledger."""
        return forestall_verify.main([str(self.ledger), *arguments])


def signed(ledger: FileLedger, *entries: Entry) -> None:
    """Each of them under a checkpoint of its own."""
    for entry in entries:
        ledger.append(entry)
        ledger.flush()


def ids(ledger: FileLedger, stream: Stream = Stream.PERMITS) -> list[str]:
    return [written.body["id"] for written in ledger.read(stream)]


def split(path: Path) -> tuple[bytes, list[Frame]]:
    """A log's header line and frames."""
    fd = os.open(path, os.O_RDONLY)
    try:
        head = read_header(fd, path)
        assert head is not None
        found = list(frames(fd, head[1], os.fstat(fd).st_size, path))
        return os.pread(fd, head[1], 0), found
    finally:
        os.close(fd)


def overwrite(path: Path, content: bytes) -> None:
    """In place: a file that is cut to nothing and written anew is flushed to disk by some file systems."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


def join(path: Path, head: bytes, parts: list[Frame]) -> None:
    overwrite(path, head + b"".join(encode(frame.kind, frame.body) for frame in parts))
