"""A task of a Python program: the approved purpose that its calls serve, for as long as a `with` block lasts."""

from __future__ import annotations

from contextvars import ContextVar, Token
from types import TracebackType
from typing import Self

from forestall.core.ask import CannotDo, Flow
from forestall.core.errors import ForestallError, InvalidInput, Refused, Unavailable
from forestall.core.label import Label
from forestall.core.mandate import NO_WISH, Wish
from forestall.core.model import Deny, Grant, Mandate
from forestall.core.reason import Reason
from forestall.core.task import close_task, open_task, told
from forestall.pep.point import DecisionPoint
from forestall.pep.sought import Sought
from forestall.run import run, run_async

_NOT_DECIDED = frozenset({Reason.UNAVAILABLE, Reason.DEADLINE, Reason.CANCELLED})


class Task:
    """Entered once, with `with` or `async with`. Calls made in the block, and in asyncio tasks started in it, belong to
    it; a thread belongs to it where it runs in a copy of the context, as `asyncio.to_thread` does.

    A task within a task is refused: its authority would have to be part of the outer one's.
    """

    def __init__(
        self, point: DecisionPoint, current: ContextVar[Task | None], mandate: Mandate, wish: Wish = NO_WISH
    ) -> None:
        self.id = point.random(16).hex()
        self.purpose = mandate.purpose
        self.ended = False
        self.streaming: dict[str, Label] = {}
        """By call: the labels of streams that are being read."""
        self.sought = Sought()
        self._point = point
        self._current = current
        self._mandate = mandate
        self._wish = wish
        self._entered = False
        self._token: Token[Task | None] | None = None

    def __enter__(self) -> Self:
        opening = self._opening()
        try:
            run(opening, self._point.handlers)
        except CannotDo as error:
            raise self._not_opened(error) from None
        return self._made_current()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._leave()
        self._point.settle_abandoned()
        try:
            run(self._closing(error), self._point.handlers)
        except CannotDo as failure:
            if error is None:
                raise _not_closed(failure) from None

    async def __aenter__(self) -> Self:
        opening = self._opening()
        try:
            await run_async(opening, self._point.handlers_async)
        except CannotDo as error:
            raise self._not_opened(error) from None
        return self._made_current()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._leave()
        self._point.settle_abandoned()
        try:
            await run_async(self._closing(error), self._point.handlers_async)
        except CannotDo as failure:
            if error is None:
                raise _not_closed(failure) from None

    def _opening(self) -> Flow[Grant]:
        self._point.require_here()
        outer = self._current.get()
        if outer is not None and not outer.ended:
            raise InvalidInput(f"A task is open here already ({outer.purpose!r}); end it before you open another.")
        if self._entered:
            raise InvalidInput("A task is entered once; open a new one with `guard.task(...)`.")
        self._entered = True
        point = self._point
        return open_task(self._mandate, self.id, point.subject, point.now(), wish=self._wish, salt=point.random(16))

    def _not_opened(self, error: CannotDo) -> ForestallError:
        if error.reason in _NOT_DECIDED:
            return Unavailable(f"The task could not be opened, so nothing can be done in it: {error}.")
        return Refused(Deny(self.id, error.reason), f"The task is not opened ({error.reason}): {told(error)}")

    def _made_current(self) -> Self:
        self._token = self._current.set(self)
        return self

    def _leave(self) -> None:
        """From here on its calls are refused, wherever they are made."""
        self._point.require_here()
        self.ended = True
        try:
            assert self._token is not None
            self._current.reset(self._token)
        except ValueError:  # left in another context than it was entered in; there, it is not current
            self._current.set(None)

    def _closing(self, error: BaseException | None) -> Flow[None]:
        return close_task(self.id, "failed" if error else "completed", self._point.now())


def _not_closed(error: CannotDo) -> Unavailable:
    return Unavailable(f"The end of the task could not be recorded; its calls are refused all the same: {error}.")
