"""A conversation with a flow, written in the order in which it happens.

book = Playbook(govern(action))
book << Verify(action.proof) >> subject << FindTool("files/read") >> None << Record(ANY) >> None
assert book.outcome == Deny(action.id, Reason.UNKNOWN_TOOL)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from forestall.core.ask import Ask, CannotDo, Flow


class Playbook:
    """`<<` states what the flow must ask for now; `>>` answers it, with a value or with a `CannotDo` to throw."""

    def __init__(self, flow: Flow[Any]) -> None:
        self._flow = flow
        self.pending: Ask | None = None
        self.outcome: Any = None
        self._step(lambda: flow.send(None))

    def __lshift__(self, expected: Ask | type[Ask]) -> Playbook:
        """Expect this ask, or any of this type."""
        matches = type(self.pending) is expected if isinstance(expected, type) else self.pending == expected
        if not matches:
            got = self.pending if self.pending is not None else f"the end, with {self.outcome}"
            raise AssertionError(f"\nexpected {expected}\n     got {got}")
        return self

    def __rshift__(self, answer: Any) -> Playbook:
        if self.pending is None:
            raise AssertionError(f"nothing is asked; the flow ended with {self.outcome}")
        if isinstance(answer, CannotDo):
            self._step(lambda: self._flow.throw(answer))
        else:
            self._step(lambda: self._flow.send(answer))
        return self

    def _step(self, advance: Callable[[], Ask]) -> None:
        try:
            self.pending = advance()
        except StopIteration as stop:
            self.pending, self.outcome = None, stop.value
