"""Whom to believe that they are the decision point: whoever listens gives leave to act, and is shown every argument."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

from forestall.core.errors import Unavailable

_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid (unix(7))


def require_believed(connected: socket.socket, path: Path) -> None:
    """Refuse a listener that is of another user than this process, root, and the owner of the socket's directory.

    A socket in a directory that all may write to, such as `/tmp`, is anybody's to bind while no decision point runs.

    Raises:
        Unavailable: who it is.
        OSError: the kernel does not say.
    """
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    _pid, uid, _gid = _CREDENTIALS.unpack(raw)
    if uid not in {os.geteuid(), 0, path.parent.stat().st_uid}:
        raise Unavailable(
            f"A process of user {uid} listens at {path} and is not believed to be the decision point; "
            "move `socket` under [serve] to a directory that only you can write to."
        )
