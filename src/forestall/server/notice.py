"""What a connection is told about the end, or the suspension, of its task; and whether it has confirmed in time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from forestall.core.reason import Reason
from forestall.server.frames import LEASE_MS

ENDED = frozenset({Reason.REVOKED, Reason.TASK_ENDED})
"""Why a task is over, and not only suspended."""


class Notice:
    """From when it is sent there is a lease's time to confirm it; then `late` is called."""

    def __init__(self, loop: asyncio.AbstractEventLoop, reason: Reason, epoch: int, late: Callable[[], None]) -> None:
        self.reason = reason
        self.epoch = epoch
        self.confirmed: asyncio.Future[bool] = loop.create_future()
        """False where whoever was told is gone, and has confirmed nothing."""
        self._timer = loop.call_later(LEASE_MS / 1000, late)

    def confirm(self, epoch: int) -> None:
        """What was confirmed holds for every order before it as well."""
        if epoch >= self.epoch:
            self.settle(confirmed=True)

    def settle(self, *, confirmed: bool) -> None:
        self._timer.cancel()
        if not self.confirmed.done():
            self.confirmed.set_result(confirmed)
