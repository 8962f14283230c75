"""What Cedar's validator lets pass, and a policy's writer would not: every rule of docs/policy.md, "What the check
catches".

Cedar skips a policy that fails, and a `has` on a misspelt name is merely false. For a forbid both mean that it
forbids nothing, so both are errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from forestall.core.effects import Effect, groups
from forestall.core.task import OPEN
from forestall.core.wanted import DELEGATE
from forestall.policy import annotation, expression, scope, strict
from forestall.policy.annotation import Annotations
from forestall.policy.bundle import Policy, builtin, taken
from forestall.policy.problem import Problem, Severity, nearest
from forestall.policy.schema import OWN, Compiled
from forestall.policy.slice import applies


@dataclass(frozen=True, slots=True)
class Subject:
    """A policy, and the tools that it can apply to."""

    policy: Policy
    tools: Sequence[Compiled]
    annotations: Annotations
    all: Sequence[Compiled]
    """Every tool, also those that it cannot apply to."""

    def error(self, sentence: str, word: str | None = None) -> Problem:
        return Problem(*self.policy.at(word), sentence)

    def warning(self, sentence: str, word: str | None = None) -> Problem:
        return Problem(*self.policy.at(word), sentence, Severity.WARNING)


def lint(policies: Sequence[Policy], compiled: Sequence[Compiled]) -> list[Problem]:
    """Every problem of these policies under these tools, Cedar's own included."""
    problems = [*_own_policies(policies), *_duplicates(policies), *strict.validate(policies, compiled)]
    for policy in policies:
        try:
            annotations = annotation.read(policy.annotations)
        except ValueError as error:
            name, what = error.args
            problems.append(Problem(*policy.at(name), f"`@{name}` {what}."))
            continue
        subject = Subject(policy, _reached(policy, compiled) or compiled, annotations, compiled)
        for rule in _RULES:
            problems.extend(rule(subject))
    return sorted(set(problems))


def notes(compiled: Iterable[Compiled], file: str) -> list[Problem]:
    """Arguments that policy sees only as JSON text, because their schema was not understood."""
    sentence = "The schema of `{}`, argument `{}`, is not understood: policy sees JSON text."
    return [
        Problem(file, 0, 0, sentence.format(one.tool.id, name), Severity.WARNING)
        for one in compiled
        for name in one.arguments.notes
    ]


def _reached(policy: Policy, compiled: Iterable[Compiled]) -> list[Compiled]:
    return [one for one in compiled if applies(policy, one, groups(one.tool.effects))]


def _own_policies(policies: Sequence[Policy]) -> Iterator[Problem]:
    trees = {policy.id: policy.tree for policy in policies}
    for own in builtin():
        if trees.get(own.id) != own.tree:
            yield Problem(*own.at(), f"The built-in policy `{own.id}` is missing or changed.")


def _duplicates(policies: Sequence[Policy]) -> Iterator[Problem]:
    seen: dict[str, Policy] = {}
    for policy in policies:
        if policy.id in seen:
            yield taken(policy, seen[policy.id])
        seen.setdefault(policy.id, policy)


def _annotations(subject: Subject) -> Iterator[Problem]:
    names, permits = subject.policy.annotations, subject.policy.permits
    for name in sorted(set(names) - annotation.KNOWN):
        yield subject.warning(f"`@{name}` means nothing here.{nearest(name, annotation.KNOWN)}", name)
    for name in ("credential", "reaches"):
        if name in names and not permits:
            yield subject.error(f"`@{name}` belongs on a permit.", name)
    for name in annotation.NARROWING:
        if name in names and not (permits and _about_tasks(subject.policy)):
            sentence = f"`@{name}` belongs on a permit that names `{OPEN.id}` or `{DELEGATE.id}` and nothing else."
            yield subject.error(sentence, name)
    paths = expression.looks(subject.policy.tree)
    looked_at = annotation.MAY_BE_MISSING if () in paths else {path[0] for path in paths}
    for fact in sorted(subject.annotations.without - looked_at):
        yield subject.error(f"`@without` speaks of `context.{fact}`, and this does not look at it.", "without")
    asks, approvers = expression.mentions_approval(expression.looks(subject.policy.tree)), "approvers" in names
    if asks and not approvers:
        sentence = "This looks at `context.approval` and does not say whose approval counts; add `@approvers`."
        yield subject.error(sentence, expression.APPROVAL)
    if approvers and not asks:
        sentence = "`@approvers` says nothing on a policy that does not look at `context.approval`."
        yield subject.error(sentence, "approvers")
    for name in annotation.nobody(names.get("approvers", "")):
        sentence = f"Nobody can be `{name:.80}`; `@approvers` takes `user:NAME`, `uid:N`, `group:NAME` and `local`."
        yield subject.warning(sentence, "approvers")


def _about_tasks(policy: Policy) -> bool:
    """Can it apply to the opening or the delegation of a task, and to nothing else?"""
    _, named = scope.action_ids(policy.tree)
    return bool(named) and named <= {OPEN.id, DELEGATE.id}


def _tested_names(subject: Subject) -> Iterator[Problem]:
    """A misspelt attribute behind `has`, which the validator takes for one that is merely not there."""
    for body in expression.bodies(subject.policy.tree):
        for name, operand in expression.nodes(body):
            if name == "has" and expression.attribute(operand["left"]) is None:
                yield subject.error("`has` is not written on `context....`, so its name cannot be checked.", "has")
        for use in expression.uses(body):
            if use.tested and not _exists(use, subject.tools):
                full = ".".join((use.variable, *use.path))
                hint = strict.suggest(use.path, subject.tools) if use.variable == "context" else ""
                yield subject.error(f"There is no `{full}` here, so this is never true.{hint}", use.path[-1])


