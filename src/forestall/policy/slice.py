"""The policies that can apply to one action, parsed and ready, and how they are asked.

Three things keep a slice honest. The entities are built with the schema, else Cedar drops the action groups without
an error. The schema stays on for every request. And an answer with an error in it is an error: Cedar skips a policy
that fails, a forbid too.

Only those parts of the context are sent, two names deep, that some policy of the slice looks at: what none looks at
can change nothing, and turning JSON into Cedar values is most of what Cedar costs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import cedarpy

from forestall.core.effects import Effect
from forestall.policy import annotation, expression, scope
from forestall.policy.annotation import Annotations
from forestall.policy.bundle import Policy
from forestall.policy.expression import Path
from forestall.policy.schema import METHOD_TOOL, Compiled, document
from forestall.policy.shape import Type


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
    sent: Mapping[str, frozenset[str] | None]
    """Members of the context that are sent, and which of their members; None for all."""
    digest: str
    could_permit: bool
    policy_set: cedarpy.PolicySet
    schema: cedarpy.Schema
    entities: cedarpy.Entities
    _action: Mapping[str, str]
    _resource: Mapping[str, str]

    def ask(self, principal: str, context: Mapping[str, Any]) -> Verdict:
        request = {
            "principal": {"type": "Workload", "id": principal},
            "action": self._action,
            "resource": self._resource,
            "context": json.dumps(context),
        }
        return ask(request, self.policy_set, self.entities, self.schema, self.rules)


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
    sent = _sent([rules[name] for name in trees], compiled.context)
    context = {name: _narrowed(compiled.context[name], members) for name, members in sent.items()}
    description = document({tool.id: (member_of, context)})
    schema = cedarpy.Schema.from_json_str(json.dumps(description))
    return Slice(
        compiled,
        member_of,
        {name: rules[name] for name in trees},
        sent,
        digest({"policies": trees, "schema": description}),
        could_permit(trees.values()),
        policy_set(trees),
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


def could_permit(trees: Iterable[Mapping[str, Any]]) -> bool:
    """Is there a permit, and no forbid that always applies?"""
    every = list(trees)
    permits = any(tree["effect"] == "permit" for tree in every)
    return permits and not any(tree["effect"] == "forbid" and scope.unconditional(tree) for tree in every)


def _sent(rules: Iterable[Rule], context: Mapping[str, Type]) -> dict[str, frozenset[str] | None]:
    looked_at = frozenset[Path]().union(*(one.looks for one in rules))
    if () in looked_at:
        return dict.fromkeys(context)
    return {
        name: _members(name, looked_at) if context[name]["type"] == "Record" else None
        for name in sorted({path[0] for path in looked_at} & set(context))
    }


def _members(name: str, looked_at: frozenset[Path]) -> frozenset[str] | None:
    """Which members of a record are looked at; None where it is used as a whole."""
    return None if (name,) in looked_at else frozenset(path[1] for path in looked_at if path[0] == name)


def _narrowed(kind: Type, members: frozenset[str] | None) -> Type:
    if members is None:
        return kind
    return {**kind, "attributes": {name: inner for name, inner in kind["attributes"].items() if name in members}}
