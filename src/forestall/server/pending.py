"""A request of a connection, from asked to answered, and how a report settles it."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from forestall.core.ask import CannotDo, NotStarted
from forestall.core.fate import Fate
from forestall.core.model import Action, Outcome, Result
from forestall.core.reason import Reason
from forestall.run import Drive
from forestall.server.frames import Performed


@dataclass(slots=True)
class Pending:
    """A request that is being decided, or was permitted and runs."""

    frame: int
    action: Action
    is_method: bool = False
    drive: Drive[Outcome] | None = None
    """Its flow, from when it was begun."""
    outcome: asyncio.Future[Result] | None = None
    """Once the permit was sent: what the enforcement point will report."""
    at_once: bool = False
    """May its output be released before it is reported?"""
    reported: int | None = None
    """The id of the frame that reported it, and waits for an answer."""
    answered: bool = False
    timer: asyncio.TimerHandle | None = None

    def settle(self, report: Performed) -> bool:
        """Take in how its permit ended. Is that news?"""
        assert self.outcome is not None
        self.reported = None if report.released else report.id
        if self.outcome.done():
            return False
        match report.fate:
            case Fate.DONE | Fate.FAILED:
                digest = salted(report.digest, self.action.salt)
                failed = report.fate is Fate.FAILED
                self.outcome.set_result(
                    Result(None, failed=failed, digest=digest, used=report.used, leaked=report.leaked)
                )
            case Fate.NOT_STARTED:
                self.outcome.set_exception(NotStarted(Reason.CANCELLED, report.detail))
            case Fate.AMBIGUOUS:
                self.outcome.set_exception(CannotDo(Reason.UNAVAILABLE, report.detail))
        return True

    def give_up(self, why: str) -> bool:
        """What was permitted is ambiguous, and what was not is cancelled. Is there an outcome that is news?"""
        if self.outcome is None:
            self.cancel()
        elif not self.outcome.done():
            self.outcome.set_exception(CannotDo(Reason.UNAVAILABLE, why))
            return True
        return False

    def cancel(self) -> None:
        """Harmless once the permit is out."""
        if self.outcome is None and self.drive is not None:
            self.drive.stop(asyncio.CancelledError())


@dataclass(slots=True)
class Counts:
    asked: int = 0
    permitted: int = 0
    denied: int = 0
    held: int = 0


def salted(digest: str, salt: bytes) -> str:
    """What the ledger keeps of an output: SHA-256 of the action's salt and the output's digest, as its text."""
    return "sha256:" + hashlib.sha256(salt + digest.encode()).hexdigest() if digest else ""


def withheld(fate: Fate, reason: Reason | None = None) -> str:
    """Why an enforcement point gets no leave to release."""
    if reason is Reason.LEAKED:
        return reason.advice.sentence
    if fate is Fate.NOT_STARTED:
        return "Nothing was done, and so there is no output."
    if fate is not Fate.AMBIGUOUS:
        return "The call was carried out; its output is withheld, because it is more than one call may have."
    return "The output is withheld, because its outcome is unknown or could not be recorded. Do not retry blindly."
