"""What must be denied before anything may be decided: the known ways in which a policy engine says yes by mistake.

Each canary is a whole engine, built as the real one is, from policies that permit everything and forbid one thing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from forestall.core.effects import Confidence, Effect, groups
from forestall.core.errors import PolicyInvalid
from forestall.core.label import CLEAN
from forestall.core.model import Assurance, Decision, Facts, Grant, Question, Subject, Tool
from forestall.core.reason import Reason
from forestall.core.task import OPEN
from forestall.policy import bundle as bundles
from forestall.policy import slice as slices
from forestall.policy.schema import compile_tool

if TYPE_CHECKING:
    from forestall.core.model import Ruling
    from forestall.policy.cedar import CedarEngine

_EVERYTHING = "permit (principal, action, resource);"

_TOOL = Tool(
    "canary",
    "remove",
    "sha256:canary",
    effects=frozenset({Effect.DESTRUCTIVE}),
    confidence=Confidence.DECLARED,
    input_schema=MappingProxyType({"properties": {"name": {"type": "string"}, "count": {"type": "integer"}}}),
)

_SUBJECT = Subject("canary", Assurance.EMBEDDED)
_GRANT = Grant("canary", "canary", "canary", "canary", ("*",), frozenset(Effect), 0)


@dataclass(frozen=True, slots=True)
class Canary:
    name: str
    policies: str
    arguments: Mapping[str, Any]
    reason: Reason
    own_files: bool = False


CANARIES = (
    Canary("nothing is permitted without a policy", "", {}, Reason.NO_POLICY),
    Canary(
        "a forbid on a group forbids",
        f'{_EVERYTHING} forbid (principal, action in Action::"destructive", resource);',
        {},
        Reason.FORBIDDEN,
    ),
    Canary("Forestall's own files are out of reach", _EVERYTHING, {}, Reason.FORBIDDEN, own_files=True),
    Canary("a missing member of a type denies", _EVERYTHING, {"count": "3"}, Reason.INVALID_ARGUMENTS),
    Canary("an undeclared argument denies", _EVERYTHING, {"other": 1}, Reason.INVALID_ARGUMENTS),
    Canary(
        "an argument does not become an entity",
        _EVERYTHING,
        {"name": {"__entity": {"type": "Workload", "id": "root"}}},
        Reason.INVALID_ARGUMENTS,
    ),
)

_FAILING = (
    Canary(
        "a forbid that overflows denies",
        _EVERYTHING
        + "forbid (principal, action, resource) when "
        + "{ context.args has count && context.args.count * 9007199254740991 * 9007199254740991 > 0 };",
        {"count": 9007199254740991},
        Reason.POLICY_ERROR,
    ),
)
"""Policies that the lint refuses, evaluated all the same: the last line of defence has to hold without the first."""

_REFUSED = {
    "an id taken twice": f'@id("one") {_EVERYTHING} @id("one") forbid (principal, action, resource);',
    "an id of Forestall's": f'@id("forestall:own-files") {_EVERYTHING}',
    "a misspelt name behind has": "forbid (principal, action, resource) when { context.args has nmae };",
    "arithmetic that overflows": _FAILING[0].policies,
    "an unknown action": 'forbid (principal, action == Action::"canary/remvoe", resource);',
    "text that does not parse": "forbid (principal, action resource);",
}
"""Policies that must not be accepted at all."""


def run(engine: CedarEngine) -> None:
    """Raises PolicyInvalid, naming the first canary that was permitted."""
    for failure in (*_decisions(type(engine)), *_refusals(type(engine)), *_own_forbid(engine)):
        raise PolicyInvalid(f"The policy engine failed its self-test, so nothing is decided: {failure}.")


def _decisions(kind: type[CedarEngine]) -> Iterator[str]:
    for canary in CANARIES:
        engine = kind.build(bundles.from_texts({"canary.cedar": canary.policies}), [_TOOL])
        yield from _judge(canary, engine.evaluate(_question(canary)))
    for canary in _FAILING:
        yield from _judge(canary, _unlinted(kind, canary.policies).evaluate(_question(canary)))
    permitted = kind.build(bundles.from_texts({"canary.cedar": _EVERYTHING}), [_TOOL])
    if permitted.evaluate(_question(Canary("", "", {}, Reason.NO_POLICY))).decision is not Decision.PERMIT:
        yield "a permit does not permit"


def _judge(canary: Canary, ruling: Ruling) -> Iterator[str]:
    if ruling.decision is not Decision.DENY or ruling.reason is not canary.reason:
        yield f"{canary.name} (it was {ruling.decision}, {ruling.reason})"


def _unlinted(kind: type[CedarEngine], text: str) -> CedarEngine:
    bundle = bundles.from_texts({"canary.cedar": text})
    compiled = compile_tool(_TOOL)
    rules = {policy.id: slices.rule(policy) for policy in bundle.policies}
    part = slices.cut(bundle.policies, rules, compiled, groups(_TOOL.effects))
    return kind(bundle, "", rules, {_TOOL.id: part})


def _refusals(kind: type[CedarEngine]) -> Iterator[str]:
    for name, text in _REFUSED.items():
        try:
            kind.build(bundles.from_texts({"canary.cedar": text}), [_TOOL])
        except PolicyInvalid:
            continue
        yield f"{name} was accepted"


def _own_forbid(engine: CedarEngine) -> Iterator[str]:
    """Forestall's own forbids are in every slice that will be used, and its permits where they belong."""
    for part in engine.slices():
        own = {policy.id for policy in bundles.builtin() if not policy.permits or part.compiled.tool is OPEN}
        if own != {name for name in part.rules if name.startswith(bundles.OWN_PREFIX)}:
            yield f"a built-in policy is missing, or out of place, for `{part.compiled.tool.id}`"
        if {entity["uid"]["id"] for entity in json.loads(str(part.entities))} <= {part.compiled.tool.id}:
            yield f"the groups of `{part.compiled.tool.id}` are lost"


def _question(canary: Canary) -> Question:
    facts = Facts(CLEAN, _TOOL.effects, Confidence.DECLARED, canary.own_files)
    return Question(_SUBJECT, _GRANT, _TOOL, canary.arguments, facts)
