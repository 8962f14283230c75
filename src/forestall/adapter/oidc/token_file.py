"""A token that somebody else keeps fresh in a file, as the kubelet does with a projected one: read at each use.

It rotates without notice, so that a token that was read before is never kept.
"""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from forestall.core.errors import Unavailable, cure
from forestall.proof.jws import MAX_TOKEN

_TOKEN = re.compile(rb"[!-~]+")
"""What a header can carry, and nothing that would end it."""


def read_token(path: Path) -> str:
    """The token that is in the file now, without the line break at its end.

    Raises:
        Unavailable: it cannot be read, is no regular file, is too long, or holds no token. Says nothing of what it
            holds.
    """
    data = read_small(path, MAX_TOKEN + 2)
    token = data.removesuffix(b"\n").removesuffix(b"\r")
    if len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
        raise Unavailable(f"{path} does not hold one token; look at what is there.")
    return token.decode("ascii")


def read_small(path: Path, max_bytes: int) -> bytes:
    """What the file holds now. Raises Unavailable; also where it is longer than `max_bytes`."""
    try:
        # not blocking: opening a pipe would wait for its writer, for ever
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor has no path
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise Unavailable(f"{path} is not a file; look at what is there.")
            data = file.read(max_bytes + 1)
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {cure(error)}.") from None
    if len(data) > max_bytes:
        raise Unavailable(f"{path} is longer than {max_bytes} bytes; look at what is there.")
    return data
