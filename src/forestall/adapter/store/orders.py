"""Orders about tasks, by their place in the log. Not safe to share: `LogState` holds its lock around it.

Entries are heard of in almost the order in which the log has them. What is kept of a target is therefore what stands,
and besides it only what an entry that is still to come could lie between.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass, field

from forestall.core.control import Command, Order, Reach, Target, barring, covering
from forestall.core.model import Grant, Risk

_LEVEL = {level: number for number, level in enumerate(Risk)}


@dataclass(frozen=True, slots=True, order=True)
class Given:
    """An order, and where the log has it."""

    index: int
    at: int
    command: Command = field(compare=False)


@dataclass(slots=True)
class OrdersGiven:
    epoch: int = 0
    """How many were taken in."""
    changed: set[Target] = field(default_factory=set)
    _given: dict[Target, list[Given]] = field(default_factory=dict)
    """Kill, suspend and resume, in the order of the log."""
    _risks: dict[Target, Given] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Is there anything that stands?"""
        return bool(self._given or self._risks)

    def take(self, given: Given, below: int) -> None:
        """`below`: every entry under this index was heard of, this one perhaps among them."""
        self.epoch += 1
        self.add(given)
        self._tidy(given.command.target.plain(), below)

    def add(self, given: Given) -> None:
        """As it is, and counted already."""
        target = given.command.target.plain()
        self.changed.add(target)
        if given.command.order is not Order.RISK:
            insort(self._given.setdefault(target, []), given)
        elif target not in self._risks or self._risks[target] < given:
            self._risks[target] = given

    def rows(self, target: Target) -> list[Given]:
        """All that is kept of it."""
        risk = self._risks.get(target)
        return [*self._given.get(target, ()), *([] if risk is None else [risk])]

    def drop(self, task: str, tenant: str) -> None:
        """The task is forgotten, and so is what was ordered about it alone."""
        for target in {Target(Reach.TASK, task), Target(Reach.TASK, task, tenant=tenant)}:
            if self._given.pop(target, None) or self._risks.pop(target, None):
                self._risks.pop(target, None)
                self.changed.add(target)

    def about(self, target: Target) -> Command | None:
        """The kill or suspension that stands for exactly this target, and was the last to be ordered."""
        given = self._standing(target.plain())
        return None if given is None else given.command

    def standing(self) -> list[Given]:
        """The last word on each target, where that is not that all is well."""
        last = [given for target in self._given if (given := self._standing(target)) is not None]
        risks = [given for given in self._risks.values() if given.command.level is not Risk.LOW]
        return sorted([*last, *risks])

    def suspending(self, grant: Grant) -> Given | None:
        """What keeps the grant's own task from getting permits now; what is above it is the caller's to ask for."""
        if not self._given:
            return None
        standing = (self._standing(target) for target in covering(grant))
        return next((given for given in standing if given and given.command.order is Order.SUSPEND), None)

    def barring(self, targets: Iterable[Target], index: int | None = None) -> Given | None:
        """What keeps a task that these cover from being opened, now or where the log has this entry: a kill first."""
        if not self._given:
            return None
        standing = [given for target in targets if (given := self._standing(target, index)) is not None]
        return min(standing, key=lambda given: given.command.order is not Order.KILL, default=None)

    def bars(self, grant: Grant, index: int) -> Given | None:
        """Why a task that entry `index` opened never lived."""
        return self.barring(barring(grant.tenant, grant.chain, grant.user), index) if self._given else None

    def killed(self, grant: Grant, opened: int) -> int | None:
        """Where the log ends a task that was opened at `opened`, as far as orders about it are known by now."""
        if not self._given:
            return None
        kills = (
            given.index
            for target in covering(grant)
            for given in self._given.get(target, ())
            if given.index > opened and given.command.order is Order.KILL
        )
        return min(kills, default=None)

    def risk(self, grants: Iterable[Grant]) -> Risk:
        """The highest that is said of any of them."""
        if not self._risks:
            return Risk.LOW
        said = (self._risks.get(target) for grant in grants for target in covering(grant))
        levels = (given.command.level or Risk.LOW for given in said if given is not None)
        return max(levels, key=_LEVEL.__getitem__, default=Risk.LOW)

    def _standing(self, target: Target, index: int | None = None) -> Given | None:
        """The last that was said of the target, before entry `index`; None where that was a resume."""
        last = None
        for given in self._given.get(target, ()):
            if index is not None and given.index > index:
                break
            last = given
        return None if last is None or last.command.order is Order.RESUME else last

    def _tidy(self, target: Target, below: int) -> None:
        """Let go of what nothing can depend on any more."""
        given = self._given.get(target, [])
        heard = [one for one in given if one.index < below]
        if heard:
            over = heard[-1].command.order is Order.RESUME or (
                heard[-1].command.order is Order.KILL and target.reach is Reach.TASK
            )
            given[: len(heard)] = [] if over else heard[-1:]
        if not given:
            self._given.pop(target, None)
        risk = self._risks.get(target)
        if risk is not None and risk.index < below and risk.command.level in {None, Risk.LOW}:
            del self._risks[target]
