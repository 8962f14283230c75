"""A flow cut in two at `Perform`, for an enforcement point that performs by itself.

What comes before `Perform` and what comes after it are each a flow for a driver; in between, the flow waits, for as
long as the call takes: for a stream, until its last item.
"""

from __future__ import annotations

from forestall.core.ask import Ask, CannotDo, Flow, Perform
from forestall.core.model import Outcome, Result


class Halves:
    def __init__(self, flow: Flow[Outcome]) -> None:
        self._flow = flow
        self.waiting: Perform | None = None
        """What is to be performed now, once; None before `first` came so far, and after `second` began."""

    def first(self) -> Flow[Outcome | None]:
        """Up to `Perform`, and None; or the outcome, where it never comes to that."""
        return (yield from self._go_on(None))

    def second(self, answer: Result | CannotDo) -> Flow[Outcome]:
        """From the answer to `Perform` to the end."""
        assert self.waiting is not None
        self.waiting = None
        outcome = yield from self._go_on(answer)
        assert outcome is not None  # core/flow.py, rule 3: `Perform` is asked at most once
        return outcome

    def _go_on(self, answer: object) -> Flow[Outcome | None]:
        try:
            ask = self._flow.send(None) if answer is None else self._answered(answer)
            while not isinstance(ask, Perform):
                try:
                    answer = yield ask
                except CannotDo as error:
                    answer = error
                ask = self._answered(answer)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            return outcome
        self.waiting = ask
        return None

    def _answered(self, answer: object) -> Ask:
        return self._flow.throw(answer) if isinstance(answer, CannotDo) else self._flow.send(answer)
