"""A role's password and what the server stores of it, of which one is made ahead: neither depends on the lease.

Until a role is made with it, a password opens nothing, so that whoever reads it in this process has read nothing that
can be used. None is used twice: not by two threads, and not on the two sides of a fork, whose child is given none that
was there before it.
"""

from __future__ import annotations

import os
from base64 import urlsafe_b64encode
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from forestall.adapter.credential.postgresql_scram import SALT_BYTES, verifier
from forestall.adapter.credential.work import Workers
from forestall.core.ask import CannotDo

PASSWORD_BYTES = 32

Later = Callable[[Callable[[], None]], object]
"""Does it when nobody waits for it. Raises CannotDo or RuntimeError where it cannot."""


@dataclass(frozen=True, slots=True)
class Password:
    text: str = field(repr=False)
    verifier: str = field(repr=False)


def make_password(random: Callable[[int], bytes], iterations: int) -> Password:
    text = urlsafe_b64encode(random(PASSWORD_BYTES)).decode().rstrip("=")
    return Password(text, verifier(text, random(SALT_BYTES), iterations))


class Passwords:
    """Has no thread, and no password, before the first `prepare`."""

    def __init__(self, make: Callable[[], Password], later: Later | None = None) -> None:
        """`later`: a thread of its own where none is named, which ends when it has nothing to do."""
        self._make, self._later = make, later or Workers("passwords", 1).do
        self._process = os.getpid()
        self._ready: deque[Password] = deque(maxlen=1)
        self._closed = False

    def take(self) -> Password:
        """The one that was made ahead, or one that is made now. Nobody else is given it."""
        if os.getpid() == self._process:
            with suppress(IndexError):
                return self._ready.popleft()
        return self._make()

    def prepare(self) -> None:
        """Have one made while nobody waits for it. Where that cannot be, the next one is made when it is asked for."""
        if not self._ready and os.getpid() == self._process:  # a child does not have the thread, and may have its lock
            with suppress(CannotDo, RuntimeError):
                self._later(self._fill)

    def close(self) -> None:
        self._closed = True
        self._ready.clear()

    def _fill(self) -> None:
        if not self._ready:
            self._ready.append(self._make())
        if self._closed:  # meanwhile
            self._ready.clear()
