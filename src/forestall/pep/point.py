"""What a guard stands on: an embedded decision point, as `forestall.wire` puts it together."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from forestall.core.ask import CannotDo
from forestall.core.errors import Unavailable
from forestall.core.model import Mandate, Subject, Tool
from forestall.core.reason import Reason
from forestall.pep.halves import Halves
from forestall.run import Handlers, run


@dataclass(frozen=True, slots=True)
class DecisionPoint:
    """Everything is safe to use from many threads at once, and in the process that made it alone."""

    handlers: Handlers
    """For `run`: every ask but `Perform`, which the guard carries out itself."""
    handlers_async: Handlers
    """For `run_async`."""
    subject: Subject
    """The program that holds the guard."""
    proof: object = field(repr=False)
    """What `Verify` takes, and answers with `subject`."""
    now: Callable[[], int]
    """Milliseconds since the epoch."""
    random: Callable[[int], bytes]
    mandate: Callable[[str], Mandate | None]
    declare: Callable[[Sequence[Tool]], None]
    """Make these the tools of the guard's server, and build the policy's schema for them. Raises SetupError."""
    leaked: Callable[[str, str], None]
    """Of a task, and in what: a credential came back, and is withheld. Its risk is high from then on, and its
    credentials end. Never raises."""
    close: Callable[[], None]
    timeout_s: float = 5.0
    """How long a decision may take."""
    pid: int = field(default_factory=os.getpid)
    abandoned: deque[Halves] = field(default_factory=deque, repr=False)
    """Calls that were permitted and dropped before their end. The garbage collector puts them here, and may do so in
    the middle of anything: they are settled later, by whoever comes by."""

    def require_here(self) -> None:
        """A forked child holds copies of its parent's files, and would write a second history into them.

        Raises:
            Unavailable: this process is not the one that opened the guard.
        """
        if os.getpid() != self.pid:
            raise Unavailable("This guard was opened in another process; open one in this process, with its own home.")

    def settle_abandoned(self) -> None:
        """What became of them is not known, and the ledger says so."""
        while self.abandoned:
            try:
                halves = self.abandoned.popleft()
            except IndexError:  # another thread was here first
                return
            run(halves.second(CannotDo(Reason.CANCELLED, "abandoned")), self.handlers)
