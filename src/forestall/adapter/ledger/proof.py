"""Evidence of one entry that can be checked alone: c2sp.org/tlog-proof@v1.

The `extra` line carries the entry itself. Readers must not trust it before the proof verifies, as the standard says.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from forestall.core.errors import Tampered, Unavailable
from forestall.core.merkle import inclusion_proof, leaf_hash, verify_inclusion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from forestall.adapter.ledger.checkpoint import Verifier
    from forestall.adapter.ledger.reader import LogReader
    from forestall.port import Position


def prove(reader: LogReader, position: Position, verifiers: Sequence[Verifier]) -> bytes:
    """The proof of an entry under the last checkpoint, verified before it is handed out.

    Raises:
        Unavailable: the entry is not signed yet.
        Tampered: the log is not what its checkpoint signs.
    """
    leaf = reader.leaf(position)
    snapshot = reader.snapshot(position.stream)
    verifier = next((one for one in verifiers if one.name == snapshot.origin), None)
    if verifier is None or snapshot.checkpoint is None:
        raise Tampered(f"{reader.path(position.stream)} is not signed with the keys that are here.")
    checkpoint = verifier.verify(snapshot.checkpoint)
    if checkpoint.size > len(snapshot.leaves):
        raise Tampered(f"{reader.path(position.stream)} has fewer entries than its last checkpoint signs.")
    if position.index >= checkpoint.size:
        raise Unavailable("The entry is not signed yet; that takes a tenth of a second. Try again.")
    path = inclusion_proof(snapshot.leaves, position.index, checkpoint.size)
    verify_inclusion(leaf_hash(leaf), position.index, checkpoint.size, path, checkpoint.root)
    return encode(position.index, path, checkpoint.note, leaf)


def encode(index: int, path: Sequence[bytes], note: bytes, extra: bytes) -> bytes:
    lines = ["c2sp.org/tlog-proof@v1", f"extra {_text(extra)}", f"index {index}", *map(_text, path), "", ""]
    return "\n".join(lines).encode() + note


def _text(value: bytes) -> str:
    return base64.b64encode(value).decode()
