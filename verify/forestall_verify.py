"""Checks a Forestall ledger, or one proof from it, offline. Stand-alone: it shares no code with what wrote the ledger.

A ledger is two files, `permits.log` and `denials.log`. Each is a header line `forestall-log 1 <origin>` and frames:
kind (1 byte), length (4, big-endian), check (4: the start of SHA-256(kind || length || body)), body. The kinds are

  E  an entry: a JSON object, the leaf of an RFC 6962 tree
  P  the payload sealed beside the entry before it: nonce (12), AES-256-GCM ciphertext, tag; associated data: leaf hash
  C  a C2SP checkpoint, signed with Ed25519, over every entry before it

While it is being written, and after its writer was killed, a file ends in room: zeros, where frames will stand.

Nothing is believed that was not recomputed here. Whatever is not understood is refused.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

STREAMS = ("permits", "denials")
MAX_HEADER = 512
LIMITS = {b"E": 65_535, b"P": 16 * 1024 * 1024 + 28, b"C": 4096}
"""Bytes a frame's body may have; nothing larger is ever read into memory."""
HEAD = 9
"""Bytes of a frame before its body."""
SECTOR = 512
"""Bytes that a disk writes as a whole or not at all."""
BLOCK = 1024 * 1024
NOTE = rb"\n[0-9]{1,16}\n[A-Za-z0-9+/]{43}=\n\n(?:\xe2\x80\x94 [^\n]+\n)+"
"""A checkpoint behind its origin."""
MAX_SMALL_FILE = 1024 * 1024
"""Bytes of a key, a proof, a leaf or a remembered checkpoint."""

ROLLBACK = (
    "Whether the ledger was rolled back to an older signed state cannot be seen from its files alone; "
    "it is detected only with --remembered."
)
EPILOG = f"""\
{ROLLBACK}

exit codes:
  0   everything verifies
  2   the command line is wrong
  76  something does not verify
  78  a ledger, key or proof is missing or cannot be read
  130 interrupted

examples:
  forestall-verify ~/.forestall/ledger
  forestall-verify ~/.forestall/ledger --live --remembered seen --write-remembered seen
  forestall-verify --proof entry.tlog-proof --key log.pub
"""


class RefusedError(Exception):
    """The evidence does not verify; says where."""


class UnusableError(Exception):
    """There is nothing that could be verified."""


@dataclass
class Report:
    """What was verified of one stream."""

    stream: str
    origin: str
    key_id: str
    entries: int = 0
    checkpoints: int = 0
    unsigned: int = 0
    """Entries after the last checkpoint; only with --live."""
    unfinished: int = 0
    """Bytes of a group that is being written; only with --live."""
    payloads: int = 0
    erased: int = 0
    opened: int = 0
    root: str = ""
    checkpoint: str = field(default="", repr=False)

    def sentences(self) -> str:
        text = f"{self.stream}: {_count(self.entries, 'entry', 'entries')}, "
        text += f"{_count(self.checkpoints, 'checkpoint')}; all verify.\n"
        text += f"  root    {self.root}\n  origin  {self.origin}\n  key id  {self.key_id}"
        if self.payloads:
            text += f"\n  {_count(self.payloads, 'payload')}, {self.opened} opened and matched, {self.erased} erased."
        if self.unsigned or self.unfinished:
            text += (
                f"\n  {_count(self.unsigned, 'entry', 'entries')} not yet signed, {self.unfinished} bytes unfinished."
            )
        return text


# -- hashes and proofs: RFC 6962, and the algorithms of RFC 9162


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\0" + entry).digest()


class Tree:
    """`_complete[k]` is the root of a complete subtree of 2^k leaves, where the size has that bit."""

    def __init__(self) -> None:
        self._complete: dict[int, bytes] = {}
        self.size = 0

    def add(self, leaf: bytes) -> None:
        level = 0
        while level in self._complete:
            leaf = sha256(b"\1" + self._complete.pop(level) + leaf).digest()
            level += 1
        self._complete[level] = leaf
        self.size += 1

    def root(self) -> bytes:
        levels = sorted(self._complete)
        if not levels:
            return sha256(b"").digest()
        value = self._complete[levels[0]]
        for level in levels[1:]:
            value = sha256(b"\1" + self._complete[level] + value).digest()
        return value


