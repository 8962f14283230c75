"""What a token may do: the scopes of the action's effects and its tool, never more than the class has. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.grant import covers_tool
from forestall.core.model import Action, Grant, Json, Permit, Scope
from forestall.core.reason import Reason

SCOPE = re.compile(r"[!#-\[\]-~]+")
"""RFC 6749, 3.3: one word of it."""

PARAMETER = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most that any token of a class may do."""

    scopes: Mapping[Effect, tuple[str, ...]]
    """By effect. What has another effect gets no token."""
    tools: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By pattern over `server/tool`: of those scopes, the ones that are left to the tool. Empty: all, to any."""
    resources: tuple[str, ...] = ()
    """RFC 8707."""
    audiences: tuple[str, ...] = ()
    """RFC 8693, 2.1."""
    details: tuple[Json, ...] = ()
    """RFC 9396. A text that is `{name}` stands for the action's argument of that name; there is no such in a longer
    text, which an argument could step out of.
    """

    def plan(self, scope: Scope, permit: Permit, action: Action, grant: Grant) -> dict[str, Any]:
        """Raises CannotDo: out_of_scope, where no scope is left; invalid_arguments, where a detail lacks one."""
        given = self._of_action(permit, action) if scope is Scope.ACTION else self._of(grant.effects)
        if not given:  # a request without a scope asks for whatever the server likes
            raise CannotDo(Reason.OUT_OF_SCOPE, "No scope of the class is for what this may do.")
        rights: dict[str, Any] = {"scope": sorted(given)}
        if self.resources:
            rights["resource"] = list(self.resources)
        if self.audiences:
            rights["audience"] = list(self.audiences)
        if self.details:
            rights["authorization_details"] = [_fill(each, action.arguments) for each in self.details]
        return rights

    def _of_action(self, permit: Permit, action: Action) -> set[str]:
        beyond = permit.effects - self.scopes.keys()
        if beyond:
            names = ", ".join(sorted(effect.value for effect in beyond))
            raise CannotDo(Reason.OUT_OF_SCOPE, f"The class has no `scopes` for the effect: {names}.")
        given = self._of(permit.effects)
        if not self.tools:
            return given
        lists = [scopes for pattern, scopes in self.tools.items() if covers_tool((pattern,), action.tool)]
        return given & {scope for scopes in lists for scope in scopes}

    def _of(self, effects: frozenset[Effect]) -> set[str]:
        return {scope for effect in effects for scope in self.scopes.get(effect, ())}


def texts_of(template: Json) -> set[str]:
    """The texts in a detail."""
    if isinstance(template, str):
        return {template}
    parts = template.values() if isinstance(template, dict) else template if isinstance(template, list) else ()
    return {text for part in parts for text in texts_of(part)}


def _fill(template: Json, arguments: Mapping[str, Json]) -> Json:
    if isinstance(template, dict):
        return {name: _fill(part, arguments) for name, part in template.items()}
    if isinstance(template, list):
        return [_fill(part, arguments) for part in template]
    found = PARAMETER.fullmatch(template) if isinstance(template, str) else None
    return _value(found[1], arguments) if found else template


def _value(name: str, arguments: Mapping[str, Json]) -> str | int:
    """A text or a whole number. An argument that brings its own structure would write the detail itself."""
    value = arguments.get(name)
    if not isinstance(value, str | int) or isinstance(value, bool):
        sentence = f"`{name}` is to be in the credential's rights: a text or a whole number."
        raise CannotDo(Reason.INVALID_ARGUMENTS, sentence)
    return value
