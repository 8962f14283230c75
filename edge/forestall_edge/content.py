"""Content that a call refers to, as it is here: what a permit with `refs` is compared with.

Such a permit is for the arguments with each bound name replaced by `{"ref": digest}`, so it does not matter what the
content is called here, and nothing else can take its place.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from typing import Any

from forestall_edge.refusal import Reason, Refused

MAX_FILE = 64 * 1024 * 1024
"""Bytes of one file; as many as a gateway copies."""

CHUNK = 1024 * 1024

Content = Callable[[str], str]
"""Of a name, as it was received: `sha256:` over what it refers to here. Raises Refused."""


def file_digest(name: str) -> str:
    """Of the file of this absolute path, which must be a regular one that is no link and that nobody may write: what
    a gateway makes.

    Raises:
        Refused: other_content, where it is anything else.
    """
    if not name.startswith("/") or "\0" in name:
        raise Refused(Reason.OTHER_CONTENT, "no absolute path")
    try:
        file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except (OSError, ValueError):
        raise Refused(Reason.OTHER_CONTENT, "it cannot be read here") from None
    try:
        return _digest_of(file)
    except OSError:
        raise Refused(Reason.OTHER_CONTENT, "it cannot be read here") from None
    finally:
        os.close(file)


def _digest_of(file: int) -> str:
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o222:
        raise Refused(Reason.OTHER_CONTENT, "it is no file that nobody may write")
    hashed, left = hashlib.sha256(), MAX_FILE
    while chunk := os.read(file, CHUNK):
        left -= len(chunk)
        if left < 0:
            raise Refused(Reason.OTHER_CONTENT, "it is too long")
        hashed.update(chunk)
    return "sha256:" + hashed.hexdigest()


def text_at(arguments: Any, pointer: str) -> str:
    """The text that stands there (RFC 6901): an argument, or one of an array of them.

    Raises:
        Refused: other_content, where there is none.
    """
    parts = pointer.split("/")
    name = parts[1].replace("~1", "/").replace("~0", "~") if len(parts) in {2, 3} and not parts[0] else None
    value = arguments.get(name) if isinstance(arguments, Mapping) and name is not None else None
    if len(parts) == 3:
        value = value[int(parts[2])] if isinstance(value, list) and _is_index(parts[2], len(value)) else None
    if not isinstance(value, str):
        raise Refused(Reason.OTHER_CONTENT, "nothing stands where content was bound")
    return value


def bound(arguments: Any, refs: Mapping[str, str]) -> dict[str, Any]:
    """The arguments as the permit is for them.

    Raises:
        Refused: other_content, where there is no text to take the place of.
    """
    for pointer in refs:
        text_at(arguments, pointer)
    found = {name: list(value) if isinstance(value, list) else value for name, value in arguments.items()}
    for pointer, digest in refs.items():
        name, _, index = pointer[1:].partition("/")
        name = name.replace("~1", "/").replace("~0", "~")
        if index:
            found[name][int(index)] = {"ref": digest}
        else:
            found[name] = {"ref": digest}
    return found


def _is_index(text: str, length: int) -> bool:
    return text.isascii() and text.isdigit() and str(int(text[:9])) == text and int(text) < length