def root_by_path(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes:
    """The root that an inclusion proof leads to, by the definition of RFC 6962 2.1.1."""
    if not 0 <= index < size:
        raise RefusedError(f"The proof is for entry {index} of a tree of {size}.")
    if size == 1:
        if path:
            raise RefusedError("The proof is longer than the tree is deep.")
        return leaf
    if not path:
        raise RefusedError("The proof is shorter than the tree is deep.")
    split = 1 << ((size - 1).bit_length() - 1)
    if index < split:
        return sha256(b"\1" + root_by_path(leaf, index, split, path[:-1]) + path[-1]).digest()
    return sha256(b"\1" + path[-1] + root_by_path(leaf, index - split, size - split, path[:-1])).digest()


# -- C2SP signed notes


class Key:
    """An Ed25519 verifier key: `name+key id in hex+base64(0x01 || key)`."""

    def __init__(self, text: str) -> None:
        self.name, _, rest = text.partition("+")
        key_id, _, encoded = rest.partition("+")
        raw = unbase64(encoded) or b""
        if not self.name or re.search(r"[\s\x00-\x20\x7f]", self.name) or len(raw) != 33 or raw[0] != 1:
            raise UnusableError("A verifier key is not an Ed25519 key of the form name+key id+base64.")
        self.id = sha256(self.name.encode() + b"\n" + raw).digest()[:4]
        if self.id.hex() != key_id:
            raise UnusableError(f"The verifier key of {self.name} does not match its own key id.")
        self.public = Ed25519PublicKey.from_public_bytes(raw[1:])


@dataclass(frozen=True)
class Checkpoint:
    origin: str
    size: int
    root: bytes


def open_note(note: bytes, keys: dict[str, Key]) -> Checkpoint:
    """A checkpoint whose signature verifies under the key that is named like its origin."""
    if len(note) > LIMITS[b"C"]:
        raise RefusedError("A checkpoint is too large.")
    match = re.fullmatch(rb"(([^\n]+)\n(0|[1-9][0-9]{0,15})\n([A-Za-z0-9+/]{43}=)\n)\n((?:[^\n]+\n)+)", note)
    root = unbase64(match[4].decode()) if match else None
    if match is None or root is None:
        raise RefusedError("A checkpoint is malformed.")
    origin = match[2].decode("utf-8", "replace")
    key = keys.get(origin)
    if key is None:
        raise RefusedError(f"A checkpoint is of {origin}, and no key has that name.")
    _require_signature(match[1], match[5].decode("utf-8", "replace").splitlines(), key)
    return Checkpoint(origin, int(match[3]), root)


def _require_signature(text: bytes, lines: Sequence[str], key: Key) -> None:
    prefix = f"\u2014 {key.name} "
    signatures = [unbase64(line[len(prefix) :]) or b"" for line in lines if line.startswith(prefix)]
    mine = [signature[4:] for signature in signatures if signature[:4] == key.id]
    if not mine:
        raise RefusedError(f"A checkpoint is not signed with key id {key.id.hex()} of {key.name}.")
    for signature in mine:
        try:
            key.public.verify(signature, text)
        except InvalidSignature:
            raise RefusedError("The signature under a checkpoint is forged or damaged.") from None


def unbase64(text: str) -> bytes | None:
    """Only the canonical spelling: two texts never mean one value."""
    try:
        value = base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return value if base64.b64encode(value).decode() == text else None


# -- one stream


class Stream:
    """Reads a log from its first byte to its last, and holds it against everything that it has to satisfy."""

    def __init__(self, path: Path, stream: str, keys: dict[str, Key], remembered: dict[str, Checkpoint]) -> None:
        self.path = path
        self.stream = stream
        self.keys = keys
        self.remembered = remembered
        self.cipher: AESGCM | None = None
        self.tree = Tree()
        self.signed = -1
        self.permits: set[bytes] = set()
        self.unsealed: bytes | None = None
        """The entry whose payload has to come next."""

    def verify(self, *, live: bool, payload_key: bytes | None) -> Report:
        self.cipher = AESGCM(payload_key) if payload_key is not None else None
        try:
            with self.path.open("rb") as file:
                return self._verify(file, live=live)
        except OSError as error:
            raise UnusableError(f"{self.path} cannot be read: {error.strerror}.") from None

    def _verify(self, file: BinaryIO, *, live: bool) -> Report:
        report = self._header(file)
        at = file.tell()
        self._hold_against_memory(report.origin, at)
        for at, kind, body in self._frames(file, report, live=live):
            self._require_payload(kind, at)
            if kind == b"E":
                self._entry(body, at)
                self._hold_against_memory(report.origin, at)
            elif kind == b"P":
                self._payload(body, at, report)
            else:
                self._checkpoint(body, at, report)
        self._end(report, at, live=live)
        return report

    def _header(self, file: BinaryIO) -> Report:
        line = file.readline(MAX_HEADER)
        match = re.fullmatch(rb"forestall-log 1 ([!-*,-~]+)\n", line)
        origin = match[1].decode() if match else ""
        if not origin.endswith(f"/{self.stream}"):
            raise self._refused(0, f"this is not a log of {self.stream}")
        key = self.keys.get(origin)
        if key is None:
            raise UnusableError(f"No key is named {origin}, which {self.path} says it is; give its log.pub with --key.")
        return Report(self.stream, origin, key.id.hex())

    def _frames(self, file: BinaryIO, report: Report, *, live: bool) -> Iterator[tuple[int, bytes, bytes]]:
        while True:
            at = file.tell()
            head = file.read(HEAD)
            kind, length = head[:1], int.from_bytes(head[1:5], "big")
            announced = len(head) == HEAD and kind in LIMITS and length <= LIMITS[kind]
            body = file.read(length) if announced else b""
            if announced and len(body) == length and sha256(head[:5] + body).digest()[:4] == head[5:]:
                yield at, kind, body
                continue
            try:
                self._require_unfinished(file, at, head, body, report, live=live)
            except RefusedError:
                if live and self._was_written_since(file, at, head + body):
                    continue
                raise
            return

    def _require_unfinished(
        self, file: BinaryIO, at: int, head: bytes, body: bytes, report: Report, *, live: bool
    ) -> None:
        """What is no whole frame is room, or a group that was not written to its end."""
        kind, length = head[:1], int.from_bytes(head[1:5], "big")
        if kind not in LIMITS and head.strip(b"\0") and not self._begins_in_room(file, at):
            raise self._refused(at, "no frame begins here")
        if len(head) == HEAD and length > LIMITS.get(kind, length):
            raise self._refused(at, "no frame begins here")
        whole = kind in LIMITS and len(head) == HEAD and len(body) == length
        if whole and not self._has_room_in_it(file, at, head + body):
            raise self._refused(at, "the frame does not match its check")
        self._unfinished(file, at, at + HEAD + length if kind in LIMITS else at, report, live=live)

    def _was_written_since(self, file: BinaryIO, at: int, seen: bytes) -> bool:
        """A log may grow while it is read, and what seemed to follow an unfinished frame was written after it.

        The next read is a new one.
        """
        file.seek(0, os.SEEK_END)  # beyond what is buffered, so that nothing of it is used
        file.seek(at)
        return os.pread(file.fileno(), len(seen), at) != seen

    def _begins_in_room(self, file: BinaryIO, at: int) -> bool:
        file.seek(at)
        return not file.read(SECTOR - at % SECTOR).strip(b"\0")

    def _has_room_in_it(self, file: BinaryIO, at: int, frame: bytes) -> bool:
        """Was a part of it not written: a whole sector, or all from somewhere on?"""
        cuts = [0, *range(SECTOR - at % SECTOR, len(frame), SECTOR), len(frame)]
        if any(not frame[a:b].strip(b"\0") for a, b in pairwise(cuts)):
            return True
        file.seek(at + len(frame))
        return frame.endswith(b"\0") and not any(block.strip(b"\0") for block in iter(lambda: file.read(BLOCK), b""))

    def _unfinished(self, file: BinaryIO, at: int, stop: int, report: Report, *, live: bool) -> None:
        """What follows the last whole frame: room, or what was being written.

        A disk may have taken the end of what no sync had covered and not its beginning, so one whole checkpoint may
        follow. But where the frame that says that it ends at `stop` ends in room, not even that: then its length was
        changed.
        """
        whole = re.compile(b"C.{8}" + re.escape(report.origin.encode()) + NOTE, re.DOTALL)
        written, found, tail, base = at, 0, b"", at
        file.seek(at)
        for block in iter(lambda: file.read(BLOCK), b""):
            if block.strip(b"\0"):
                written = base + len(block.rstrip(b"\0"))
            window = tail + block
            ends = [match.end() for match in whole.finditer(window)]
            found += len(ends)
            tail, base = window[max([len(window) - LIMITS[b"C"], *ends]) :], base + len(block)
        if found > (stop <= written):
            raise self._refused(at, "the frame announces more bytes than it has, and a checkpoint follows it")
        if written > at and not live:
            raise self._refused(at, "the last frame is incomplete; if there was a crash, a restart repairs it")
        report.unfinished = written - at

    def _entry(self, body: bytes, at: int) -> None:
        entry = self._parsed(body, at)
        name = sha256(entry["id"].encode()).digest()[:16]
        if self.stream != "permits" and entry["kind"] in ("permitted", "settled"):
            raise self._refused(at, "a permit stands among the denials")
        if entry["kind"] == "permitted":
            if name in self.permits:
                raise self._refused(at, f"the permit {entry['id']!r} was used before")
            self.permits.add(name)
        elif entry["kind"] == "settled" and name not in self.permits:
            raise self._refused(at, f"{entry['id']!r} is settled, and was never permitted")
        self.tree.add(leaf_hash(body))
        self.unsealed = body if "sealed" in entry else None

    def _parsed(self, body: bytes, at: int) -> dict[str, Any]:
        try:
            entry = parse_object(body)
        except RefusedError as error:
            raise self._refused(at, str(error)) from None
        expected = (entry.get("format"), entry.get("stream"), entry.get("sealed", True)) == (1, self.stream, True)
        texts = [entry.get("kind"), entry.get("id")]
        if not expected or type(entry.get("at")) is not int or not all(isinstance(t, str) and t for t in texts):
            raise self._refused(at, "the entry is not one of this stream's: format, stream, kind, id or at")
        return entry

    def _require_payload(self, kind: bytes, at: int) -> None:
        if (self.unsealed is None) is (kind == b"P"):
            what = "a payload without its entry" if kind == b"P" else "the payload of the entry before is missing"
            raise self._refused(at, what)

    def _payload(self, body: bytes, at: int, report: Report) -> None:
        entry, self.unsealed = self.unsealed or b"", None
        report.payloads += 1
        if len(body) < 28:
            raise self._refused(at, "the payload is too short to be one")
        if not any(body[12:]):
            report.erased += 1
        elif self.cipher is not None:
            try:
                plain = self.cipher.decrypt(body[:12], body[12:], leaf_hash(entry))
            except InvalidTag:
                raise self._refused(at, "the payload does not open with this key beside this entry") from None
            self._require_commitment(plain, entry, at)
            report.opened += 1

    def _require_commitment(self, plain: bytes, entry: bytes, at: int) -> None:
        """A payload of arguments has the form {"arguments":A,"paths":P,"references":R,"salt":S}; P and R where there
        are any.

        The entry commits to SHA-256(salt || A) as `arguments`, to SHA-256(salt || P) as `paths`, and to
        SHA-256(salt || R) as `references`.
        """
        committed = parse_object(entry)
        if committed.get("arguments") is None:
            return
        try:
            forms = members_as_written(plain)
        except RefusedError:
            raise self._refused(at, "the payload is not a JSON object in canonical form") from None
        salt = unbase64(forms.get("salt", b"").decode().strip('"'))
        for name in ("arguments", "paths", "references"):
            form = forms.get(name)
            found = None if form is None or salt is None else "sha256:" + sha256(salt + form).hexdigest()
            if committed.get(name) != found:
                raise self._refused(at, f"the sealed {name} are not those that the entry commits to")

    def _checkpoint(self, body: bytes, at: int, report: Report) -> None:
        try:
            checkpoint = open_note(body, self.keys)
        except RefusedError as error:
            raise self._refused(at, str(error).rstrip(".")) from None
        if checkpoint.origin != report.origin:
            raise self._refused(at, "the checkpoint is of another log")
        if checkpoint.size <= self.signed:
            raise self._refused(at, "the checkpoint does not extend the one before")
        if (checkpoint.size, checkpoint.root) != (self.tree.size, self.tree.root()):
            raise self._refused(at, "the entries before are not those that the checkpoint signs")
        self.signed = checkpoint.size
        report.checkpoints += 1
        report.checkpoint = body.decode()

    def _hold_against_memory(self, origin: str, at: int) -> None:
        known = self.remembered.get(origin)
        if known is not None and known.size == self.tree.size and known.root != self.tree.root():
            raise self._refused(at, f"the first {known.size} entries are not those remembered: the history was forked")

    def _end(self, report: Report, at: int, *, live: bool) -> None:
        report.entries = self.tree.size
        report.root = base64.b64encode(self.tree.root()).decode()
        report.unsigned = self.tree.size - max(self.signed, 0)
        if self.signed < 0:
            raise self._refused(at, "there is no checkpoint")
        if not live and (report.unsigned or self.unsealed is not None):
            how = "--live accepts that while the ledger is written"
            raise self._refused(at, f"the last {report.unsigned} entries are not signed; {how}")
        known = self.remembered.get(report.origin)
        if known is not None and known.size > self.tree.size:
            what = f"{known.size} entries are remembered and {self.tree.size} are here: the ledger was rolled back"
            raise self._refused(at, what)

    def _refused(self, at: int, what: str) -> RefusedError:
        return RefusedError(f"{self.path}, byte {at}: {what}.")


def parse_object(body: bytes) -> dict[str, Any]:
    """The JSON object that every reader sees in these bytes."""
    try:
        value = json.loads(body.decode(), object_pairs_hook=_members, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise RefusedError("the entry is not JSON, or has two members of one name") from None
    if not isinstance(value, dict):
        raise RefusedError("the entry is not a JSON object")
    return value


def members_as_written(body: bytes) -> dict[str, bytes]:
    """The members of a canonical JSON object, each as the bytes that it was written with."""
    parse_object(body)
    text, at = body.decode(), 1
    members: dict[str, bytes] = {}
    decoder = json.JSONDecoder()
    try:
        while at < len(text) - 1:
            name, colon = decoder.raw_decode(text, at)
            _, end = decoder.raw_decode(text, colon + 1)
            members[name] = text[colon + 1 : end].encode()
            at = end + 1
    except ValueError:
        raise RefusedError("there is white space between the members") from None
    return members


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a member occurs twice")
    return value


def _no_constant(name: str) -> None:
    raise ValueError(name)


# -- proofs of a single entry: c2sp.org/tlog-proof@v1


def verify_proof(text: bytes, leaf: bytes | None, keys: dict[str, Key]) -> str:
    """A sentence about the entry that is proved. Our proofs carry the entry in `extra`; `leaf` takes precedence."""
    head, _, note = text.partition(b"\n\n")
    lines = head.decode("ascii", "replace").split("\n")
    if lines.pop(0) != "c2sp.org/tlog-proof@v1":
        raise RefusedError("This is not a c2sp.org/tlog-proof@v1.")
    extra = unbase64(lines.pop(0)[6:]) if lines and lines[0].startswith("extra ") else None
    index = re.fullmatch(r"index (0|[1-9][0-9]{0,15})", lines.pop(0)) if lines else None
    path = [unbase64(line) or b"" for line in lines]
    if index is None or len(path) > 64 or any(len(step) != 32 for step in path):
        raise RefusedError("The proof is malformed.")
    leaf = extra if leaf is None else leaf
    if leaf is None:
        raise UnusableError("The proof does not carry its entry; give the entry with --leaf.")
    if extra is not None and leaf != extra:
        raise RefusedError("The entry in the proof is not the one given with --leaf.")
    checkpoint = open_note(note, keys)
    if root_by_path(leaf_hash(leaf), int(index[1]), checkpoint.size, path) != checkpoint.root:
        raise RefusedError("The proof does not lead from this entry to the signed root.")
    entry = parse_object(leaf)
    what = f"{printable(entry.get('kind'))} {printable(entry.get('id'))}"
    return f"Entry {index[1]} ({what}) is in {checkpoint.origin}, signed at {checkpoint.size} entries."


# -- files and the command line


def read_small(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_SMALL_FILE + 1)
    except OSError as error:
        raise UnusableError(f"{path} cannot be read: {error.strerror}.") from None
    if len(content) > MAX_SMALL_FILE:
        raise UnusableError(f"{path} is larger than {MAX_SMALL_FILE} bytes.")
    return content


def load_keys(given: Sequence[str]) -> dict[str, Key]:
    """By name, from verifier keys or files of them, one a line."""
    texts: list[str] = []
    for text in given:
        is_key = re.fullmatch(r"[^+\s]+\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+", text)
        texts += [text] if is_key else read_small(Path(text)).decode("utf-8", "replace").splitlines()
    keys = {key.name: key for key in map(Key, filter(None, map(str.strip, texts)))}
    if not keys:
        raise UnusableError("There is no verifier key; give one with --key.")
    return keys


def load_remembered(path: Path, keys: dict[str, Key]) -> dict[str, Checkpoint]:
    """By origin, from signed notes, each followed by an empty line."""
    blocks = read_small(path).strip(b"\n").split(b"\n\n")
    if len(blocks) % 2:
        raise UnusableError(f"{path} does not hold remembered checkpoints.")
    notes = [text + b"\n\n" + signatures + b"\n" for text, signatures in zip(blocks[::2], blocks[1::2], strict=True)]
    return {checkpoint.origin: checkpoint for checkpoint in (open_note(note, keys) for note in notes)}


def write_remembered(path: Path, reports: Sequence[Report]) -> None:
    content = "\n".join(report.checkpoint for report in reports)
    try:
        fd, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=path.name)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except OSError as error:
        raise UnusableError(f"{path} cannot be written: {error.strerror}.") from None


def load_payload_key(path: Path | None) -> bytes | None:
    if path is None:
        return None
    key = unbase64(read_small(path).decode("ascii", "replace").strip())
    if key is None or len(key) != 32:
        raise UnusableError(f"{path} is not a payload key, which is 32 bytes in base64; give keys/payload.key.")
    return key


def verify_ledger(args: argparse.Namespace) -> list[Report]:
    if not args.directory.is_dir():
        raise UnusableError(f"{args.directory} is not a directory; name that of permits.log and denials.log.")
    beside = args.directory.resolve().parent / "keys" / "log.pub"
    if not args.key and not beside.exists():
        raise UnusableError(f"{beside} is missing; give the verifier key with --key.")
    keys = load_keys(args.key or [str(beside)])
    remembered = load_remembered(args.remembered, keys) if args.remembered else {}
    payload_key = load_payload_key(args.payload_key)
    reports = []
    for name in STREAMS:
        stream = Stream(args.directory / f"{name}.log", name, keys, remembered)
        reports.append(stream.verify(live=args.live, payload_key=payload_key))
        if args.remembered and reports[-1].origin not in remembered:
            raise UnusableError(f"{args.remembered} does not remember {reports[-1].origin}.")
    if len({report.origin.removesuffix(f"/{report.stream}") for report in reports}) != 1:
        raise RefusedError("The two logs are not of one ledger.")
    if args.write_remembered:
        write_remembered(args.write_remembered, reports)
    return reports


def printable(value: object) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(value))


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"forestall-verify: {message.removeprefix('argument ')}; see forestall-verify --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="forestall-verify",
        description="Checks a Forestall ledger, or one proof from it, offline.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("directory", metavar="DIR", nargs="?", type=Path, help="the ledger: permits.log and denials.log")
    add("--key", action="append", metavar="KEY", help="a verifier key, or a file of them (else DIR/../keys/log.pub)")
    add("--remembered", metavar="FILE", type=Path, help="checkpoints seen before: the ledger must extend them")
    add("--write-remembered", metavar="FILE", type=Path, help="remember the last checkpoints, if all verifies")
    add("--live", action="store_true", help="the ledger is being written: accept entries that are not signed yet")
    add("--payload-key", metavar="FILE", type=Path, help="open what is sealed, and check that it fits its entries")
    add("--proof", metavar="FILE", type=Path, help="check this proof of a single entry instead of a ledger")
    add("--leaf", metavar="FILE", type=Path, help="the entry that the proof is for, where it does not carry it")
    add("--json", action="store_true", help="write the result as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    if (args.directory is None) is (args.proof is None):
        parser.error("give either a ledger's directory or --proof")
    if args.proof is not None and not args.key:
        parser.error("--proof needs --key")
    try:
        return _say_proof(args) if args.proof is not None else _say_ledger(args)
    except (RefusedError, UnusableError) as error:
        if args.json:
            print(json.dumps({"verified": False, "error": str(error)}))
        refused = isinstance(error, RefusedError)
        print(f"forestall-verify: {'REFUSED. ' if refused else ''}{printable(error)}", file=sys.stderr)
        return 76 if refused else 78
    except KeyboardInterrupt:
        return 130


def _say_proof(args: argparse.Namespace) -> int:
    leaf = read_small(args.leaf) if args.leaf else None
    sentence = verify_proof(read_small(args.proof), leaf, load_keys(args.key))
    print(json.dumps({"verified": True, "proof": sentence}) if args.json else sentence)
    return 0


def _say_ledger(args: argparse.Namespace) -> int:
    reports = verify_ledger(args)
    if args.json:
        streams = {report.stream: vars(report) for report in reports}
        print(json.dumps({"verified": True, "rollback_checked": bool(args.remembered), "streams": streams}))
        return 0
    for report in reports:
        print(report.sentences())
    if not args.key:
        print(
            "The key came from beside the ledger: whoever can replace one can replace both. --key takes one you trust."
        )
    print("The ledger extends what was remembered." if args.remembered else ROLLBACK)
    print("The ledger verifies.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