def _exists(use: expression.Use, tools: Iterable[Compiled]) -> bool:
    if use.variable == "context":
        return any(strict.kind_at(one.context, use.path) is not None for one in tools)
    return use.variable == "principal" and use.path == ("assurance",)


def _arithmetic(subject: Subject) -> Iterator[Problem]:
    for body in expression.bodies(subject.policy.tree):
        if expression.may_overflow(body):
            yield subject.error("This arithmetic can overflow, and Cedar then skips the policy; compare without it.")


def _servers(subject: Subject) -> Iterator[Problem]:
    """A misspelt server, in the scope or in a condition: Cedar takes any name for one."""
    known = {one.tool.server for one in subject.all} | {tool.server for tool in OWN.values()}
    for name in sorted(expression.entities(subject.policy.tree, "Server") - known):
        yield subject.error(f"No server is called `{name}`.{nearest(name, known)}", name)


def _words(subject: Subject) -> Iterator[Problem]:
    """A misspelt value of an attribute that holds one of a few words."""
    for body in expression.bodies(subject.policy.tree):
        for path, literal in _comparisons(body):
            known = _words_at(path, subject.tools)
            if known and literal not in known:
                full = ".".join(("context", *path))
                yield subject.error(f"`{full}` is never `{literal}`.{nearest(literal, known)}", literal)


def _comparisons(body: Any) -> Iterator[tuple[expression.Path, str]]:
    for name, operand in expression.nodes(body):
        if name not in ("==", "!=", "contains", "containsAny", "containsAll"):
            continue
        for one, other in ((operand["left"], operand["right"]), (operand["right"], operand["left"])):
            rooted = expression.attribute(one)
            if rooted and rooted[0] == "context" and rooted[1]:
                yield from ((rooted[1], literal) for literal in _literals(other))


def _literals(node: Any) -> Iterator[str]:
    members = node.get("Set", [node])
    return (member["Value"] for member in members if isinstance(member.get("Value"), str))


def _words_at(path: expression.Path, tools: Iterable[Compiled]) -> frozenset[str]:
    """The words that the attribute may hold; none where some tool lets it hold anything."""
    found: set[str] = set()
    for one in tools:
        words = one.words.get(path)
        if words is None and strict.kind_at(one.context, path) is not None:
            return frozenset()
        found |= words or frozenset()
    return frozenset(found)


def _graver(subject: Subject) -> Iterator[Problem]:
    """A permit on a group that reaches a tool whose effects are graver than the group's."""
    op, named = scope.action_ids(subject.policy.tree)
    if not subject.policy.permits or op != "in":
        return
    for one in subject.tools:
        through = [effect.rank for effect in groups(one.tool.effects) if effect in named]
        if one.tool.id in named or not through:
            continue
        for effect in sorted(groups(one.tool.effects), key=lambda effect: effect.rank):
            if effect.rank > max(through) and effect not in subject.annotations.reaches:
                yield _graver_problem(subject, one, effect)


def _graver_problem(subject: Subject, one: Compiled, effect: Effect) -> Problem:
    sentence = (
        f'This permit reaches `{one.tool.id}`, which is also `{effect}`; name the tools, or say `@reaches("{effect}")`.'
    )
    return subject.error(sentence)


def _raw_paths(subject: Subject) -> Iterator[Problem]:
    for body in expression.bodies(subject.policy.tree):
        for name, operand in expression.nodes(body):
            rooted = expression.attribute(operand["left"]) if name == "like" else None
            if rooted is None or len(rooted[1]) != 2 or rooted[1][0] != "args":
                continue
            argument = rooted[1][1]
            if any(argument in one.tool.control for one in subject.tools):
                yield from _raw_path(subject, argument, operand["pattern"])


def _raw_path(subject: Subject, argument: str, pattern: Sequence[Any]) -> Iterator[Problem]:
    if "Wildcard" not in pattern:
        return
    prefix = "".join(part["Literal"] for part in pattern[: pattern.index("Wildcard")])
    scheme, _, rest = prefix.partition("://")
    if not rest and "://" not in prefix:
        if argument not in subject.annotations.raw:
            better = f'match `context.paths.{argument}.inside` instead, or say `@raw("{argument}")` if it is no path'
            yield subject.warning(f"`..` and links pass this pattern; {better}.", argument)
    elif "/" not in rest:
        sentence = f"`{scheme}://{rest}*` matches hosts that only begin so; put a `/` after the host."
        yield subject.warning(sentence, argument)


def _mandate_patterns(subject: Subject) -> Iterator[Problem]:
    """A mandate that is written later may have a name that the pattern lets through."""
    for body in expression.bodies(subject.policy.tree):
        for name, operand in expression.nodes(body):
            rooted = expression.attribute(operand["left"]) if name == "like" else None
            if rooted is not None and rooted[1] in _MANDATE and subject.policy.permits:
                sentence = "Mandates that are still to be written can match this pattern; compare with `==`."
                yield subject.warning(sentence, "mandate")


_MANDATE = (("args", "mandate"), ("task", "mandate"))


def _permits_everything(subject: Subject) -> Iterator[Problem]:
    tree = subject.policy.tree
    if subject.policy.permits and scope.unscoped(tree) and not tree["conditions"]:
        yield subject.warning("This permits every tool, with any arguments, to every task.")


_RULES: tuple[Callable[[Subject], Iterator[Problem]], ...] = (
    _annotations,
    _tested_names,
    _arithmetic,
    _servers,
    _words,
    _graver,
    _raw_paths,
    _mandate_patterns,
    _permits_everything,
)
