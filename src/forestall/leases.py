"""Which credentials have to end now, which could not be ended, and when that is tried again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from forestall.core.ask import CannotDo
from forestall.core.model import Lease
from forestall.lending import Lending

FIRST_RETRY_MS, LONGEST_RETRY_MS = 1_000, 60_000
"""Between two attempts to end one: twice as long each time."""

LIST_EVERY_MS = 600_000
"""Between two looks for what lives at a backend and no record knows."""

LOOK_EVERY_S = 1.0
"""Between two looks at those that live, for what nobody tells: that one ran out, or that its task's risk rose."""

SHORTEST_PAUSE_S = 0.05
"""Between two looks, where a renewal is due that has not been answered yet."""


@dataclass(frozen=True, slots=True)
class Failing:
    """One that could not be ended."""

    lease: Lease
    why: str
    """It is to be ended."""
    detail: str
    """What keeps it from that."""
    since: int
    attempts: int
    again_at: int


class Book:
    """Of one process. Not safe to share: its driver calls it from one thread, or one loop."""

    def __init__(self, lending: Lending, now: Callable[[], int], say: Callable[[str], None]) -> None:
        self._lending, self._now, self._say = lending, now, say
        self.failing: dict[str, Failing] = {}
        """By name."""
        self.trouble: dict[str, str] = {}
        """By class: why its backend could not be asked for orphans, or one could not be renewed."""
        self._retry_renewal: dict[str, int] = {}
        self._list_at = 0
        self._lists = 0

    def due(self) -> list[tuple[Lease, str]]:
        """Those that are over and not waiting for another attempt, each with why."""
        at, found = self._now(), self._lending.living.due()
        names = {lease.name for lease, _ in found}
        orphans = [
            (one.lease, one.why) for name, one in self.failing.items() if name not in names and not one.lease.task
        ]
        self.failing = {
            name: one
            for name, one in self.failing.items()
            if name in names or not one.lease.task or self._lending.living.is_ending(name)
        }
        return [(lease, why) for lease, why in (*found, *orphans) if self._again_at(lease.name) <= at]

    def _again_at(self, name: str) -> int:
        failing = self.failing.get(name)
        return 0 if failing is None else failing.again_at

    def ended(self, lease: Lease) -> None:
        self.failing.pop(lease.name, None)

    def failed(self, lease: Lease, why: str, error: CannotDo) -> None:
        """It could not be ended, or that could not be written."""
        at, before = self._now(), self.failing.get(lease.name)
        attempts = 1 if before is None else before.attempts + 1
        ends_at = self._lending.living.ends_alone_at(lease)
        pause = min(FIRST_RETRY_MS << min(attempts - 1, 16), LONGEST_RETRY_MS)
        again_at = at + pause if ends_at is None else max(ends_at, at + pause)
        detail = error.detail or error.reason.value
        self.failing[lease.name] = Failing(
            lease, why, detail, at if before is None else before.since, attempts, again_at
        )
        if ends_at is None or at >= ends_at:
            self._say(
                f"A credential of `{lease.credential}` that is over could not be ended at its backend and is tried "
                f"again, see `forestall leases`: {detail.rstrip('.')}"
            )

    # -- renewals

    def renewals(self) -> list[str]:
        at = self._now()
        return [name for name, due in self._renewing().items() if due <= at]

    def pause_s(self) -> float:
        """Until the next look, unless something happens before."""
        next_at = min(self._renewing().values(), default=0)
        if not next_at:
            return LOOK_EVERY_S
        return min(LOOK_EVERY_S, max(SHORTEST_PAUSE_S, (next_at - self._now()) / 1000))

    def _renewing(self) -> dict[str, int]:
        """By name: when each is to be renewed."""
        return {
            name: max(due, self._retry_renewal.get(name, 0)) for name, due in self._lending.living.renewable().items()
        }

    def renewed(self, name: str) -> None:
        self._retry_renewal.pop(name, None)

    def not_renewed(self, name: str, error: CannotDo) -> None:
        self._retry_renewal = {one: at for one, at in self._retry_renewal.items() if at > self._now()}
        self._retry_renewal[name] = self._now() + FIRST_RETRY_MS
        self._say(f"The credential {name} could not be renewed: {(error.detail or error.reason.value).rstrip('.')}")

    # -- orphans

    def may_list(self) -> bool:
        """Is it time to ask every backend? At a start; again once whatever the process before asked for has been
        answered; and then now and again.
        """
        at = self._now()
        if at < self._list_at:
            return False
        self._list_at = at + (self._lending.patience_ms if self._lists == 0 else LIST_EVERY_MS)
        self._lists += 1
        self._lending.recovering.forget_stray()
        return True

    def listed(self, name: str) -> None:
        self.trouble.pop(name, None)

    def not_listed(self, name: str, error: CannotDo) -> None:
        detail = error.detail or error.reason.value
        self.trouble[name] = detail
        self._say(
            f"The backend of `{name}` cannot be asked for credentials that nobody remembers: {detail.rstrip('.')}"
        )

    # -- for people

    def rows(self) -> list[dict[str, Any]]:
        """Every credential that may be alive, as JSON, the oldest first."""
        rows = [self._row(lease, since) for since, lease in self._lending.living.alive()]
        return [*rows, *(self._row(one.lease, one.since) for one in self.failing.values() if not one.lease.task)]

    def summary(self) -> dict[str, Any]:
        """What an operator should know, as JSON."""
        rows = self.rows()
        standing = [name for name, one in self._lending.classes.items() if one.broker.traits.standing]
        return {
            "alive": sum(row["state"] == "alive" for row in rows),
            "ending": sum(row["state"] == "ending" for row in rows),
            "failing": sum(row["state"] == "failing" for row in rows),
            "standing": sorted(standing),
            "exposed": [
                {"name": row["name"], "credential": row["credential"], "task": row["task"], "place": row["place"]}
                for row in rows
                if row["exposed"]
            ],
            "trouble": dict(sorted(self.trouble.items())),
        }

    def _row(self, lease: Lease, since: int) -> dict[str, Any]:
        failing = self.failing.get(lease.name)
        why = self._lending.living.why_over(lease) if failing is None else failing.why
        state = "alive" if not why else "ending"
        if failing is not None and self._lending.living.ends_alone_at(lease) is None:
            state = "failing"
        place = lease.place
        return {
            "name": lease.name,
            "credential": lease.credential,
            "backend": lease.backend,
            "scope": lease.scope.value,
            "task": lease.task,
            "permit": lease.permit,
            "rights": dict(lease.rights),
            "place": None if place is None else {"where": place.where.value, "name": place.name},
            "since": since,
            "until": self._lending.living.until(lease),
            "state": state,
            "why": why,
            "detail": "" if failing is None else failing.detail,
            "attempts": 0 if failing is None else failing.attempts,
            "again_at": None if failing is None else failing.again_at,
            "standing": lease.standing,
            "exposed": lease.exposed,
        }
