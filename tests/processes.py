"""Which processes there are, by what the kernel says of them."""

from __future__ import annotations

from pathlib import Path

EXITING = 0x4
"""PF_EXITING (Linux, include/linux/sched.h): it runs no more of its program."""

KILLED = 1 << 8
"""SIGKILL in a mask of signals. A process that it waits for runs no more of its program either."""


def of_group(group: int) -> list[int]:
    """Processes of the group that can still do something.

    What was killed a moment ago is there until it comes to its end, which on a busy machine takes a while.
    """
    return sorted(int(one.name) for one in Path("/proc").glob("[0-9]*") if _can_act(one, group))


def _can_act(process: Path, group: int) -> bool:
    try:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        if int(fields[2]) != group or fields[0] in "ZX" or int(fields[6]) & EXITING:
            return False
        return not any(_pending(line) & KILLED for line in (process / "status").read_text().splitlines())
    except (FileNotFoundError, ProcessLookupError):
        return False


def _pending(line: str) -> int:
    name, _, mask = line.partition(":")
    return int(mask, 16) if name in {"SigPnd", "ShdPnd"} else 0
