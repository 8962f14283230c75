"""A few threads for calls that block, which come with the work and go when there is none.

They are no reason for a program to go on: one that a backend never answers is left behind when the program ends.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from forestall.core.ask import CannotDo
from forestall.core.reason import Reason

T = TypeVar("T")

IDLE_S = 5.0
"""Seconds after which a thread that has nothing to do ends."""

MAX_WAITING = 256
"""Calls that wait for a thread."""


class Workers:
    def __init__(self, name: str, threads: int) -> None:
        self._name = name
        self._threads = threads
        self._ready = threading.Condition()
        self._waiting: deque[tuple[Future[Any], Callable[[], Any]]] = deque()
        self._running = 0
        """Threads that there are."""
        self._idle = 0

    def do(self, work: Callable[[], T]) -> Future[T]:
        """It is done when a thread is free; cancelled before that, it is not done at all.

        Raises:
            CannotDo: unavailable, where too much waits already, or no thread can be started.
        """
        future: Future[T] = Future()
        with self._ready:
            if len(self._waiting) >= MAX_WAITING:
                raise CannotDo(Reason.UNAVAILABLE, f"More than {MAX_WAITING} calls wait for {self._name}.")
            job = future, work
            self._waiting.append(job)
            if self._idle >= len(self._waiting) or self._running >= self._threads:
                self._ready.notify()
                return future
            self._running += 1
        try:
            threading.Thread(target=self._work, name=f"forestall-{self._name}", daemon=True).start()
        except RuntimeError:  # its user has as many as it may have, for now
            self._withdraw(job)
        return future

    def _withdraw(self, job: tuple[Future[Any], Callable[[], Any]]) -> None:
        """There is no thread more for it. One of the others may have taken it meanwhile."""
        with self._ready:
            self._running -= 1
            if job in self._waiting:
                self._waiting.remove(job)
                raise CannotDo(Reason.UNAVAILABLE, f"No thread can be started for {self._name}.")

    def _work(self) -> None:
        while (job := self._next()) is not None:
            future, work = job
            if future.set_running_or_notify_cancel():
                try:
                    answer = work()
                except BaseException as error:  # noqa: BLE001 - it is raised where the answer is awaited
                    future.set_exception(error)
                else:
                    future.set_result(answer)
            del job, future, work  # what they hold may be a secret

    def _next(self) -> tuple[Future[Any], Callable[[], Any]] | None:
        with self._ready:
            self._idle += 1
            self._ready.wait_for(lambda: bool(self._waiting), IDLE_S)
            self._idle -= 1
            if self._waiting:
                return self._waiting.popleft()
            self._running -= 1
            return None
