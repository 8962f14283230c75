# ruff: noqa: E501 - one mutant a line reads as the table that it is
"""Break core/flow.py by hand, one rule at a time, and see each break caught: the tests of the flow can fail."""

from __future__ import annotations

import inspect
import sys
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pytest

from forestall.core import flow, lend
from tests.flow.scenarios import SCENARIOS, broken_rules, faults, play

SOURCE, LEND = inspect.getsource(flow), inspect.getsource(lend)
PERFORM = "outcome = Done(permit, (yield Perform(permit, action, lease)))"
RECORD = "yield Record(permitted(permit, action, known.subject, known.facts, durable=known.tool.durable))"


@dataclass(frozen=True)
class Mutant:
    name: str
    rule: str
    """The beginning of the rule that must be seen broken; `raises` where the flow itself falls over."""
    was: str
    becomes: str
    moves: tuple[str, str] | None = None
    """A second place, and what it becomes."""


MUTANTS = [
    # promises 1 and 2: no effect without a permit, no permit without a record
    Mutant("permit is not recorded", "1", RECORD, "yield Tell()"),
    Mutant("a failed record is ignored", "1", "        raise\n", "        return\n"),
    Mutant("permit recorded after the fact", "1", "            yield from reserve_and_record(", "            0 and (yield from ()) or ("),
    Mutant("nobody is let pass for somebody", "raises", "    if subject is None:\n        return Deny(action.id, Reason.INVALID_PROOF)\n", ""),
    Mutant("permit is not durable", "2 permit not durable", "durable=known.tool.durable", "durable=False"),
    Mutant("permit for other arguments", "2", "digest=action.digest", "digest=action.pin"),
    Mutant("permit for another tool", "2", "tool=action.tool,", "tool=tool.name,"),
    Mutant("released before it is settled", "5", "return Undone(outcome.permit, fate, error.reason", "return outcome or Undone(outcome.permit, fate, error.reason"),
    # promise 3: at most once, and soon
    Mutant("performed twice", "3", PERFORM, f"(yield Perform(permit, action, lease)); {PERFORM}"),
    Mutant("retried when it is lost", "3", "        fate = Fate.NOT_STARTED if isinstance", "        (yield Perform(permit, action, None))\n        fate = Fate.NOT_STARTED if isinstance"),
    Mutant("as much as it likes", "12", "exceeds(outcome.result.used, outcome.permit.limits)", "False"),
    Mutant("nothing is little enough", "12 withheld", "exceeds(outcome.result.used, outcome.permit.limits)", "outcome.permit.limits"),
    Mutant("no call has limits", "12", "limits=grant.per_call if grant is not None else NOTHING", "limits=NOTHING"),
    Mutant("what came back is let out", "13", "isinstance(outcome, Done) and outcome.result.leaked", "False"),
    Mutant("nothing is let out", "13 withheld", "isinstance(outcome, Done) and outcome.result.leaked", "isinstance(outcome, Done)"),
    Mutant("whoever calls fills it in", "4", "if given := given_though_hidden(tool.hidden, action.arguments):", "if given := '':"),
    Mutant("whatever the content is by then", "4", "    ruling = held_if_unbound(ruling, facts)\n", ""),
    Mutant("a permit for any content", "14", "if facts.references else NOTHING", "if not facts.references else NOTHING"),
    Mutant("a permit for ever", "2 permit does not expire", "action.at + PERMIT_LIFETIME_MS", "action.at + 10**12"),
    # promise 4: authority
    Mutant("grant is not checked", "4", "if against is not None:", "if against is Reason.NO_GRANT:"),
    Mutant("budget is not asked for", "9", "if not (yield Reserve(known.grant, permit.effects)):", "if False:"),
    Mutant("budget's answer is ignored", "4", "if not (yield Reserve(known.grant, permit.effects)):", "if (yield Reserve(known.grant, permit.effects)) is None:"),
    Mutant("budget is kept", "9", "        yield from best_effort(Release(known.grant, permit.effects))\n", ""),
    # promise 5: credentials
    Mutant("credential is never revoked", "6", "    yield from take_back(loan", "    yield from take_back(Loan()"),
    Mutant("credential revoked on success only", "6", "    yield from take_back(loan", "    yield from take_back(loan if isinstance(outcome, Done) else Loan()"),
    # promise 6: default deny, fail closed
    Mutant("unknown tool is let through", "raises", "    if tool is None:\n        return Deny(action.id, Reason.UNKNOWN_TOOL)\n", ""),
    Mutant("pin is not checked", "4", " or tool.pin != action.pin", ""),
    Mutant("name is not checked", "4", "tool.id != action.tool or ", ""),
    Mutant("a denial is a permit", "4", "ruling.decision is Decision.PERMIT and", "ruling.decision is not Decision.HOLD and"),
    Mutant("a permit that no policy gave", "4", "is Decision.PERMIT and ruling.policies", "is Decision.PERMIT"),
    Mutant("an error is a permit", "raises", "decision = Deny(action.id, error.reason, detail=error.detail)", "decision = Permit(action.id, '', '', '', '', frozenset(), None, (), '', 0)"),
    Mutant("an error is swallowed in the record of a denial", "raises", "    except CannotDo:\n        return\n", "    except ZeroDivisionError:\n        return\n"),
    # promise 7: a hold waits
    Mutant("a hold is a permit", "4", "ruling.decision is Decision.PERMIT and", "ruling.decision in (Decision.PERMIT, Decision.HOLD) and"),
    Mutant("a hold is a denial", "7 a hold is not", "    if ruling.decision is Decision.HOLD:", "    if ruling.decision is Decision.PERMIT:"),
    Mutant("people are not asked", "4 not performed", "    if isinstance(decision, Hold):\n        return (yield from ask_people(", "    if isinstance(decision, Deny):\n        return (yield from ask_people("),
    Mutant("a hold runs whatever people said", "4", "    if answer is Reason.NEEDS_APPROVAL or not answer:\n        return hold\n    if isinstance(answer, Reason):\n        return Deny(action.id, answer, ruling.policies, ruling.policy_digest)\n", ""),
    Mutant("a hold is a final denial", "7 a hold is not", "    if answer is Reason.NEEDS_APPROVAL or not answer:\n        return hold\n", ""),
    Mutant("a decline is a hold", "4 wrong reason", "if answer is Reason.NEEDS_APPROVAL or not answer:", "if isinstance(answer, Reason):"),
    Mutant("a permit does not use its approvals up", "11", "return replace(decision, approvals=answer) if isinstance(decision, Permit) else decision", "return decision"),
    Mutant("a requirement for nobody is met", "4", "if not ruling.approvals or not all(approval.approvers for approval in ruling.approvals):", "if not ruling.approvals:"),
    # promise 8: revocation wins races
    Mutant("permit is not confirmed", "10", "        yield from require_standing(permit)\n", ""),
    Mutant("the answer is ignored", "10", "if stopped is not None:", "if stopped is NotImplemented:"),
    Mutant("confirmed before it is recorded", "10", "            yield from reserve_and_record(decision, action, known)\n", "            if (yield Confirm(decision)): raise CannotDo()\n            yield from reserve_and_record(decision, action, known)\n", ("        yield from require_standing(permit)\n", "")),
    Mutant("stopped is called ambiguous", "10 stopped and not", "raise NotStarted(stopped, stopped.value)", "raise CannotDo(stopped, stopped.value)", ("loan, fate = Loan(), Fate.NOT_STARTED", "loan, fate = Loan(), Fate.AMBIGUOUS")),
    # no agent acts on half a context
    Mutant("upstream is not waited for", "4", "if not ruling.after_upstream or not (yield AwaitUpstream(action)):", "if True:"),
    Mutant("what was known before it counts", "4", "if not ruling.after_upstream or not (yield AwaitUpstream(action)):", "if not ruling.after_upstream or (yield AwaitUpstream(action)):"),
    # promise 10: evidence
    Mutant("denial is not recorded", "8", "yield from best_effort(Record(denied(decision, action, known.subject, known.facts)))", "yield from ()"),
    Mutant("hold is not recorded", "8", "yield from best_effort(Record(held(decision, action, known.subject, known.facts)))", "yield from ()"),
    Mutant("permit is not settled", "5", "        yield Record(_settlement(outcome, at))\n", "        pass\n"),
    Mutant("a lost call is called not started", "8 wrong fate", "        fate = Fate.AMBIGUOUS\n", ""),
    Mutant("what certainly did not start is called ambiguous", "8 wrong fate", "Fate.NOT_STARTED if isinstance(error, NotStarted) else fate", "fate"),
    Mutant("a failed call is called done", "8 wrong fate", "Fate.FAILED if result.failed else Fate.DONE", "Fate.DONE"),
    Mutant("another output is released", "5 released what", PERFORM, "outcome = Done(permit, Result((yield Perform(permit, action, lease)).value))"),
]  # fmt: skip


