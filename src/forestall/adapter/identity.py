"""Who is at the other end of the socket: what the kernel says, and beside it what the client says."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass

from forestall.core.ask import CannotDo
from forestall.core.model import Assurance, Executable, Subject
from forestall.core.reason import Reason

MAX_NAME = 128
"""Characters of a client's name that are recorded."""

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))


@dataclass(frozen=True, slots=True)
class Peer:
    """A connection's other end. `uid` and `pid` come from the kernel when it connected, the rest from its frames."""

    uid: int
    pid: int
    server: str = ""
    """The server that it guards; empty for a command."""
    asserted_name: str = ""
    instance: str = ""
    """The one running workload that it is, or works for, where it was attested; and so the next two."""
    assurance: Assurance = Assurance.LOCAL
    executable: Executable | None = None


def peer_of(connected: socket.socket) -> Peer:
    """SO_PEERCRED of a Unix socket."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, _gid = _CREDENTIALS.unpack(raw)
    return Peer(uid, pid)


def asserted(client: object) -> str:
    """What a client calls itself, as one short line; empty where it says nothing that can be shown."""
    if not isinstance(client, dict):
        return ""
    words = [word for word in (client.get("name"), client.get("version")) if isinstance(word, str)]
    return "".join(letter for letter in " ".join(words) if letter.isprintable())[:MAX_NAME]


class LocalIdentity:
    """`port.Identity` for peers of a local socket: its machine and its user, and what was attested beside them."""

    def __init__(self, uids: Iterable[int]) -> None:
        self._uids = frozenset(uids)

    def verify(self, proof: object) -> Subject:
        if not isinstance(proof, Peer):
            raise CannotDo(Reason.INVALID_PROOF, "not a local peer")
        if proof.uid not in self._uids:
            raise CannotDo(Reason.INVALID_PROOF, f"uid {proof.uid} may not connect; see allowed_uids under [serve]")
        return Subject(
            f"local/{proof.uid}/{proof.server}",
            proof.assurance,
            proof.asserted_name,
            instance=proof.instance,
            executable=proof.executable,
            uid=proof.uid,
        )
