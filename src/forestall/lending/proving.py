"""Proofs for requests that carry a credential which is bound to a key (RFC 9449). The broker's prover has the key.

None is made once the credential's end was asked for, or its task is stopped or over, whatever its backend says: what
hears of no revocation gets no proof all the same.
"""

from __future__ import annotations

from functools import partial

from forestall.core.ask import CannotDo
from forestall.core.model import Prove
from forestall.core.reason import Reason
from forestall.lending.held import Held, Holdings


class Proving:
    """Safe to use from several threads. Blocks nobody, and asks nobody."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings

    def prove(self, name: str, method: str, url: str, nonce: str | None) -> str:
        """For one request that carries this credential.

        Raises:
            CannotDo: it is over, or about to be, or is bound to no key.
            InvalidInput: there is no such request.
        """
        held = self._holdings.by_name.get(name)
        if held is None or held.secret is None or held.secret.prove is None:
            raise CannotDo(Reason.UNAVAILABLE, "there is no such credential that is bound to a key")
        return held.secret.prove(method, url, nonce)

    def lives(self, name: str) -> bool:
        """May a proof be made of it yet?"""
        held = self._holdings.by_name.get(name)
        return held is not None and not _is_over(self._holdings, held)


def while_it_lives(holdings: Holdings, held: Held, prove: Prove) -> Prove:
    """The prover, for whoever is lent the credential."""
    return partial(_prove, holdings, held, prove)


def _prove(holdings: Holdings, held: Held, prove: Prove, method: str, url: str, nonce: str | None) -> str:
    if _is_over(holdings, held):
        raise CannotDo(Reason.UNAVAILABLE, f"the credential of `{held.made_by.name}` is over")
    return prove(method, url, nonce)


def _is_over(holdings: Holdings, held: Held) -> bool:
    """Also where nobody has come to end it yet: whoever does may be waiting for another backend."""
    state, task = holdings.state, held.lease.task
    if state.stopped(task) is not None or state.find_grant(task) is None:
        return True
    with holdings.lock:
        return bool(held.condemned) or held.is_given_back or holdings.now() >= held.until
