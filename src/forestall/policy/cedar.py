"""The policy engine: Cedar behind `port.Engine`. Whatever goes wrong in it is a ruling that denies.

A ruling takes one pass or two. A call that is denied as things stand is asked about once more with `context.approval`
granted; if that permits, it is held, and the annotations of the policies that made the difference say whose approval
it waits for.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from posixpath import commonpath, dirname
from types import MappingProxyType
from typing import Any

from forestall.core.effects import Effect, groups
from forestall.core.errors import InvalidInput, PolicyInvalid
from forestall.core.grant_json import executable_to_json
from forestall.core.label import Label
from forestall.core.model import Approval, Decision, Facts, Question, RealPath, Ruling, Tool
from forestall.core.own import SERVER
from forestall.core.reason import Reason
from forestall.policy import slice as slices
from forestall.policy.bundle import Bundle
from forestall.policy.expression import Path
from forestall.policy.lint import lint
from forestall.policy.problem import require_none
from forestall.policy.schema import METHOD_SERVER, METHOD_TOOL, OWN, PATHS, Compiled, compile_tool
from forestall.policy.schema import schema as schema_of
from forestall.policy.shape import Misfit
from forestall.policy.slice import Rule, Slice, Verdict

_GRANTED: Mapping[str, Any] = MappingProxyType({"granted": True})


@dataclass(frozen=True, slots=True)
class CedarEngine:
    """Immutable; may be used from any number of threads. `_cache` holds only what follows from the rest."""

    bundle: Bundle
    digest: str
    _rules: Mapping[str, Rule] = field(repr=False)
    _slices: Mapping[str, Slice] = field(repr=False)
    _cache: dict[tuple[str, frozenset[Effect]], Slice] = field(repr=False, default_factory=dict)

    @classmethod
    def build(cls, bundle: Bundle, tools: Sequence[Tool], posture: Collection[str] = ()) -> CedarEngine:
        """Compile every tool, check every policy against all of them, and parse every slice. `posture`: the parts of a
        posture that the settings say are told.

        Raises:
            PolicyInvalid: lists every error of the policies with its file, line and, where it is known, column.
        """
        compiled = compile_tools(tools, posture)
        require_none(lint(bundle.policies, list(compiled.values())))
        try:
            rules = {policy.id: slices.rule(policy) for policy in bundle.policies}
            parts = {
                name: slices.cut(bundle.policies, rules, one, groups(one.tool.effects))
                for name, one in compiled.items()
            }
        except ValueError as error:
            raise PolicyInvalid(f"The policies cannot be prepared: {error}.") from error
        trees = {policy.id: policy.tree for policy in bundle.policies}
        whole = slices.digest({"policies": trees, "schema": schema_of(compiled.values())})
        return cls(bundle, whole, MappingProxyType(rules), MappingProxyType(parts))

    def evaluate(self, question: Question) -> Ruling:
        try:
            return self._evaluate(question)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of the Rust side is a BaseException
            return self._deny(Reason.POLICY_ERROR, None, detail=f"The evaluation failed: {type(error).__name__}.")

    def could_permit(self, tool: Tool) -> bool:
        """False only when no arguments and no approval could make policy permit this tool."""
        part = self._slices.get(self._action(tool))
        return part is not None and part.could_permit

    def slice_for(self, tool: Tool, effects: Iterable[Effect] = ()) -> Slice:
        """The slice that a call with these effects is asked of; KeyError for a tool the engine was not built with."""
        name = self._action(tool)
        part = self._slices[name]
        if part.compiled.tool.effects.issuperset(effects):
            return part
        member_of = groups(part.compiled.tool.effects | frozenset(effects))
        if member_of == groups(part.compiled.tool.effects):
            return part
        key = (name, member_of)
        found = self._cache.get(key)
        if found is None:
            found = self._cache[key] = slices.cut(self.bundle.policies, self._rules, part.compiled, member_of)
        return found

    def slices(self) -> Iterable[Slice]:
        """Every slice that was cut ahead."""
        return self._slices.values()

    def context(self, question: Question, part: Slice) -> dict[str, Any]:
        """What the slice's policies look at, laid flat, without an approval. Raises Misfit or InvalidInput for the
        arguments.
        """
        args = self._arguments(question, part)
        return part.flat.context(lambda name: args if name == "args" else _CONTEXT[name](question, part))

    def whole_context(self, question: Question, part: Slice) -> dict[str, Any]:
        """The same, with what no policy mentions. For explaining."""
        known = {name: value(question, part) for name, value in _CONTEXT.items()}
        context = {name: value for name, value in known.items() if value is not None}
        return {**context, "args": self._arguments(question, part)}

    def _arguments(self, question: Question, part: Slice) -> Mapping[str, Any]:
        is_method = part.compiled.tool is METHOD_TOOL
        arguments = {"method": question.tool.name} if is_method and not question.arguments else question.arguments
        return part.compiled.arguments.cedar(arguments)

    def _action(self, tool: Tool) -> str:
        if tool.server == METHOD_SERVER and tool.id not in self._slices:
            return METHOD_TOOL.id
        return tool.id

    def _evaluate(self, question: Question) -> Ruling:
        if self._action(question.tool) not in self._slices:
            return self._deny(Reason.POLICY_ERROR, None, detail="The policy was built without this tool; reload it.")
        part = self.slice_for(question.tool, question.facts.effects)
        if part.compiled.tool.pin != question.tool.pin and part.compiled.tool is not METHOD_TOOL:
            return self._deny(
                Reason.POLICY_ERROR, part, detail="The policy was built for another definition of the tool."
            )
        if part.needs and (missing := _missing(part.needs, question.facts)):
            return self._deny(Reason.MISSING_CONTEXT, part, detail=f"No source says what `context.{missing}` is now.")
        try:
            context = self.context(question, part)
        except (Misfit, InvalidInput) as error:
            return self._deny(Reason.INVALID_ARGUMENTS, part, detail=str(error))
        verdict = part.ask(question.subject.id, context)
        if verdict.error is not None:
            return self._deny(Reason.POLICY_ERROR, part, verdict.policies, verdict.error)
        if verdict.allowed:
            return self._permit(part, verdict)
        return self._second_pass(question, part, context, verdict)

    def _permit(self, part: Slice, verdict: Verdict) -> Ruling:
        said = [part.rules[name].annotations for name in verdict.policies]
        classes = {one.credential for one in said if one.credential is not None}
        if not verdict.policies or len(classes) > 1:
            detail = (
                "The permits that apply name different credentials." if classes else "No policy is behind the permit."
            )
            return self._deny(Reason.POLICY_ERROR, part, verdict.policies, detail)
        return Ruling(
            Decision.PERMIT,
            self.digest,
            part.digest,
            policies=verdict.policies,
            credential=next(iter(classes), None),
            narrowing=part.narrowing(verdict.policies) if part.compiled.tool.server == SERVER else None,
            after_upstream=any(one.after_upstream for one in said),
        )

    def _second_pass(self, question: Question, part: Slice, context: dict[str, Any], first: Verdict) -> Ruling:
        """`first` denies. Would an approval change that?"""
        reason = Reason.FORBIDDEN if first.policies else Reason.NO_POLICY
        rules = part.rules
        speaking = [name for name, rule in rules.items() if rule.mentions_approval]
        if not speaking or not all(rules[name].mentions_approval for name in first.policies):
            return self._deny(reason, part, first.policies)
        second = part.ask(question.subject.id, {**context, **part.flat.values("approval", _GRANTED)})
        if second.error is not None:
            return self._deny(Reason.POLICY_ERROR, part, second.policies, second.error)
        if not second.allowed or not second.policies:
            return self._deny(reason, part, first.policies)
        asking = (*first.policies, *(name for name in second.policies if rules[name].mentions_approval))
        granted = self._permit(part, second)
        if granted.decision is not Decision.PERMIT:
            return granted
        return self._hold(part, asking, reason, granted)

    def _hold(self, part: Slice, asking: tuple[str, ...], otherwise: Reason, granted: Ruling) -> Ruling:
        """`asking`: the forbids that an approval lifts, and the permits that it makes apply. `granted`: what these
        bring, and leave, once it is approved.
        """
        approvals: dict[Approval, None] = {}
        for name in asking:
            approval = part.rules[name].annotations.approval
            if approval is None:
                detail = f"`{name}` waits for an approval and does not say whose (`@approvers`)."
                return self._deny(otherwise, part, asking, detail)
            approvals[approval] = None
        if not approvals:
            return self._deny(Reason.POLICY_ERROR, part, asking, "An approval permits, and no policy asked for it.")
        reason = Reason.NEEDS_APPROVAL
        waits = _after_upstream(part, asking)
        return replace(
            granted,
            decision=Decision.HOLD,
            reason=reason,
            policies=asking,
            approvals=tuple(approvals),
            after_upstream=waits,
        )

    def _deny(self, reason: Reason, part: Slice | None, policies: tuple[str, ...] = (), detail: str = "") -> Ruling:
        slice_digest = part.digest if part else ""
        waits = part is not None and _after_upstream(part, policies)
        return Ruling(Decision.DENY, self.digest, slice_digest, reason, policies, detail=detail, after_upstream=waits)

    def self_test(self) -> None:
        """Prove, on the path that builds every slice, that what must be denied is.

        Raises:
            PolicyInvalid: a canary was permitted; nothing may be decided here.
        """
        from forestall.policy.canary import run

        run(self)


def compile_tools(tools: Iterable[Tool], posture: Collection[str] = ()) -> dict[str, Compiled]:
    """Tools by id, with those that are Forestall's own.

    Raises:
        PolicyInvalid: two tools share an id, or take the name that is reserved.
    """
    compiled = {name: compile_tool(tool, posture) for name, tool in OWN.items()}
    for tool in tools:
        if tool.id in compiled:
            raise PolicyInvalid(f"The tool `{tool.id}` is there twice, or has a reserved name; rename its server.")
        compiled[tool.id] = compile_tool(tool, posture)
    return compiled


def _after_upstream(part: Slice, policies: tuple[str, ...]) -> bool:
    """Does one of those that decided say so?"""
    return any(part.rules[name].annotations.after_upstream for name in policies)


def _missing(needs: Iterable[Path], facts: Facts) -> str:
    """The first of these that is not known; empty where all are."""
    for path in needs:
        known = facts.risk is not None if path == ("risk",) else path[1] in facts.posture
        if not known:
            return ".".join(path)
    return ""


def _paths(found: Mapping[str, tuple[RealPath, ...]], compiled: Compiled) -> dict[str, Any]:
    return {
        name: _many(found[name]) if kind is PATHS else _one(found[name])
        for name, kind in compiled.paths.items()
        if name in found and (kind is PATHS or len(found[name]) == 1)
    }


def _references(found: Mapping[str, tuple[str, ...]], compiled: Compiled) -> dict[str, Any]:
    kinds = compiled.context["references"]["attributes"]
    return {
        name: digests[0] if kinds[name]["type"] == "String" else list(digests)
        for name, digests in found.items()
        if name in kinds
    }


def _one(paths: tuple[RealPath, ...]) -> dict[str, Any]:
    (path,) = paths
    return {"real": path.real} if path.inside is None else {"real": path.real, "inside": path.inside}


def _many(paths: tuple[RealPath, ...]) -> dict[str, Any]:
    inside = [path.inside for path in paths if path.inside is not None]
    facts = {"inside": inside, "all_inside": len(inside) == len(paths)}
    if inside and len(inside) == len(paths):
        facts["folder"] = commonpath([dirname(path) for path in inside])
    return facts


def _task(question: Question, _: Slice) -> dict[str, Any]:
    grant = question.grant
    return {"id": grant.task, "purpose": grant.purpose, "mandate": grant.mandate, "depth": question.facts.depth}


def _posture(question: Question, part: Slice) -> dict[str, str]:
    known = part.compiled.context["posture"]["attributes"]
    return {name: value for name, value in question.facts.posture.items() if name in known}


def _label(label: Label) -> dict[str, str]:
    return {"integrity": label.integrity, "confidentiality": label.confidentiality}


_CONTEXT: Mapping[str, Callable[[Question, Slice], Any]] = MappingProxyType(
    {
        "task": _task,
        "labels": lambda question, _: _label(question.facts.labels),
        "effects": lambda question, _: sorted(question.tool.effects | question.facts.effects),
        "confidence": lambda question, _: question.facts.confidence,
        "assurance": lambda question, _: question.subject.assurance,
        "asserted_name": lambda question, _: question.subject.asserted_name,
        "executable": lambda question, _: (
            question.subject.executable and executable_to_json(question.subject.executable)
        ),
        "own_files": lambda question, _: question.facts.reaches_own_files,
        "unbound": lambda question, _: bool(question.facts.unbound),
        "references": lambda question, part: _references(question.facts.references, part.compiled),
        "output": lambda question, _: _label(question.tool.output),
        "reversible": lambda question, _: question.tool.reversible,
        "risk": lambda question, _: question.facts.risk,
        "posture": _posture,
        "paths": lambda question, part: _paths(question.facts.paths, part.compiled),
        "approval": lambda *_: None,
    }
)
"""Every member of the context but the arguments. An approval is not there until the second pass."""
