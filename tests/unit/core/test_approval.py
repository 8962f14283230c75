# ruff: noqa: E501 - one mutant a line reads as the table that it is
"""The rules of core/approval.py, each in its words; and each broken by hand and seen broken."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core import approval
from forestall.core.approval import Approver, Consent, Shown, Unfit, binding, judge, unfit, unfit_for_all
from forestall.core.effects import Confidence, Effect
from forestall.core.label import CLEAN, WORST, Confidentiality, Integrity, Label
from forestall.core.model import Approval, Assurance, Decision, Facts, RealPath, Ruling, Subject
from forestall.core.reason import Reason
from forestall.testing.world import AGENT, NOW, action, facts, shown_of

ASKER = replace(AGENT, uid=1000)
ACTION, FACTS = action(), facts()
OWNER, SECURITY = Approval(("user:ann",)), Approval(("group:security",), quorum=2)
HELD = Ruling(Decision.HOLD, "b", "s", Reason.NEEDS_APPROVAL, ("ask",), (OWNER,))
SHOWN = shown_of(ACTION, ASKER, HELD, FACTS)
Judge = Callable[..., Any]


def yes(uid: int = 2000, *names: str, until: int = NOW + 1) -> Consent:
    return Consent(f"{uid}-{until}", Approver(uid, frozenset(names or ("user:ann",))), until)


def judged(*consents: Consent, how: Judge = judge, **changes: Any) -> Any:
    """What is asked is what was shown, but for `changes`."""
    world: dict[str, Any] = {"shown": SHOWN, "asked": ACTION, "asker": ASKER, "ruling": HELD, "facts": FACTS, **changes}
    return how(world["shown"], consents, world["asked"], world["asker"], world["ruling"], world["facts"])


def requiring(*groups: Approval) -> Ruling:
    return replace(HELD, approvals=groups)


def judged_worse(name: str, worse: Any) -> Callable[[Judge], Any]:
    return lambda how: judged(yes(), how=how, facts=replace(FACTS, **{name: worse}))


RULES: dict[str, list[tuple[Any, Callable[[Judge], Any]]]] = {
    "it counts": [(("2000-" + str(NOW + 1),), lambda how: judged(yes(), how=how))],
    "1 for the action that was shown and for no other": [
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(), how=how, asked=replace(ACTION, task="t2"))),
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(), how=how, asked=replace(ACTION, tool="files/x"))),
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(), how=how, asked=replace(ACTION, pin="sha256:1"))),
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(), how=how, asked=action({"path": "other.md"}))),
        (
            Reason.NEEDS_APPROVAL,
            lambda how: judged(yes(), how=how, facts=replace(FACTS, paths={"path": (RealPath("/etc/shadow"),)})),
        ),
        (
            Reason.NEEDS_APPROVAL,
            lambda how: judged(yes(), how=how, facts=replace(FACTS, references={"path": ("sha256:1",)})),
        ),
    ],
    "2 under the policies that asked for it": [
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(), how=how, ruling=replace(HELD, slice_digest="s2"))),
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(), how=how, ruling=requiring(OWNER, SECURITY))),
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(2000, "user:bob"), how=how)),
    ],
    "3 distinct persons, none of whom asks": [
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(2000, "group:security"), how=how, ruling=requiring(SECURITY))),
        (
            Reason.NEEDS_APPROVAL,
            lambda how: judged(
                yes(2000, "group:security"),
                yes(2000, "group:security", until=NOW + 2),
                how=how,
                ruling=requiring(SECURITY),
            ),
        ),
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(1000), how=how)),
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(), how=how, asker=AGENT)),
        (("1000-" + str(NOW + 1),), lambda how: judged(yes(1000), how=how, ruling=requiring(Approval(("local",))))),
    ],
    "4 until it expires": [
        (Reason.APPROVAL_EXPIRED, lambda how: judged(yes(until=NOW), how=how)),
        (Reason.APPROVAL_EXPIRED, lambda how: judged(yes(until=NOW - 1), how=how)),
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(2000, "user:bob", until=NOW), how=how)),
    ],
    "5 no worse than was shown": [
        (Reason.NEEDS_APPROVAL, judged_worse(name, worse))
        for name, worse in (
            ("labels", Label(Integrity.UNTRUSTED, Confidentiality.PUBLIC)),
            ("labels", Label(Integrity.TRUSTED, Confidentiality.SECRET)),
            ("effects", frozenset({Effect.WRITE, Effect.DESTRUCTIVE})),
            ("confidence", Confidence.ASSUMED),
            ("reaches_own_files", True),
        )
    ],
    "6 nobody is named": [
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(), how=how, ruling=requiring())),
        (Reason.NEEDS_APPROVAL, lambda how: judged(yes(), how=how, ruling=requiring(Approval(())))),
        (Reason.NEEDS_APPROVAL, lambda how: judged(how=how, ruling=requiring(Approval(("user:ann",), quorum=0)))),
    ],
}


def broken(how: Judge) -> list[str]:
    found = []
    for rule, cases in RULES.items():
        try:
            if any(case(how) != expected for expected, case in cases):
                found.append(rule)
        except Exception:
            found.append("raises")
    return found


def test_each_rule_holds() -> None:
    assert broken(judge) == []


MUTANTS = [
    ("another task", "1", "(shown.task, shown.tool, shown.pin) == (asked.task, asked.tool, asked.pin)", "(shown.tool, shown.pin) == (asked.tool, asked.pin)"),
    ("another tool", "1", "(shown.task, shown.tool, shown.pin) == (asked.task, asked.tool, asked.pin)", "(shown.task, shown.pin) == (asked.task, asked.pin)"),
    ("another pin", "1", "(shown.task, shown.tool, shown.pin) == (asked.task, asked.tool, asked.pin)", "(shown.task, shown.tool) == (asked.task, asked.tool)"),
    ("other arguments", "1", "        and shown.binding == binding_of(asked, facts)\n", ""),
    ("other paths", "1", "return binding(action.digest, facts.paths, facts.references)", "return binding(action.digest, {}, facts.references)"),
    ("other content", "1", "return binding(action.digest, facts.paths, facts.references)", "return binding(action.digest, facts.paths)"),
    ("other policies", "2", "        and shown.slice_digest == ruling.slice_digest\n", ""),
    ("the old requirement", "2", "    if met(ruling.approvals, alive, asker):", "    if met(shown.approvals, alive, asker):"),
    ("any group will do", "2", "bool(approvals) and all(missing", "bool(approvals) and any(missing"),
    ("names do not matter", "2", "return None if approver.names.intersection(approval.approvers) else Unfit.NOT_NAMED", "return None"),
    ("the same person twice", "3", "counted = {one.approver.uid for", "counted = {one.id for"),
    ("who asks approves", "3", "    if approver.uid == asker.uid:\n        return Unfit.ASKS\n", ""),
    ("nobody knows who asks", "3", "    if asker.uid is None and asker.assurance in HERE:\n        return Unfit.UNKNOWN_ASKER\n", ""),
    ("local is nobody", "3", "    if LOCAL in approval.approvers:\n        return None\n", ""),
    ("an expired one counts", "4", "asked.at < consent.expires_at", "True"),
    ("it counts in its last moment and after", "4", "asked.at < consent.expires_at", "asked.at <= consent.expires_at"),
    ("worse does not matter", "5", " or worse(shown, facts):", ":"),
    ("worse labels", "5", "        or not facts.labels.may_flow(shown.labels)\n", ""),
    ("worse effects", "5", "        not facts.effects <= shown.effects\n        or ", "        "),
    ("less sure", "5", "        or _SURENESS[facts.confidence] < _SURENESS[shown.confidence]\n", ""),
    ("own files", "5", "        or (facts.reaches_own_files and not shown.reaches_own_files)\n", ""),
    ("nobody is enough", "6", "return bool(approvals) and all(", "return all("),
    ("a quorum of none", "6", "max(1, approval.quorum)", "approval.quorum"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "rule", "was", "becomes"), MUTANTS, ids=[mutant[0] for mutant in MUTANTS])
def test_a_broken_rule_is_caught(name: str, rule: str, was: str, becomes: str) -> None:
    source = inspect.getsource(approval)
    assert source.count(was) == 1, f"{name} must change exactly one place"
    module = ModuleType("mutant")
    sys.modules["mutant"] = module  # dataclasses look their module up
    try:
        exec(compile(source.replace(was, becomes), "mutant", "exec"), module.__dict__)
    finally:
        del sys.modules["mutant"]
    module.Unfit = Unfit  # type: ignore[attr-defined]
    assert any(found.startswith(rule) for found in broken(module.judge))


def test_who_does_not_count_is_told_why() -> None:
    ann, agent = Approver(2000, frozenset({"user:ann"})), Approver(1000, frozenset({"user:ann"}))
    assert unfit(ann, OWNER, ASKER) is None
    assert unfit(agent, OWNER, ASKER) is Unfit.ASKS
    assert unfit(ann, OWNER, AGENT) is Unfit.UNKNOWN_ASKER
    assert unfit(ann, SECURITY, ASKER) is Unfit.NOT_NAMED
    assert unfit_for_all(ann, replace(SHOWN, approvals=(SECURITY, OWNER))) is None
    assert unfit_for_all(ann, replace(SHOWN, approvals=())) is Unfit.NOT_NAMED


def test_a_workload_elsewhere_has_no_user_here_that_could_approve_for_it() -> None:
    for assurance in Assurance:
        asker = Subject("spiffe://example/agent", assurance)
        here = assurance in approval.HERE
        assert (unfit(yes().approver, OWNER, asker) is None) is not here


def test_the_shortest_lifetime_holds_for_all() -> None:
    shown = replace(SHOWN, approvals=(replace(OWNER, lifetime_ms=9), replace(SECURITY, lifetime_ms=4)))
    assert shown.lifetime_ms == 4
    assert replace(SHOWN, approvals=()).lifetime_ms == 0


def test_arguments_cannot_be_taken_for_paths() -> None:
    path = {"a": (RealPath("/x", "x"),)}
    assert len({binding("sha256:0", {}), binding("sha256:0", path), binding("sha256:1", path)}) == 3
    assert binding("sha256:0", {"a": (RealPath("/x"), RealPath("/y"))}) != binding("sha256:0", {"a": (RealPath("/x"),)})


labels = st.builds(Label, st.sampled_from(Integrity), st.sampled_from(Confidentiality))
known = st.builds(
    Facts,
    labels=labels,
    effects=st.frozensets(st.sampled_from(Effect), min_size=1),
    confidence=st.sampled_from(Confidence),
    reaches_own_files=st.booleans(),
)
ORDER = list(Confidence)


@given(known, known)
def test_only_what_is_no_worse_passes(shown: Facts, now: Facts) -> None:
    was: Shown = shown_of(ACTION, ASKER, HELD, shown)
    passes = not isinstance(judged(yes(), shown=was, facts=now), Reason)
    assert passes is (
        now.effects <= shown.effects
        and now.labels.join(shown.labels) == shown.labels
        and ORDER.index(now.confidence) >= ORDER.index(shown.confidence)
        and (shown.reaches_own_files or not now.reaches_own_files)
    )


def test_the_worst_was_shown_and_the_best_is_asked() -> None:
    worst = replace(
        FACTS, labels=WORST, effects=frozenset(Effect), confidence=Confidence.ASSUMED, reaches_own_files=True
    )
    assert judged(yes(), shown=shown_of(ACTION, ASKER, HELD, worst)) == (yes().id,)
    assert FACTS.labels == CLEAN
