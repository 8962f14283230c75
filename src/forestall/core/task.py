"""A task's life: opened under a mandate, closed by its holder or by the end of its connection."""

from __future__ import annotations

from forestall.core.ask import Flow, Record
from forestall.core.entry import closed, opened
from forestall.core.grant import from_mandate
from forestall.core.label import CLEAN, Label
from forestall.core.model import Grant, Mandate, Subject


def open_task(mandate: Mandate, task: str, subject: Subject, at: int, labels: Label = CLEAN) -> Flow[Grant]:
    """A grant that is written down before anything can be asked under it. Throws `CannotDo` where it cannot be.

    `labels`: of what its holder has seen before; the worst, where that is not known any more.
    """
    grant = from_mandate(mandate, task, subject, at)
    yield Record(opened(grant, subject, at, labels))
    return grant


def close_task(task: str, why: str, at: int) -> Flow[None]:
    """`why`: completed, disconnected, expired or swept."""
    yield Record(closed(task, why, at))
