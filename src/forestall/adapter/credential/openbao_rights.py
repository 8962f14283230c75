"""What an OpenBao or Vault token of one lease may do: told from the class, the grant and the mandate's parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from forestall.core.ask import CannotDo
from forestall.core.effects import Effect, highest
from forestall.core.model import NOTHING, Grant, Json, Permit, Scope
from forestall.core.reason import Reason

ROLE = "role"
"""The template's field that `roles` fills in."""

_FIELD = re.compile(r"\{([a-z][a-z0-9_]{0,63})\}")
_VALUE = re.compile(r"[A-Za-z0-9_@-][A-Za-z0-9_@.-]{0,127}")
"""Nothing that separates, climbs, escapes, matches several, or is a template itself."""


class Kind(StrEnum):
    DATABASE = "database"  # a user of a database: a read below `database/creds/`
    DYNAMIC = "dynamic"  # whatever another engine makes, with a lease
    TOKEN = "token"  # noqa: S105 - the kind; the child token itself


class Method(StrEnum):
    READ = "read"
    WRITE = "write"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a class says of its credentials, with templates in it: `{role}`, and `{name}` for a mandate's parameter."""

    kind: Kind
    policies: tuple[str, ...]
    """Of the child token, which has these and no others."""
    path: str = ""
    """What is read or written with it; none for a token that is given out itself."""
    method: Method = Method.READ
    data: Mapping[str, Json] = field(default_factory=lambda: NOTHING)
    """What is written."""
    roles: Mapping[Effect, str] = field(default_factory=lambda: NOTHING)
    """The role that has what an effect needs, and what milder ones here need. None: one for all that policy permits."""
    leases: tuple[str, ...] = ()
    """Of a token that is given out: where its holder can have leases made. They end with it, which is waited for."""
    uses: int = 0
    """Of a token that is given out: how many requests it is good for; 0 for any number."""


def plan(wanted: Wanted, scope: Scope, permit: Permit, grant: Grant) -> Mapping[str, Any]:
    """The rights of one lease.

    Raises:
        CannotDo: out_of_scope, where no role has what is needed; invalid_arguments, where a template needs what the
            task does not have, or a parameter's value could be more than a name.
    """
    values = dict(grant.parameters)
    if wanted.roles:
        values[ROLE] = _role(wanted.roles, scope, permit, grant)
    else:
        values.pop(ROLE, None)
    rights: dict[str, Any] = {
        "kind": wanted.kind.value,
        "policies": sorted({fill(each, values) for each in wanted.policies}),
        "leases": [fill(each, values) for each in wanted.leases],
    }
    if wanted.kind is Kind.TOKEN:
        return {**rights, "uses": wanted.uses}
    path = fill(wanted.path, values)
    rights |= {"path": path, "method": wanted.method.value, "leases": [path]}
    if wanted.method is Method.WRITE:
        rights["data"] = {name: _filled(value, values) for name, value in wanted.data.items()}
    return rights


def fields(template: str) -> frozenset[str]:
    """What a template needs. Raises ValueError where it is none."""
    if {"{", "}"} & set(_FIELD.sub("", template)):
        raise ValueError("a brace that begins or ends no `{name}`")
    return frozenset(_FIELD.findall(template))


def fill(template: str, values: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        given = values.get(found[1])
        if given is None:
            sentence = f"The class needs the parameter `{found[1]}`, which the task's mandate does not have."
            raise CannotDo(Reason.INVALID_ARGUMENTS, sentence)
        if not _VALUE.fullmatch(given) or ".." in given:
            sentence = f"The value of the parameter `{found[1]}` is no plain name, so no path is made of it."
            raise CannotDo(Reason.INVALID_ARGUMENTS, sentence)
        return given

    return _FIELD.sub(value, template)


def _filled(value: Json, values: Mapping[str, str]) -> Json:
    return fill(value, values) if isinstance(value, str) else value


def _role(roles: Mapping[Effect, str], scope: Scope, permit: Permit, grant: Grant) -> str:
    """That of the gravest effect: of the call, or of all that the task may do and this class has a role for."""
    needed = highest(permit.effects)
    if needed not in roles or needed not in grant.effects:
        raise CannotDo(Reason.OUT_OF_SCOPE, f"The class has no role for the effect `{needed}`.")
    if scope is Scope.ACTION:
        return roles[needed]
    return roles[highest(grant.effects & roles.keys())]
