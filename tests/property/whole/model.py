"""The second opinion: what callers were told, and what follows from it by the plainest rules.

It looks neither at the log nor at the state, and shares no code with what it is held against.
"""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any

Target = tuple[str, str, str]
"""Its reach, trust domain and name."""

EVERYTHING: Target = ("everything", "", "")


class Model:
    def __init__(self) -> None:
        self.tasks: dict[str, dict[str, Any]] = {}
        """Every task that somebody was told of."""
        self.orders: dict[Target, str] = {}
        """What was acknowledged last, where that is not that all is well."""
        self.acts: dict[str, dict[str, Any]] = {}
        """What was done, by permit."""
        self.perhaps: dict[str, tuple[str, int]] = {}
        """Tasks that may live until then: it was asked for, and nobody was told that it was refused."""

    def told(self, grant: Any) -> None:
        holder = (grant.trust_domain, grant.holder)
        self.tasks[grant.task] = {"grant": grant, "holder": holder, "over": False, "until": grant.expires_at}

    def chain(self, name: str) -> Iterator[str]:
        while name:
            yield name
            name = self.tasks[name]["grant"].parent

    def below(self, name: str) -> list[str]:
        return [one for one in self.tasks if name in self.chain(one)]

    def until(self, name: str) -> int:
        told: int = self.tasks[name]["until"]
        return max([told, *(until for task, until in self.perhaps.values() if task == name)])

    @staticmethod
    def meant(holder: tuple[str, str], user: str, task: str = "") -> set[Target]:
        """Everything that an order about a task with this holder could be about, whatever is above it left out."""
        targets = {EVERYTHING, ("agent", *holder), ("trust_domain", "", holder[0]), ("task", "", task)}
        return targets | {("user", "", user)} if user else targets

    def ordered(self, order: str, target: Target) -> None:
        if order == "resume":
            self.orders.pop(target, None)
            return
        self.orders[target] = order
        for name, task in self.tasks.items():
            if order == "kill" and target in self.meant(task["holder"], task["grant"].user, name):
                task["over"] = True

    def barred(self, holder: tuple[str, str], user: str) -> bool:
        return any(target in self.orders for target in self.meant(holder, user))

    def stopped(self, name: str) -> bool:
        """Was it, or anything above it, ended or suspended?"""
        tasks = [self.tasks[one] for one in self.chain(name)]
        meant = (self.meant(task["holder"], task["grant"].user, task["grant"].task) for task in tasks)
        suspended = any(self.orders.get(target) == "suspend" for targets in meant for target in targets)
        return suspended or any(task["over"] for task in tasks)

    def may(self, name: str, now: int) -> bool:
        """May anything be done for this task now?"""
        return not self.stopped(name) and all(now < self.until(one) for one in self.chain(name))

    def covers(self, name: str, tool: str, effects: set[str], path: str) -> bool:
        return all(allows(self.tasks[one]["grant"], tool, effects, path) for one in self.chain(name))

    def spent(self, name: str, what: str) -> int:
        """By the task and all below it: calls of an effect, rows, or tasks handed on."""
        below = self.below(name)
        if what == "fan_out":
            return len(below) - 1
        acts = [act for act in self.acts.values() if act["task"] in below]
        return sum(act["rows"] if what == "rows" else what in act["effects"] for act in acts)


def allows(grant: Any, tool: str, effects: set[str], path: str) -> bool:
    """By itself alone: is this call within the grant?"""
    bounds = [one for one in grant.resources if fnmatchcase(tool, one.tool)]
    return (
        any(fnmatchcase(tool, pattern) for pattern in grant.tools)
        and effects <= {effect.value for effect in grant.effects}
        and all(fnmatchcase(path, "*".join(one.value)) for one in bounds)
    )
