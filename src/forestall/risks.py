"""The sources of risk and posture that the settings name, put together: a part of `wire`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from forestall.adapter.facts.risk_file import RiskFile
from forestall.adapter.facts.told import Asking
from forestall.core.model import Grant, Risk
from forestall.core.repute import UNKNOWN, Repute, together
from forestall.home import Home
from forestall.port import RiskSource
from forestall.risk_settings import RiskSettings

if TYPE_CHECKING:
    from forestall.adapter.facts.risk_web import RiskWeb


@dataclass(frozen=True, slots=True)
class Risks:
    sources: tuple[RiskSource, ...] = ()
    ordered: Callable[[Grant], Risk] | None = None
    """The highest that orders say; known at any time."""
    _asking: Asking | None = None

    def read(self, grant: Grant | None, at: int) -> Repute:
        """What all of them know of this task, from memory: no source is asked here."""
        if grant is None:
            return UNKNOWN
        repute = _ORDERED[self.ordered(grant)] if self.ordered is not None else UNKNOWN
        if not self.sources:
            return repute
        told = [source.read(grant, at) for source in self.sources]
        return together(told if self.ordered is None else [repute, *told])

    def close(self) -> None:
        if self._asking is not None:
            self._asking.close()


NO_RISKS = Risks()

_ORDERED = {risk: Repute(risk) for risk in Risk}


def open_risks(
    home: Home,
    settings: tuple[RiskSettings, ...],
    now: Callable[[], int],
    ordered: Callable[[Grant], Risk] | None = None,
) -> Risks:
    """Files are read before this returns; an address is asked meanwhile, and what it tells is missing until then."""
    if not settings:
        return Risks((), ordered)
    sources = tuple(_source(home, one, now) for one in settings)
    for source in sources:
        if isinstance(source, RiskFile):
            source.refresh()
    return Risks(sources, ordered, Asking(sources, threading.Event.wait))


def risk_path(home: Home, path: str) -> Path:
    return home.root / Path(path).expanduser()


def _source(home: Home, settings: RiskSettings, now: Callable[[], int]) -> RiskFile | RiskWeb:
    name, bound_ms, posture = settings.name, settings.bound_s * 1000, settings.posture
    if settings.kind == "file":
        return RiskFile(name, risk_path(home, settings.path), bound_ms=bound_ms, posture=posture, now=now)
    from forestall.adapter.facts.risk_web import RiskWeb  # an HTTP client with it: only where an address is asked

    return RiskWeb(
        name,
        settings.url,
        bound_ms=bound_ms,
        posture=posture,
        now=now,
        ca_file=risk_path(home, settings.ca_file) if settings.ca_file else None,
        token_file=risk_path(home, settings.token_file) if settings.token_file else None,
    )