# fmt: off
LENDING = (
    # promise 5, in core/lend.py
    Mutant("a credential is not written down", "1 credential", "    yield Record(leased(lease, action.at))\n", ""),
    Mutant("a credential is written down too late", "1 credential", "    yield Record(leased(lease, action.at))\n    lease = replace(lease, secret=(yield Issue(lease)))\n", "    lease = replace(lease, secret=(yield Issue(lease)))\n    yield Record(leased(lease, action.at))\n"),
    Mutant("a credential is known once it was issued", "6", "    loan.lease = lease\n    yield Record(leased(lease, action.at))\n    lease = replace(lease, secret=(yield Issue(lease)))\n", "    yield Record(leased(lease, action.at))\n    lease = replace(lease, secret=(yield Issue(lease)))\n    loan.lease = lease\n"),
    Mutant("a task's credential ends with an action", "6 credential ended", "    if lease.scope is Scope.TASK:\n        loan.lease = None\n", ""),
    Mutant("every credential is the task's", "6", "    if lease.scope is Scope.TASK:\n", "    if lease.scope:\n"),
    Mutant("a credential that is there is made again", "6", "    if lease.secret is not None:\n        return lease\n", ""),
    Mutant("an end is written that was not reached", "6 said", "    yield Revoke(lease)\n    at = yield Tell()\n    yield Record(revoked(lease, why, at))\n", "    at = yield Tell()\n    yield Record(revoked(lease, why, at))\n    yield Revoke(lease)\n"),
)
# fmt: on


