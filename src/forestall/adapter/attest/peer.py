"""What the kernel says of the other end of a Unix socket. Its uid, gid and pid are those at the time of the connect."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from forestall.adapter.attest.proc import Vanished

SO_PEERPIDFD = 77
"""asm-generic/socket.h, since Linux 6.5; Python has no name for it yet."""

_CREDENTIALS = struct.Struct("iII")  # struct ucred: pid, uid, gid (unix(7))


@dataclass(frozen=True, slots=True)
class Credentials:
    pid: int
    """0 where the process is in a pid namespace that is not seen from ours."""
    uid: int
    gid: int


def credentials(connected: socket.socket) -> Credentials:
    """SO_PEERCRED (unix(7)). Raises OSError."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return Credentials(*_CREDENTIALS.unpack(raw))


@contextmanager
def handle(connected: socket.socket) -> Iterator[int | None]:
    """A descriptor of the process itself (pidfd_open(2)), whatever becomes of its pid; None before Linux 6.5.

    Raises:
        Vanished: the process has ended.
    """
    try:
        descriptor = connected.getsockopt(socket.SOL_SOCKET, SO_PEERPIDFD)
    except OSError as error:
        if error.errno != errno.ENOPROTOOPT:
            raise Vanished from None
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def require_alive(descriptor: int, pid: int) -> None:
    """Raises Vanished where the process of this handle has ended, or never had this pid."""
    for line in Path(f"/proc/self/fdinfo/{descriptor}").read_bytes().splitlines():
        name, _, value = line.partition(b":")
        if name == b"Pid" and value.strip() == str(pid).encode():
            break
    else:
        raise Vanished
    ended = select.poll()
    ended.register(descriptor, select.POLLIN)
    if ended.poll(0):
        raise Vanished


def is_unmapped(uid: int, root: Path) -> bool:
    """Does the kernel show this uid in place of one that our user namespace has no number for (user_namespaces(7))?

    Where all uids have one, it is the user of that number.
    """
    overflow = int((root / "sys/kernel/overflowuid").read_text())
    every = (root / "self/uid_map").read_text().split() == ["0", "0", str(2**32 - 1)]
    return uid == overflow and not every
