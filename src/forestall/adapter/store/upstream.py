"""Which tasks have actions that nobody has decided yet. In memory alone. Not safe to share: `LogState` holds its lock
around it.

A crash forgets it, and loses nothing by that: what was undecided then has no permit, and is asked anew or never. A hold
that outlives the process has to be told again by whoever kept it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from forestall.adapter.store.tree import Trees


@dataclass(slots=True)
class Undecided:
    _task_of: dict[str, str] = field(default_factory=dict)
    """By action."""
    _actions: dict[str, set[str]] = field(default_factory=dict)
    """By task."""
    watching: dict[Callable[[], None], str] = field(default_factory=dict)
    """Whom to wake once nothing above this task is undecided."""

    def add(self, action: str, task: str) -> None:
        self.remove(action)
        self._task_of[action] = task
        self._actions.setdefault(task, set()).add(action)

    def remove(self, action: str) -> None:
        task = self._task_of.pop(action, None)
        if task is None:
            return
        actions = self._actions[task]
        actions.discard(action)
        if not actions:
            del self._actions[task]

    def drop(self, task: str) -> None:
        """What a task asked for that is over is never decided."""
        for action in self._actions.pop(task, set()):
            del self._task_of[action]

    def wake(self, trees: Trees) -> None:
        """Whoever has nothing to wait for any more, and then watches no more."""
        for wake, task in list(self.watching.items()):
            if not self.among(trees.above(task)):
                del self.watching[wake]
                wake()

    def among(self, tasks: Iterable[str]) -> tuple[str, ...]:
        return tuple(task for task in tasks if task in self._actions)