def mutated(mutant: Mutant) -> ModuleType:
    if mutant in LENDING:
        module = compiled(SOURCE)
        lending = compiled(changed(LEND, mutant))
        module.lend, module.take_back = lending.lend, lending.take_back
        return module
    return compiled(changed(SOURCE, mutant))


def changed(original: str, mutant: Mutant) -> str:
    source = original
    for was, becomes in [(mutant.was, mutant.becomes), *([mutant.moves] if mutant.moves else [])]:
        assert original.count(was) == 1, f"the mutant must change exactly one place: {was!r}"
        source = source.replace(was, becomes)
    return source


def compiled(source: str) -> Any:
    module = ModuleType("mutant")
    module.__file__ = flow.__file__
    sys.modules["mutant"] = module  # dataclasses look their module up
    try:
        exec(compile(source, "mutant", "exec"), module.__dict__)
    finally:
        del sys.modules["mutant"]
    return module


def caught(govern: Any) -> set[str]:
    """Every rule seen broken, under no fault and each single one."""
    rules: set[str] = set()
    for scenario in SCENARIOS:
        for fault in faults(20, most=1):
            try:
                world, outcome = play(govern, scenario, fault)
            except Exception:
                rules.add("raises")
                continue
            rules.update(broken_rules(scenario, world, outcome))
    return rules


@pytest.mark.parametrize("mutant", [*MUTANTS, *LENDING], ids=lambda mutant: mutant.name)
def test_a_broken_flow_is_caught(mutant: Mutant) -> None:
    rules = caught(mutated(mutant).govern)
    assert any(rule.startswith(mutant.rule) for rule in rules), rules


def test_the_flow_itself_breaks_no_rule() -> None:
    assert caught(flow.govern) == set()
