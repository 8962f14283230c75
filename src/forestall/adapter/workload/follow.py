"""Follow one stream of the Workload API for as long as it is wanted: in a thread of its own, opened again when it ends.

What to do with a message is the caller's; this holds when to try again, and how to stop at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from forestall.adapter.workload.stubs import METADATA, Stubs

FIRST_WAIT_S, LONGEST_WAIT_S = 0.1, 30.0
"""Seconds before the first try after a stream that answered, and the most between two; doubled in between."""


class Ending(StrEnum):
    """Why a stream ended."""

    DENIED = "denied"  # PermissionDenied: no identity, or not any more; tried again
    REFUSED = "refused"  # InvalidArgument: the request itself is wrong; not tried again
    LOST = "lost"  # anything else; tried again
    CLOSED = "closed"  # by us


@dataclass(frozen=True, slots=True)
class Waits:
    """How long to wait between tries. `wait` returns early when the event that it is given is set."""

    random: Callable[[], float]
    """From 0 to below 1: spreads the tries of many machines whose agent came back at one moment."""
    wait: Callable[[threading.Event, float], object]

    def before(self, attempt: int) -> float:
        """Seconds before try `attempt`, counted from 1 since the last answer: half of it certain, half by chance."""
        longest = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempt - 1, 16))
        return longest / 2 + longest / 2 * self.random()


class Follower:
    """One stream. `take` and `ended` are called in its thread, one at a time; what `take` raises ends the stream."""

    def __init__(
        self,
        stubs: Stubs,
        target: str,
        method: str,
        request: object,
        *,
        waits: Waits,
        take: Callable[[Any], None],
        ended: Callable[[Ending], None],
    ) -> None:
        self._stubs, self._target, self._method, self._request = stubs, target, method, request
        self._waits, self._take, self._ended = waits, take, ended
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._channel: Any = None
        self._thread = threading.Thread(target=self._run, name=f"workload-api-{method}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Hang up, and wait until the thread is gone. May be called twice, and before `start`."""
        self._closed.set()
        with self._lock:
            if self._channel is not None:
                self._channel.close()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        attempt = 0
        while not self._closed.is_set():
            answered, ending = self._once()
            self._ended(ending)
            if ending in {Ending.CLOSED, Ending.REFUSED}:
                return
            attempt = 1 if answered else attempt + 1
            self._waits.wait(self._closed, self._waits.before(attempt))

    def _once(self) -> tuple[bool, Ending]:
        """From opening the stream to its end: whether anything came, and why it ended."""
        answered = False
        # a channel for each try: one that failed before would hold the next try back by a back-off of its own
        with self._lock:
            if self._closed.is_set():
                return False, Ending.CLOSED
            channel = self._channel = self._stubs.channel(self._target)
        try:
            stub = self._stubs.services.SpiffeWorkloadAPIStub(channel)
            for message in getattr(stub, self._method)(self._request, metadata=METADATA):
                answered = True
                self._take(message)
        except self._stubs.grpc.RpcError as error:
            return answered, self._ending(error)
        except Exception:  # noqa: BLE001 - whatever it is: what was said has to age, and the next try to come
            return answered, Ending.CLOSED if self._closed.is_set() else Ending.LOST
        finally:
            with self._lock:
                self._channel = None
            channel.close()
        return answered, Ending.CLOSED if self._closed.is_set() else Ending.LOST

    def _ending(self, error: Any) -> Ending:
        codes = self._stubs.grpc.StatusCode
        if self._closed.is_set():
            return Ending.CLOSED
        return {codes.PERMISSION_DENIED: Ending.DENIED, codes.INVALID_ARGUMENT: Ending.REFUSED}.get(
            error.code(), Ending.LOST
        )
