"""Why policy said what it said to a question, and what would have changed it.

Every policy of the slice is asked again by itself, condition by condition, on the facts of then. Nothing here decides.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cedarpy

from forestall.core.effects import Confidence, Effect
from forestall.core.errors import InvalidInput
from forestall.core.grant_json import executable_from_json
from forestall.core.label import Confidentiality, Integrity, Label
from forestall.core.model import (
    NOTHING,
    Assurance,
    Decision,
    Facts,
    Grant,
    Question,
    RealPath,
    Risk,
    Ruling,
    Subject,
    Tool,
)
from forestall.core.reason import Reason
from forestall.core.refer import held_if_unbound
from forestall.policy.bundle import Policy
from forestall.policy.cedar import CedarEngine
from forestall.policy.expression import conjuncts, looks, mentions_approval
from forestall.policy.render import render
from forestall.policy.schema import document
from forestall.policy.shape import Misfit
from forestall.policy.slice import policy_set

_NO_SCOPE = {"principal": {"op": "All"}, "action": {"op": "All"}, "resource": {"op": "All"}}


@dataclass(frozen=True, slots=True)
class Considered:
    """One policy that could have applied."""

    policy: Policy
    applied: bool
    stopped_by: str = ""
    """The first part of its conditions that was not so, as Cedar text; or what about its scope did not fit."""
    waits_for_approval: bool = False
    """It would apply, or, a forbid, no longer apply, once a person has approved."""


@dataclass(frozen=True, slots=True)
class Explanation:
    ruling: Ruling
    """Of the policy that is active now, on the facts of then."""
    considered: tuple[Considered, ...]
    """Forbids first."""
    changes: tuple[str, ...]
    """What would have changed the decision, a sentence each."""


def question_of(
    body: Mapping[str, Any],
    arguments: Mapping[str, Any],
    tool: Tool,
    task: Mapping[str, Any],
    paths: Mapping[str, Any] = NOTHING,
    references: Mapping[str, Any] = NOTHING,
) -> Question:
    """The question that a ledger entry answers.

    `body`: the entry's; `task`: the body of the entry that opened the task, or nothing; `arguments`, `paths` and
    `references`: what was sealed beside the entry.

    Raises:
        InvalidInput: the entry was written before the facts were gathered, or is not one of ours.
    """
    try:
        seen = Label(Integrity(body["seen"]["integrity"]), Confidentiality(body["seen"]["confidentiality"]))
        facts = Facts(
            seen,
            frozenset(map(Effect, body["effects"])),
            Confidence(body["confidence"]),
            bool(body["reaches_own_files"]),
            int(body["depth"]),
            {name: tuple(RealPath(one["real"], one["inside"]) for one in each) for name, each in paths.items()},
            Risk(body["risk"]) if "risk" in body else None,
            {str(name): str(value) for name, value in body.get("posture", {}).items()},
            {name: tuple(map(str, digests)) for name, digests in references.items()},
            tuple(map(str, body.get("unbound", ()))),
        )
        who = body["subject"]
        subject = Subject(who["id"], Assurance(who["assurance"]), who["asserted_name"])
        found = executable_of(who, task)
        if found is not None:
            subject = replace(subject, executable=executable_from_json(found))
    except (KeyError, TypeError, ValueError):
        raise InvalidInput("The entry holds no facts: the call was refused before policy was asked.") from None
    purpose, mandate = task.get("purpose", ""), task.get("mandate", "")
    grant = Grant(body["task"], subject.id, purpose, mandate, (), frozenset(), 0, depth=facts.depth)
    return Question(subject, grant, tool, arguments, facts)


def executable_of(who: Mapping[str, Any], task: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What it ran: by the entry, or by the one that opened its task, where it is the same instance."""
    opener: Mapping[str, Any] = task.get("subject") or {}
    same = bool(who.get("instance")) and who["instance"] == opener.get("instance")
    return who.get("executable") or (opener.get("executable") if same else None)


