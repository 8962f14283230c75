"""A credential came back where a model could have read it: the task's risk is high from now on.

The enforcement point withheld what it found. Whoever made the tool say it may know another way, so nothing that the
task was given is trusted to be its own any more; and its credentials end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from forestall.core.control import leaked
from forestall.core.errors import ForestallError
from forestall.core.model import Grant, Risk
from forestall.wire import order

if TYPE_CHECKING:
    from forestall.server.point import Point


class Leaks:
    """Of one connection."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self._raising = False
        """An order is on its way: what is told meanwhile is the same to it."""

    def heed(self, grant: Grant, where: str) -> None:
        """`where`: in what it came back, for the operator."""
        self._point.parts.lending.ending.condemn_task(grant.task, "leaked")
        if self._raising:
            return
        self._raising = True
        self._point.track(self._raise(grant, f"a credential came back in {where}"))

    async def _raise(self, grant: Grant, why: str) -> None:
        point = self._point
        point.say_once(f"Of task {grant.task}: {why}; it was withheld")
        try:
            if point.parts.state.risk(grant) is not Risk.HIGH:
                await order(point.parts, leaked(grant.task, grant.tenant, why))
        except ForestallError as error:
            point.complain(f"a task's risk was to be raised ({why}), and that is not recorded: {error}")
        finally:
            self._raising = False
