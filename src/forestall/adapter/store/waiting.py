"""Wait until nothing above a task is undecided or held: no polling, and not for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

from forestall.core.ask import CannotDo
from forestall.core.reason import Reason
from forestall.port import State


def until_settled(state: State, task: str, limit_ms: int) -> Awaitable[bool] | bool:
    """False at once where there is nothing to wait for; else what answers True when it is settled.

    Raises:
        CannotDo: `upstream`, there is no time left, or it ran out.
    """
    if not state.undecided_above(task):
        return False
    if limit_ms <= 0:
        raise CannotDo(Reason.UPSTREAM)
    return _wait(state, task, limit_ms / 1000)


async def _wait(state: State, task: str, seconds: float) -> bool:
    loop, settled = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        loop.call_soon_threadsafe(settled.set)

    if not state.watch_above(task, wake):
        return True
    try:
        await asyncio.wait_for(settled.wait(), seconds)
    except TimeoutError:
        raise CannotDo(Reason.UPSTREAM) from None
    finally:
        state.unwatch(wake)
    return True
