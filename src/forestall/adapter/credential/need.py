"""What a credential is needed for, as brokers plan it: by effects, and by names that a task or a call gives."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

from forestall.core.ask import CannotDo
from forestall.core.effects import UNKNOWN, Effect, highest
from forestall.core.model import Action, Grant, Json, Lease, Permit, Scope
from forestall.core.reason import Reason

_PLACE = re.compile(r"\{(parameters|arguments)\.([A-Za-z_][A-Za-z0-9_-]{0,63})\}")

_LEASE = re.compile(r"forestall-[0-9a-f]{8}-[0-9a-z-]{0,39}[0-9a-z]")
"""Names that every backend takes as they are: they hold nothing that is special in a URL, in JSON or in a pattern."""


@dataclass(frozen=True, slots=True)
class Template:
    """Text with `{parameters.NAME}` for a parameter of the task, `{arguments.NAME}` for an argument of the call."""

    text: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError for braces that are no such place."""
        if set("{}") & set(_PLACE.sub("", text)):
            raise ValueError("a brace stands alone; write {parameters.NAME} or {arguments.NAME}")
        return cls(text)

    @property
    def needs_arguments(self) -> bool:
        """Is it another text for each call? A task's credential cannot be."""
        return any(place[1] == "arguments" for place in _PLACE.finditer(self.text))

    @property
    def fixed(self) -> bool:
        return not _PLACE.search(self.text)

    def fill(self, grant: Grant, action: Action, allowed: re.Pattern[str]) -> str:
        """With values in its places, each of which is all `allowed`.

        Raises:
            CannotDo: out_of_scope, where the task has no such parameter; invalid_arguments, likewise of the call.
        """

        def value(place: re.Match[str]) -> str:
            parameter = place[1] == "parameters"
            values: Mapping[str, Json] = grant.parameters if parameter else action.arguments
            found = values.get(place[2])
            if isinstance(found, str) and allowed.fullmatch(found):
                return found
            what = f"The task's parameter `{place[2]}`" if parameter else f"The argument `{place[2]}`"
            reason = Reason.OUT_OF_SCOPE if parameter else Reason.INVALID_ARGUMENTS
            raise CannotDo(reason, f"{what}, which says what the credential is for, is missing or no such name.")

        return _PLACE.sub(value, self.text)


def effects_of(scope: Scope, permit: Permit, grant: Grant) -> frozenset[Effect]:
    """What it has to be good for: the call's effects, or all of the task's.

    Raises:
        CannotDo: out_of_scope, where the call does what the task may not.
    """
    needed = permit.effects or UNKNOWN
    if not needed <= grant.effects:
        raise CannotDo(Reason.OUT_OF_SCOPE, "The call has an effect that its task may not have.")
    return grant.effects if scope is Scope.TASK else needed


def gravest(scope: Scope, permit: Permit, grant: Grant, served: Collection[Effect]) -> Effect:
    """For what a credential is, of a class that serves these effects: the gravest effect of the call, which has to be
    one of them; of a task, the gravest that is.

    Raises:
        CannotDo: out_of_scope.
    """
    effects = effects_of(scope, permit, grant)
    of_call, of_task = highest(permit.effects or UNKNOWN), effects & set(served)
    if of_call not in of_task:
        raise CannotDo(Reason.OUT_OF_SCOPE, f"The class has no rights for the effect `{of_call}`.")
    return highest(of_task) if scope is Scope.TASK else of_call


def require_name(lease: Lease, prefix: str) -> str:
    """The lease's name, if it is one that this Forestall gives. Raises CannotDo(unavailable)."""
    if lease.name.startswith(prefix) and _LEASE.fullmatch(lease.name):
        return lease.name
    raise CannotDo(Reason.UNAVAILABLE, f"The lease's name is not one of `{prefix}`, and nothing is asked about it.")
