"""The disk under the ledger, in the hands of a test: it is slow, full or broken when it is told to be."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from forestall.adapter.ledger import log

PATIENCE_S = 60.0
"""Seconds after which a thread that waits here gives up: a test that forgot it must not hang."""


class Disk:
    """Put in place of the system calls of this process; nothing is synced for real, which would only take time."""

    def __init__(self, patch: pytest.MonkeyPatch, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._write: Callable[[int, Any, int], int] = os.pwrite
        self.held = False
        """Does a sync in another thread wait until `go_on`?"""
        self.full = False
        """Is the next write refused?"""
        self.breaks = False
        """Does the next sync fail?"""
        self.broken = False
        """Did one fail? Then nothing is written until the next start."""
        self._going = threading.Event()
        self._waits: asyncio.Future[None] = loop.create_future()
        patch.setattr(log, "SIGN_AFTER_S", 1000)  # nothing is written but what a rule has written
        patch.setattr(os, "pwrite", self._pwrite)
        patch.setattr(os, "fdatasync", self._sync)
        patch.setattr(os, "fsync", lambda _: None)

    @property
    def busy(self) -> bool:
        """Is there a sync that waits for `go_on`?"""
        return self._waits.done()

    async def taken(self, record: asyncio.Future[Any]) -> None:
        """Returns when the record is answered; while the disk is held, when it stands in the file, or in the queue."""
        record.add_done_callback(_heard)
        if not self.held:
            await asyncio.wait({record})
        elif not self.busy:
            await asyncio.wait({record, self._waits}, return_when=asyncio.FIRST_COMPLETED)

    def go_on(self) -> None:
        self.held = False
        self._waits = self._loop.create_future()
        self._going.set()

    def _pwrite(self, fd: int, data: Any, at: int) -> int:
        if self.full:
            self.full = False
            raise OSError(errno.ENOSPC, "No space left on device")
        return self._write(fd, data, at)

    @staticmethod
    def _arrive(waits: asyncio.Future[None]) -> None:
        if not waits.done():
            waits.set_result(None)

    def _sync(self, _fd: int) -> None:
        if self.held and threading.current_thread() is not threading.main_thread():
            self._going.clear()
            self._loop.call_soon_threadsafe(self._arrive, self._waits)
            assert self._going.wait(PATIENCE_S)
        if self.breaks:
            self.breaks, self.broken = False, True
            raise OSError(errno.EIO, "Input/output error")


def _heard(record: asyncio.Future[Any]) -> None:
    """That a record failed is no news where its caller was given up meanwhile."""
    if not record.cancelled():
        record.exception()
