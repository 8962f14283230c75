"""Credentials, from their plan to their end: what `core.lend` asks for, carried out.

The rules, each with a test in tests/unit/lending or tests/unit/server/test_leases.py:

- A backend is asked in a thread of its own, and waited for no longer than its time. One that answers later is told to
  end what it made, and until its thread has ended nobody is told that the credential is over.
- Of a task's credential the secret is kept in memory, and handed to the task's next calls for as long as it is good for
  them. Calls that need the first at the same time each get their own; all of them end with the task.
- What is bound to a key is proven by us, for one request at a time, and no more once its end was asked for.
- What an answer alone told is on disk before the secret goes anywhere.
- A credential that its backend was certainly never asked for is over without asking it.
- What a class made is ended as it was made, whatever `credentials.toml` says by then; what a task has of a class that
  says something else now ends at once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from forestall.adapter.credential.escrow import Escrow
from forestall.credentials import CredentialClass, Credentials
from forestall.credentials.words import Words
from forestall.lending.ending import Ending
from forestall.lending.held import Holdings, Known, RiskOf
from forestall.lending.living import Living
from forestall.lending.making import Making
from forestall.lending.proving import Proving
from forestall.lending.recovering import Recovering


class Lending:
    """Its parts have all that is done with one credential, in the order of a credential's life."""

    def __init__(
        self,
        state: Known,
        escrow: Escrow,
        words: Words,
        *,
        owner: str,
        now: Callable[[], int],
        risk: RiskOf,
        timeout_s: float,
        classes: Credentials,
        former: Sequence[CredentialClass] = (),
    ) -> None:
        """`former`: classes that there are no more, of which something may be alive."""
        self._holdings = holdings = Holdings(
            state, owner=owner, now=now, timeout_s=timeout_s, classes=classes, former=former
        )
        self.owner = owner
        self.patience_ms = round(holdings.patience_s * 1000)
        """From when a backend is asked until nobody waits for it any more."""
        self.on_change = holdings.on_change
        """Called, on any thread, when something may have to be ended."""
        self.making = Making(holdings, escrow, words, risk)
        self.living = Living(holdings, escrow, risk)
        self.proving = Proving(holdings)
        self.ending = Ending(holdings, escrow)
        self.recovering = Recovering(holdings, escrow, words)

    @property
    def classes(self) -> Credentials:
        """What policy can name now."""
        return self._holdings.classes

    def take(self, classes: Credentials) -> None:
        """From now on these are what policy can name. What tasks have of others ends, by who made it."""
        self._holdings.take(classes)

    def stop(self) -> None:
        """This process ends, and with it what it knows of its credentials: whatever lives is to be ended."""
        alive = [lease for _, lease in self.living.alive() if not self.living.why_over(lease)]
        self.ending.condemn([lease.name for lease in alive], "stopped")

    def close(self) -> None:
        """Every broker."""
        self._holdings.close()
