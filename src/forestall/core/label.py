"""Information flow: what is known of the data that a task has seen."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Integrity(StrEnum):
    """May the data choose what happens?"""

    TRUSTED = "trusted"
    UNTRUSTED = "untrusted"


class Confidentiality(StrEnum):
    """Who may see the data? From the widest circle to the narrowest."""

    PUBLIC = "public"
    INTERNAL = "internal"
    CONFIDENTIAL = "confidential"
    SECRET = "secret"  # noqa: S105 - a level, not a password


_NARROWNESS = {level: rank for rank, level in enumerate(Confidentiality)}


@dataclass(frozen=True, slots=True)
class Label:
    integrity: Integrity
    confidentiality: Confidentiality

    def join(self, other: Label) -> Label:
        """The label of data made from both: the lower integrity, the higher confidentiality."""
        own, others = self.confidentiality, other.confidentiality
        return Label(
            Integrity.UNTRUSTED if Integrity.UNTRUSTED in (self.integrity, other.integrity) else Integrity.TRUSTED,
            own if _NARROWNESS[own] > _NARROWNESS[others] else others,
        )

    def may_flow(self, sink: Label) -> bool:
        """May data of this label reach a place that holds `sink`?"""
        return self.join(sink) == sink


CLEAN = Label(Integrity.TRUSTED, Confidentiality.PUBLIC)
"""What a task knows before it has read anything."""

WORST = Label(Integrity.UNTRUSTED, Confidentiality.SECRET)
"""What an output is taken to be when nobody has said, and what a task resumes with when its books were lost."""
