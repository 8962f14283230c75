"""A task that has got out of hand is suspended: nothing is decided in it until a person resumes it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from forestall.core.control import Command, out_of_hand
from forestall.core.errors import ForestallError
from forestall.core.model import Grant
from forestall.wire import order

if TYPE_CHECKING:
    from forestall.server.point import Point


def heed(point: Point, grant: Grant, trouble: str) -> None:
    """`trouble`: what the watch over the task says of it (`forestall.core.runaway`); empty where that is nothing."""
    if trouble:
        point.track(_suspend(point, out_of_hand(grant.task, grant.tenant, trouble)))


async def _suspend(point: Point, command: Command) -> None:
    try:
        await order(point.parts, command)
    except ForestallError as error:
        point.complain(f"a task was to be suspended ({command.why}), and that is not recorded: {error}")
