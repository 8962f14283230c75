"""A task that has got out of hand: it repeats what was refused, storms, loops, floods, or delegates without end.

Counting alone, for one task and by the minute. The thresholds are such that no agent that does its work meets them;
what comes of meeting one is an order of Forestall's own, which a person lifts.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace

from forestall.core.model import Action, Deny
from forestall.core.reason import Reason

MINUTE_MS = 60_000

REMEMBER_MS = 10_000
"""How long a refusal answers for its repetitions: what it depended on may change without anybody telling."""

MAX_REFUSED = 256
"""Refusals that are remembered of one task."""

MAX_PERMITTED = 1024
"""Different calls that are told apart in one minute. A loop over more of them is a burst, or none."""

MAX_TASKS = 4096
"""Tasks that are watched; of more, the one that was begun longest ago is watched anew."""

REMEMBERED = frozenset({Reason.FORBIDDEN, Reason.NO_POLICY, Reason.OUT_OF_SCOPE})
"""Final, and of the call itself. A budget comes back, a tool is reviewed; what is retryable may have its cause gone."""

STOPPED = frozenset({Reason.SUSPENDED, Reason.REVOKED})
"""Nothing is left to be stopped."""


@dataclass(frozen=True, slots=True)
class Pace:
    """Of one task, each in a minute."""

    calls: int
    denials: int
    same_call: int
    too_deep: int


@dataclass(slots=True)
class Watch:
    """One task. Every method that counts answers why the task is to be suspended, or nothing."""

    pace: Pace
    stopped: bool = False
    """That was answered once: nothing more is decided until `renew`."""
    _since: int = 0
    _calls: int = 0
    _denials: int = 0
    _deep: int = 0
    _permitted: dict[str, int] = field(default_factory=dict)
    _refused: dict[str, tuple[int, Deny]] = field(default_factory=dict)

    def recall(self, action: Action) -> Deny | None:
        """The answer to a call that was refused a moment ago, if nothing has happened since that may change it."""
        if self.stopped:
            return Deny(action.id, Reason.SUSPENDED)
        if not self._refused:
            return None
        at, denial = self._refused.get(_key(action), (0, None))
        if denial is None or action.at - at >= REMEMBER_MS:
            return None
        return replace(denial, id=action.id)

    def permitted(self, action: Action) -> str:
        self._begin(action.at)
        self._calls += 1
        if self._calls > self.pace.calls:
            return self._stop(f"a burst: more than {self.pace.calls} permitted calls in a minute")
        key = _key(action)
        count = self._permitted.get(key, 0) + 1
        if count > self.pace.same_call:
            return self._stop(f"a loop: one call of {action.tool} more than {self.pace.same_call} times in a minute")
        if count > 1 or len(self._permitted) < MAX_PERMITTED:
            self._permitted[key] = count
        return ""

    def denied(self, action: Action, denial: Deny) -> str:
        """A denial that was recalled counts as well, and is not remembered any longer for it."""
        if denial.reason in STOPPED:
            return ""
        self._begin(action.at)
        self._denials += 1
        self._deep += denial.reason is Reason.DEPTH
        key = _key(action)
        known = self._refused.get(key)
        if denial.reason in REMEMBERED and (known is None or action.at - known[0] >= REMEMBER_MS):
            if len(self._refused) >= MAX_REFUSED:
                self._refused.clear()
            self._refused[key] = (action.at, denial)
        if self._denials > self.pace.denials:
            return self._stop(f"a storm: more than {self.pace.denials} denials in a minute")
        if self._deep > self.pace.too_deep:
            return self._stop(f"a chain too deep: more than {self.pace.too_deep} refusals for it in a minute")
        return ""

    def forget(self) -> None:
        """Something was done: what was refused before may be permitted now."""
        self._refused.clear()

    def renew(self) -> None:
        """Rules, orders or approvals changed: what was refused may be permitted, and what was stopped begins anew.

        What was not stopped goes on being counted: it may have been another task that the order was about.
        """
        if self.stopped:
            self.stopped, self._since = False, 0
        self._refused.clear()

    def _begin(self, at: int) -> None:
        if not 0 <= at - self._since < MINUTE_MS:
            self._since, self._calls, self._denials, self._deep = at, 0, 0, 0
            self._permitted.clear()

    def _stop(self, why: str) -> str:
        """Said once."""
        if self.stopped:
            return ""
        self.stopped = True
        return why


@dataclass(slots=True)
class Runaways:
    """The tasks of one decision point, whichever way their calls come."""

    pace: Pace
    _watches: OrderedDict[str, Watch] = field(default_factory=OrderedDict)

    def of(self, task: str) -> Watch:
        watch = self._watches.get(task)
        if watch is None:
            watch = self._watches[task] = Watch(self.pace)
            if len(self._watches) > MAX_TASKS:
                self._watches.popitem(last=False)
        return watch

    def renew(self) -> None:
        for watch in list(self._watches.values()):
            watch.renew()


def _key(action: Action) -> str:
    return f"{action.tool}\n{action.pin}\n{action.digest}"
