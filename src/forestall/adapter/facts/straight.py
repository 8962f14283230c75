"""The short way to what a path names: ask the kernel once, where it knows the file by the very name that was asked for.

Most paths of most calls hold no link. The kernel's own name of an open file is then the path itself, and four calls
say so, however deep it lies; walking it asks once a directory, on every decision.
"""

from __future__ import annotations

import os

_PATH_ONLY = getattr(os, "O_PATH", 0) | os.O_CLOEXEC
_NAMES = "/proc/self/fd" if hasattr(os, "O_PATH") else ""
_GONE = " (deleted)"
"""What the kernel puts behind the name of a file that has none any more (proc(5))."""


def straight(path: str) -> os.stat_result | None:
    """What is at an absolute path that has no link, `.` or `..` in it; None where that cannot be said so easily."""
    if not _NAMES or path.endswith(_GONE):
        return None
    try:
        fd = os.open(path, _PATH_ONLY)
    except (OSError, ValueError):
        return None
    try:
        return os.fstat(fd) if os.readlink(f"{_NAMES}/{fd}") == path else None  # noqa: PTH115 - text in, text out
    except OSError:
        return None
    finally:
        os.close(fd)
