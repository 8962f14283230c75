"""From a reviewed template to a task's authority: parameters take their values, and bounds become bounds to them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache

from forestall.core.attenuate import covered
from forestall.core.effects import Effect
from forestall.core.model import NOTHING, Grant, Mandate, Parameter, Resource, Subject
from forestall.core.reason import Objection, Reason

MAX_LENGTH = 1024
"""Characters of a parameter's value, at the most that a mandate may let through."""

MAX_PATTERN = 256
"""Characters of a parameter's pattern."""

MAX_OPEN = 2
"""Parts of a pattern that may match more or less of a text. With three, hostile values take too long to refuse."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_PLACE = re.compile(r"\{([a-z][a-z0-9_]{0,31})\}")
_ATOM = r"(?:\\[dws.\-/+*?()|{}\[\]^$\\]|\[\^?(?:[^\]\[\\^]|\\[dws.\-/\]\[\\^])+\]|[^\\\[\](){}*+?|^$.])"
_MANY = r"(?:\*|\+|\?|\{\d{1,4}(?:,\d{0,4})?\})"
_PATTERN = re.compile(rf"(?:{_ATOM}{_MANY}?)+")
_OPEN = re.compile(rf"{_ATOM}(\*|\+|\?|\{{\d{{1,4}},\d{{0,4}}\}})|{_ATOM}{_MANY}?")


class Origin(StrEnum):
    """How a user's request reached us."""

    NONE = "none"  # there is none
    ASSERTED = "asserted"  # the workload says so; it vouches for nothing
    USER = "user"  # over the user's own authenticated channel


@dataclass(frozen=True, slots=True)
class Wish:
    """What a task is opened with, besides its mandate. Who wishes has been verified, and so has the user."""

    parameters: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    user: str = ""
    request: str = ""
    """`sha256:` over what the user asked for."""
    lifetime_ms: int | None = None
    """None: as long as the mandate lets it. A shorter life can be extended up to that."""
    origin: Origin = Origin.NONE
    """How the request came here."""
    purpose: str = ""
    """In the words of who opens it. The mandate's own purpose counts, where it has one."""
    tools: tuple[str, ...] | None = None
    """None, here and below: as the mandate has it."""
    effects: frozenset[Effect] | None = None


NO_WISH = Wish()


def from_mandate(mandate: Mandate, task: str, subject: Subject, at: int, wish: Wish = NO_WISH) -> Grant | Objection:
    """The grant of a task that is opened. A parameter that the mandate does not have is an objection, as is one that
    is missing or does not look as it must.
    """
    against = _objection(mandate.parameters, wish.parameters)
    if against is not None:
        return against
    lifetime = mandate.lifetime_ms if wish.lifetime_ms is None else wish.lifetime_ms
    if not 0 < lifetime <= mandate.lifetime_ms:
        return Objection(Reason.BEYOND_MANDATE, f"a life of {lifetime} ms; `{mandate.name}` has {mandate.lifetime_ms}")
    against = _unclear(mandate, wish)
    if against is not None:
        return against
    return Grant(
        task=task,
        holder=subject.id,
        purpose=mandate.purpose or wish.purpose,
        mandate=mandate.name,
        tools=mandate.tools if wish.tools is None else wish.tools,
        effects=mandate.effects if wish.effects is None else wish.effects,
        expires_at=at + lifetime,
        budget=mandate.budget,
        max_depth=mandate.depth,
        per_call=mandate.per_call,
        tenant=subject.tenant,
        trust_domain=subject.trust_domain,
        instance=subject.instance,
        key=subject.key,
        user=wish.user,
        request=wish.request,
        parameters=wish.parameters,
        resources=tuple(bound(resource, wish.parameters) for resource in mandate.resources),
        ceiling=mandate.ceiling,
        longest_at=at + mandate.lifetime_ms if lifetime < mandate.lifetime_ms else 0,
    )


def bound(template: Resource, values: Mapping[str, str]) -> Resource:
    """A mandate's resource with the values of its parameters, each taken as it is: a `*` in one is a star."""
    parts = tuple(_PLACE.sub(lambda place: values[place[1]], part) for part in template.value)
    return Resource(template.tool, template.argument, parts)


def places(template: str) -> frozenset[str] | None:
    """The parameters that a resource's value speaks of; None where its braces are not theirs."""
    if set("{}") & set(_PLACE.sub("", template)):
        return None
    return frozenset(_PLACE.findall(template))


def is_name(text: str) -> bool:
    """Could a parameter be called this?"""
    return _NAME.fullmatch(text) is not None


def require_pattern(text: str) -> str:
    """A pattern that is quick to refuse any value: letters, classes and how often each, without groups, choices,
    anchors or a bare dot, and with two parts at the most that match more or less.

    Raises:
        ValueError: it is another kind of pattern, or none; says what to write.
    """
    if len(text) > MAX_PATTERN or not _PATTERN.fullmatch(text):
        raise ValueError("write letters and classes such as `[0-9]{6}`; no groups, choices, anchors or bare dots")
    if sum(bool(found[1]) for found in _OPEN.finditer(text)) > MAX_OPEN:
        raise ValueError(f"at most {MAX_OPEN} parts of it may match more or less of a text")
    try:
        _compiled(text)
    except (re.error, OverflowError, RecursionError):
        raise ValueError("it is not a regular expression") from None
    return text


def _objection(declared: Mapping[str, Parameter], values: Mapping[str, str]) -> Objection | None:
    for name in declared:
        if name not in values:
            return Objection(Reason.INVALID_PARAMETERS, f"`{name}` is missing")
        if not _fits(declared[name], values[name]):
            return Objection(Reason.INVALID_PARAMETERS, f"`{name}` does not look as the mandate says")
    if len(values) != len(declared):
        return Objection(Reason.INVALID_PARAMETERS, "a parameter that the mandate does not have")
    return None


def _unclear(mandate: Mandate, wish: Wish) -> Objection | None:
    """What is missing, or is not explained by what the task is for. Each detail is fit for who asked."""
    if not (mandate.purpose or wish.purpose).strip():
        return Objection(Reason.UNCLEAR_INTENT, "`purpose` is missing.")
    if wish.tools is not None and not (wish.tools and covered(wish.tools, mandate.tools)):
        return Objection(Reason.UNCLEAR_INTENT, "`tools` asks for something that the mandate's purpose does not need.")
    if wish.effects is not None and not (wish.effects and wish.effects <= mandate.effects):
        return Objection(
            Reason.UNCLEAR_INTENT, "`effects` asks for something that the mandate's purpose does not need."
        )
    return None


def _fits(parameter: Parameter, value: object) -> bool:
    if not isinstance(value, str) or not 0 < len(value) <= min(parameter.max_length, MAX_LENGTH):
        return False
    if not value.isprintable():
        return False
    if parameter.values:
        return value in parameter.values
    return bool(parameter.pattern) and _compiled(parameter.pattern).fullmatch(value) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, re.ASCII)
