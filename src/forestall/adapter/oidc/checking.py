"""A check that may have to wait for something to be fetched, written once for callers with and without a loop.

It yields what it waits for and goes on when that is there, or when it has taken too long; which of the two it was, it
sees for itself. No I/O is done on the caller's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from concurrent.futures import Future, wait
from typing import Any, TypeVar

T = TypeVar("T")
Check = Generator["Future[Any]", None, T]


def check_blocking(check: Check[T], *, wait_s: float) -> T:
    """The check's answer. `wait_s`: seconds for each thing that it waits for. Raises what the check raises."""
    try:
        while True:
            wait([next(check)], wait_s)
    except StopIteration as ended:
        answer: T = ended.value
        return answer
    finally:
        check.close()


async def check_on_loop(check: Check[T], *, wait_s: float) -> T:
    """As `check_blocking`, without holding up the loop; where there is nothing to wait for, without giving it up."""
    try:
        while True:
            # never cancelled with its waiter: others wait for the same
            done, _ = await asyncio.wait({asyncio.wrap_future(next(check))}, timeout=wait_s)
            for each in done:
                if not each.cancelled():
                    each.exception()  # the check sees it for itself; nobody else has to hear that nobody looked
    except StopIteration as ended:
        answer: T = ended.value
        return answer
    finally:
        check.close()
