"""The policies that can apply to one action, parsed and ready, and how they are asked.

Three things keep a slice honest. The entities are built with the schema, else Cedar drops the action groups without
an error. The schema stays on for every request. And an answer with an error in it is an error: Cedar skips a policy
that fails, a forbid too.

Only what some policy of the slice looks at is sent, and flat (`forestall.policy.flat`): turning JSON into Cedar values
is most of what Cedar costs. Cedar is a function of what is sent, so an answer to exactly that is remembered.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import cedarpy

from forestall.core.compact import encoder
from forestall.core.effects import Effect
from forestall.core.model import Narrowing
from forestall.core.narrow import narrowest
from forestall.policy import annotation, expression, scope
from forestall.policy.annotation import Annotations
from forestall.policy.bundle import Policy
from forestall.policy.expression import Path
from forestall.policy.flat import Flat, lay
from forestall.policy.schema import METHOD_TOOL, Compiled, document

MAX_REMEMBERED = 256
"""Answers that a slice remembers. When there are more it forgets them all: the few that come often are soon back."""

MAX_REMEMBERED_TEXT = 1024
"""Characters of a context whose answer is remembered."""

_compact = encoder()


@dataclass(frozen=True, slots=True)
class Rule:
    """What the engine has to know of a policy besides what Cedar does."""

    permits: bool
    looks: frozenset[Path]
    """The parts of the context that it looks at."""
    annotations: Annotations

    @property
    def mentions_approval(self) -> bool:
        """Could an approval change what it says?"""
        return expression.mentions_approval(self.looks)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Cedar's answer. `error` is None only where every policy was evaluated."""

    allowed: bool
    policies: tuple[str, ...]
    error: str | None


@dataclass(frozen=True, slots=True)
class Slice:
    compiled: Compiled
    member_of: frozenset[Effect]
    rules: Mapping[str, Rule]
    flat: Flat
    """What is sent of the context."""
    digest: str
    could_permit: bool
    needs: tuple[Path, ...]
    """Facts from elsewhere that a policy looks at, and without which nothing is decided: `("risk",)`, and of a posture
    each part.
    """
    policy_set: cedarpy.PolicySet
    schema: cedarpy.Schema
    entities: cedarpy.Entities
    _action: Mapping[str, str]
    _resource: Mapping[str, str]
    _remembered: dict[tuple[str, str], Verdict] = field(repr=False, default_factory=dict)

    def narrowing(self, policies: Iterable[str]) -> Narrowing | None:
        """What these permits, which decided together, leave of a task."""
        said = (self.rules[name].annotations.narrowing for name in policies)
        return narrowest(one for one in said if one is not None)

    def ask(self, principal: str, context: Mapping[str, Any]) -> Verdict:
        """`context`: as `flat` has it."""
        text = _compact(context)
        known = self._remembered.get((principal, text))
        if known is not None:
            return known
        request = {
            "principal": {"type": "Workload", "id": principal},
            "action": self._action,
            "resource": self._resource,
            "context": text,
        }
        verdict = ask(request, self.policy_set, self.entities, self.schema, self.rules)
        if verdict.error is None and len(text) <= MAX_REMEMBERED_TEXT:
            if len(self._remembered) >= MAX_REMEMBERED:
                self._remembered.clear()
            self._remembered[principal, text] = verdict
        return verdict


def ask(
    request: Mapping[str, Any],
    policies: cedarpy.PolicySet,
    entities: cedarpy.Entities,
    schema: cedarpy.Schema,
    names: Iterable[str],
) -> Verdict:
    """Cedar's answer, believed only where nothing failed. `names`: the policies' ids, to say which one did."""
    answer = cedarpy.is_authorized(dict(request), policies, entities, schema)
    reasons = tuple(sorted(answer.diagnostics.reasons))
    if answer.diagnostics.errors:
        return Verdict(False, reasons, _blame(answer.diagnostics.errors, names))
    if answer.decision not in (cedarpy.Decision.Allow, cedarpy.Decision.Deny):
        return Verdict(False, (), "The policy engine gave no decision.")
    return Verdict(answer.decision is cedarpy.Decision.Allow, reasons, None)


def _blame(errors: Iterable[str], names: Iterable[str]) -> str:
    """Which policies failed. Cedar's messages quote values of the request, so none of their words is kept."""
    text = "\n".join(errors)
    failed = sorted(name for name in names if f"`{name}`" in text)
    return f"Could not be evaluated: {', '.join(failed)}." if failed else "The request does not fit the schema."


def cut(
    policies: Iterable[Policy], rules: Mapping[str, Rule], compiled: Compiled, member_of: frozenset[Effect]
) -> Slice:
    """The slice of one action, in these groups. `rules`: of every policy, by id.

    Raises ValueError where a handle cannot be built.
    """
    tool = compiled.tool
    own = [policy for policy in policies if applies(policy, compiled, member_of)]
    trees = {policy.id: policy.tree for policy in own}
    flat = lay(trees.values(), compiled.context)
    description = document({tool.id: (member_of, flat.types)})
    schema = cedarpy.Schema.from_json_str(json.dumps(description))
    return Slice(
        compiled,
        member_of,
        {name: rules[name] for name in trees},
        flat,
        digest({"policies": trees, "schema": description}),
        could_permit(trees.values()),
        _needs([rules[name] for name in trees], compiled),
        policy_set({name: flat.rewrite(tree) for name, tree in trees.items()}),
        schema,
        cedarpy.Entities.from_json_str("[]", schema),
        {"type": "Action", "id": tool.id},
        {"type": "Server", "id": tool.server},
    )


def applies(policy: Policy, compiled: Compiled, member_of: frozenset[Effect]) -> bool:
    """Can the policy bear on this action?

    A permit for a group of effects is meant for tools: what a protocol method that nobody knows does is anybody's
    guess, so it has to be permitted by its name, or with everything. Forbids reach it like any tool.
    """
    tool = compiled.tool
    op, named = scope.action_ids(policy.tree)
    if tool is METHOD_TOOL and policy.permits and op == "in" and tool.id not in named:
        return False
    return scope.reaches(policy.tree, tool.id, member_of, tool.server)


def rule(policy: Policy) -> Rule:
    """Raises ValueError where an annotation is malformed."""
    return Rule(policy.permits, expression.looks(policy.tree), annotation.read(policy.annotations))


def policy_set(trees: Mapping[str, Mapping[str, Any]]) -> cedarpy.PolicySet:
    """A set whose answers name our ids."""
    whole = {"staticPolicies": dict(trees), "templates": {}, "templateLinks": []}
    return cedarpy.PolicySet.from_json_str(json.dumps(whole))


def digest(value: Any) -> str:
    """Of a canonical text: members sorted, no space. Not RFC 8785, which has no 64-bit integers."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _needs(rules: Iterable[Rule], compiled: Compiled) -> tuple[Path, ...]:
    """A policy that looks at the context as a whole looks at all of it."""
    parts = compiled.context["posture"]["attributes"]
    found: set[Path] = set()
    for one in rules:
        for path in one.looks:
            looked_at = {path[0]} if path else {"risk", "posture"}
            looked_at -= one.annotations.without
            if "risk" in looked_at:
                found.add(("risk",))
            if "posture" in looked_at:
                found |= {("posture", part) for part in (path[1:] or parts)}
    return tuple(sorted(found))


def could_permit(trees: Iterable[Mapping[str, Any]]) -> bool:
    """Is there a permit, and no forbid that always applies?"""
    every = list(trees)
    permits = any(tree["effect"] == "permit" for tree in every)
    return permits and not any(tree["effect"] == "forbid" and scope.unconditional(tree) for tree in every)