def explain(engine: CedarEngine, question: Question) -> Explanation:
    """Ask everything again. Raises KeyError for a tool that the engine was not built with."""
    ruling = held_if_unbound(engine.evaluate(question), question.facts)
    part = engine.slice_for(question.tool, question.facts.effects)
    try:
        context = engine.whole_context(question, part)
    except (Misfit, InvalidInput) as error:
        return Explanation(ruling, (), (f"{error} Policy was not asked.",))
    policies = [policy for policy in engine.bundle.policies if policy.id in part.rules]
    prober = _Prober.of(engine, question, context)
    considered = sorted(
        (_consider(prober, policy) for policy in policies), key=lambda one: (one.policy.permits, one.policy.id)
    )
    return Explanation(ruling, tuple(considered), tuple(_changes(ruling, considered)))


@dataclass(frozen=True, slots=True)
class _Prober:
    """Asks whether one expression is true in one request."""

    request: Mapping[str, Any]
    schema: cedarpy.Schema
    entities: cedarpy.Entities
    approved: Mapping[str, Any]
    """The same request with an approval."""

    @classmethod
    def of(cls, engine: CedarEngine, question: Question, context: Mapping[str, Any]) -> _Prober:
        part = engine.slice_for(question.tool, question.facts.effects)
        compiled = part.compiled
        schema = cedarpy.Schema.from_json_str(
            json.dumps(document({compiled.tool.id: (part.member_of, compiled.context)}))
        )
        entities = cedarpy.Entities.from_json_str("[]", schema)
        request = {
            "principal": {"type": "Workload", "id": question.subject.id},
            "action": {"type": "Action", "id": compiled.tool.id},
            "resource": {"type": "Server", "id": compiled.tool.server},
        }
        granted = {**context, "approval": {"granted": True}}
        return cls(
            {**request, "context": json.dumps(context)},
            schema,
            entities,
            {**request, "context": json.dumps(granted)},
        )

    def applies(self, tree: Mapping[str, Any], *, approved: bool = False) -> bool:
        """Does the policy apply? One that fails does not."""
        probe = policy_set({"probe": {**tree, "effect": "permit"}})
        request = dict(self.approved if approved else self.request)
        answer = cedarpy.is_authorized(request, probe, self.entities, self.schema)
        return answer.decision is cedarpy.Decision.Allow and not answer.diagnostics.errors


def _consider(prober: _Prober, policy: Policy) -> Considered:
    applied = prober.applies(policy.tree)
    asks = mentions_approval(looks(policy.tree))
    waits = asks and applied != prober.applies(policy.tree, approved=True)
    return Considered(policy, applied, "" if applied else _stopped_by(prober, policy.tree), waits)


def _stopped_by(prober: _Prober, tree: Mapping[str, Any]) -> str:
    if not prober.applies({**tree, "conditions": []}):
        return "its scope does not cover this caller"
    for condition in tree["conditions"]:
        alone = {**tree, **_NO_SCOPE, "conditions": [condition]}
        if prober.applies(alone):
            continue
        if condition["kind"] == "unless":
            return f"unless {{ {render(condition['body'])} }}"
        return _first_false(prober, tree, conjuncts(condition["body"]))
    return ""


def _first_false(prober: _Prober, tree: Mapping[str, Any], parts: Sequence[Any]) -> str:
    """The first conjunct that was false, asked together with those before it, which may guard it."""
    body: Any = None
    for part in parts:
        body = part if body is None else {"&&": {"left": body, "right": part}}
        if not prober.applies({**tree, **_NO_SCOPE, "conditions": [{"kind": "when", "body": body}]}):
            return render(part)
    return render(body)


def _changes(ruling: Ruling, considered: Sequence[Considered]) -> Iterator[str]:
    if ruling.reason is Reason.MISSING_CONTEXT:
        yield "A fresh fact from its source, under [[risk]] in forestall.toml."
        return
    if ruling.decision is Decision.PERMIT:
        yield from (f"A change to the permit `{name}`." for name in ruling.policies)
        return
    for approval in ruling.approvals:
        yield f"An approval by {approval.quorum} of {', '.join(approval.approvers)}."
    for one in considered:
        if not one.policy.permits and one.applied and not one.waits_for_approval:
            yield f"Nothing but other arguments or facts: `{one.policy.id}` forbids these, and no approval lifts it."
    if any(one.policy.permits and one.applied for one in considered):
        return
    permits = [one for one in considered if one.policy.permits]
    if not permits:
        yield "A policy that permits this tool: none does."
    for one in permits:
        if one.stopped_by and not one.waits_for_approval:
            yield f"`{one.policy.id}` would permit it if this were so: {one.stopped_by}"
