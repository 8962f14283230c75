"""Risk and posture from an address that answers with JSON (`core/repute.py`), asked beside the calls."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

from forestall.adapter.facts.told import Told
from forestall.adapter.oidc.token_file import read_small, read_token
from forestall.adapter.oidc.web import Request, Web
from forestall.core.canonical import parse
from forestall.core.errors import InvalidInput, Unavailable
from forestall.core.repute import parse_reputes

MAX_BYTES = 4 * 1024 * 1024
MAX_ROOTS = 1024 * 1024
MAX_DEPTH = 8

ASKED_WITHIN_A_BOUND = 4
"""Times that it is asked before what it told is too old: three may go wrong."""

LEAST_S, MOST_S = 0.25, 60.0
"""Seconds between two questions."""


class RiskWeb(Told):
    """Its age counts from when it was asked, or is what its own `at` says, whichever is more."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        bound_ms: int,
        posture: Collection[str],
        now: Callable[[], int],
        ca_file: Path | None = None,
        token_file: Path | None = None,
    ) -> None:
        """`token_file`: a bearer token to show, read again each time. `ca_file`: PEM; None for the machine's."""
        super().__init__(name, bound_ms)
        self.period_s = min(MOST_S, max(LEAST_S, bound_ms / 1000 / ASKED_WITHIN_A_BOUND))
        self._url, self._posture, self._now = url, posture, now
        self._ca_file, self._token_file = ca_file, token_file
        self._web = Web()

    def refresh(self) -> None:
        asked = self._now()
        try:
            answer = self._web(self._request())
        except Unavailable as error:
            self.late(str(error))
            return
        except Exception as error:  # noqa: BLE001 - a fault of our own: what it told before grows old
            self.late(f"It cannot be asked: {type(error).__name__}.")
            return
        try:
            document = parse(answer, max_bytes=MAX_BYTES, max_depth=MAX_DEPTH)
            self.take(parse_reputes(document, self._posture), asked, self._now())
        except InvalidInput as error:
            self.drop(f"Its answer is not understood: {error}")
        except Exception as error:  # noqa: BLE001 - as above, but what it answered is not known
            self.drop(f"Its answer is not understood: {type(error).__name__}.")

    def close(self) -> None:
        self._web.close()

    def _request(self) -> Request:
        roots = read_small(self._ca_file, MAX_ROOTS).decode("ascii") if self._ca_file else None
        bearer = read_token(self._token_file) if self._token_file else None
        return Request(self._url, MAX_BYTES, loopback=True, roots=roots, bearer=bearer)
