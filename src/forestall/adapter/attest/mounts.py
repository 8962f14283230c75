"""On which file system an open file is, without asking that file system anything.

A file system that somebody else serves (FUSE, NFS, 9p) may give the reader another content than the kernel runs, and
may never answer. So it is told by the mount that the descriptor came through, before the file itself is touched.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass

MAX_BYTES = 4 << 20
"""Of a mountinfo that are read; one of a machine with thousands of containers is 1 MiB. The rest counts as unknown."""

_DISKS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "bcachefs", "jfs", "reiserfs", "nilfs2", "ubifs"}
_IMAGES = {"squashfs", "erofs", "iso9660", "udf", "vfat", "exfat", "ntfs3"}
_MEMORY = {"tmpfs", "ramfs", "rootfs"}
LOCAL = frozenset(_DISKS | _IMAGES | _MEMORY)
"""The kernel alone answers for what is read from these."""

STACKED = frozenset({"overlay"})
"""Of what it is stacked on. A user may stack one on a FUSE mount in a user namespace of its own, and only there."""


@dataclass(frozen=True, slots=True)
class Place:
    """What tells one open file from another."""

    mount: int
    inode: int


def place_of(descriptor: int) -> Place:
    """As the kernel's list of open files says it. Raises OSError where it does not, as before Linux 5.14."""
    with open(f"/proc/self/fdinfo/{descriptor}", "rb") as told:  # noqa: PTH123 - a descriptor's own, not a file's path
        lines = dict(line.split(b":", 1) for line in told.read().splitlines() if b":" in line)
    if not {b"mnt_id", b"ino"} <= lines.keys():
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return Place(int(lines[b"mnt_id"]), int(lines[b"ino"]))


def parse(data: bytes) -> Mapping[int, str]:
    """The type of each mount by its id (proc(5), mountinfo). A line of another form is left out, its mount unknown."""
    kinds: dict[int, str] = {}
    for line in data.split(b"\n"):
        before, dash, after = line.partition(b" - ")
        number, kind = before.split(b" ", 1)[0], after.split(b" ", 1)[0]
        if dash and number.isdigit() and kind and kind.isascii():
            kinds[int(number)] = kind.decode("ascii")
    return kinds


def read(directory: int) -> Mapping[int, str]:
    """The mounts that a process sees; `directory` is its own under /proc. Raises OSError."""
    descriptor = os.open("mountinfo", os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    with open(descriptor, "rb") as told:  # noqa: PTH123 - an open descriptor
        data = told.read(MAX_BYTES)
    return parse(data[: data.rfind(b"\n") + 1])
