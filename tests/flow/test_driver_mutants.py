# ruff: noqa: E501 - one mutant a line reads as the table that it is
"""Break the drivers by hand, one promise at a time, and see each break caught: their tests can fail.

Two modules carry flows on: run.py, and the decision point, which goes on with many as their answers come.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from forestall import run
from forestall.server import answers, connection, deciding, pending
from tests.points import make_home
from tests.unit import test_run as tests
from tests.unit.server.hand import play
from tests.unit.server.test_connection import SCENARIOS, in_any_order

SOURCE = inspect.getsource(run)
REPLACED = ("run", "run_async", "Drive", "Unstoppable")
"""What the tests of the drivers use of run.py."""


@dataclass(frozen=True)
class Mutant:
    name: str
    by: str
    """The test that sees it, without its `test_`."""
    was: str
    becomes: str


MUTANTS = [
    # what has to be awaited is awaited, and what is not there is no answer
    Mutant("an awaited record is not awaited", "every_driver_brings_every_scenario_to_the_same_end", '            if hasattr(answer, "__await__"):', "            if False:"),
    Mutant("only coroutines are awaited", "every_driver_brings_every_scenario_to_the_same_end", '            if hasattr(answer, "__await__"):', "            if isinstance(answer, Coroutine):"),
    Mutant("what nobody awaits counts as done", "an_answer_that_nobody_awaits_is_no_answer", "drive.go(failure=_unawaited(waiting, drive.ask))", "drive.go()"),
    Mutant("a future counts as done", "a_future_is_no_answer_to_the_blocking_driver_either", "drive.go(failure=_unawaited(waiting, drive.ask))", "drive.go(failure=_unawaited(waiting, drive.ask) if isinstance(waiting, Coroutine) else None)"),
    Mutant("the answer is lost", "every_driver_brings_every_scenario_to_the_same_end", "waiting = drive.go(answer)", "waiting = drive.go()"),
    Mutant("what is awaited is not said", "a_drive_stops_where_something_has_to_be_awaited_and_says_what", "                self.ask = ask\n", ""),
    # an error of any kind is a refusal
    Mutant("a handler's error is an answer", "any_exception_before_the_permit_is_a_denial", "                failure = self._failure(error)\n", "                pass\n"),
    Mutant("an awaited error is an answer", "any_exception_before_the_permit_is_a_denial", "            waiting = drive.fail(error)", "            waiting = drive.go()"),
    Mutant("a panic is not caught", "any_exception_in_perform_is_an_unknown_outcome", "            except BaseException as error:  # noqa: BLE001 - an error of any kind is a refusal", "            except Exception as error:  # noqa: BLE001 - an error of any kind is a refusal"),
    Mutant("an awaited panic is not caught", "any_exception_in_perform_is_an_unknown_outcome", "        except BaseException as error:  # noqa: BLE001 - as in `Drive`", "        except Exception as error:  # noqa: BLE001 - as in `Drive`"),
    Mutant("what nobody carries out is done", "what_nobody_carries_out_is_a_denial", '    raise CannotDo(Reason.UNAVAILABLE, f"nothing here carries out {type(ask).__name__}")', "    return None"),
    Mutant("a foreign message is told", "our_own_errors_say_what_is_wrong_and_foreign_ones_only_their_type", "CannotDo(Reason.UNAVAILABLE, type(error).__name__)", "CannotDo(Reason.UNAVAILABLE, str(error))"),
    Mutant("our own sentence is lost", "our_own_errors_say_what_is_wrong_and_foreign_ones_only_their_type", "CannotDo(Reason.UNAVAILABLE, str(error))", "CannotDo(Reason.UNAVAILABLE)"),
    Mutant("running out of time is unavailable", "our_own_errors_say_what_is_wrong_and_foreign_ones_only_their_type", "return CannotDo(Reason.DEADLINE)\n    if isinstance(error, ForestallError)", "return CannotDo(Reason.UNAVAILABLE)\n    if isinstance(error, ForestallError)"),
    Mutant("our own refusal is worded anew", "a_flow_hears_no_exception_but_ours", "    if isinstance(error, CannotDo):\n        return error\n", ""),
    Mutant("certainly not started is worded anew", "what_was_awaited_and_failed_is_heard_by_the_flow", "    if isinstance(error, CannotDo):\n        return error\n", "    if isinstance(error, CannotDo):\n        return CannotDo(error.reason)\n"),
    # a deadline for the decision, and for nothing after it
    Mutant("the deadline is ignored", "a_deadline_that_has_passed_is_a_denial", "    late = deadline is not None and time.monotonic() >= deadline\n", "    late = False\n"),
    Mutant("a permit is written after the deadline", "no_permit_is_written_after_the_deadline", "    return None if is_deed else CannotDo(Reason.DEADLINE)", "    return None if is_deed or kind is not None else CannotDo(Reason.DEADLINE)"),
    Mutant("what is awaited has no deadline", "a_step_that_does_not_answer_is_ended_by_the_deadline", "return await asyncio.wait_for(answer, max(0.0, deadline - time.monotonic()))", "return await answer"),
    Mutant("what is permitted may not start after it", "the_deadline_is_for_the_decision_and_not_for_what_it_permits", "DEED = frozenset({Perform, Plan, Issue})", "DEED = frozenset()"),
    Mutant("a credential may not be issued after it", "the_deadline_is_for_the_decision_and_not_for_what_it_permits", "DEED = frozenset({Perform, Plan, Issue})", "DEED = frozenset({Perform, Plan})"),
    Mutant("a credential may not be planned after it", "the_deadline_is_for_the_decision_and_not_for_what_it_permits", "DEED = frozenset({Perform, Plan, Issue})", "DEED = frozenset({Perform, Issue})"),
    Mutant("what is permitted is cut off by it", "the_deadline_is_for_the_decision_and_not_for_what_it_permits", "    if deadline is None or type(ask) in DEED:\n", "    if deadline is None:\n"),
    Mutant("a record is cut off by it", "the_deadline_is_for_the_decision_and_not_for_what_it_permits", "            if type(drive.ask) in FINISHING:", "            if False:"),
    Mutant("the books are not finished after it", "the_deadline_is_for_the_decision_and_not_for_what_it_permits", "    if type(ask) in FINISHING and not is_deed", "    if False and not is_deed"),
    # cancellation: at the step it can stop; the books are finished; and then it goes on to the caller
    *(Mutant(f"{step} is not finished", "cancelled_at_any_step_the_books_are_finished_and_the_cancellation_goes_on", "FINISHING = frozenset({Record, Release, Revoke, Tell})", f"FINISHING = frozenset({{Record, Release, Revoke, Tell}} - {{{step}}})") for step in ("Record", "Revoke", "Tell")),
    Mutant("Release is not finished", "no_permit_is_written_after_the_deadline", "FINISHING = frozenset({Record, Release, Revoke, Tell})", "FINISHING = frozenset({Record, Revoke, Tell})"),
    Mutant("cancellation forgets what finishes", "cancelled_at_any_step_the_books_are_finished_and_the_cancellation_goes_on", "    if type(ask) in FINISHING and not is_deed", "    if False and not is_deed"),
    Mutant("a permit is recorded after the interrupt", "a_drive_that_is_stopped_before_its_permit_is_written_writes_a_denial", " and kind not in GRANTING", ""),
    Mutant("a permit recorded after the interrupt is performed", "a_drive_that_is_stopped_once_its_permit_is_written_begins_nothing_more", "    if interrupt is not None:\n", "    if interrupt is not None and not isinstance(ask, Perform):\n"),
    Mutant("a credential is issued after the interrupt", "a_drive_that_is_stopped_while_its_credential_is_written_down_brings_none_into_being", "    if interrupt is not None:\n", "    if interrupt is not None and not isinstance(ask, Issue):\n"),
    Mutant("a credential is written down after the interrupt", "a_drive_that_is_stopped_once_its_permit_is_written_begins_nothing_more", " or kind is Kind.LEASED\n", "\n"),
    Mutant("the interrupt stops nothing", "cancelled_at_any_step_the_books_are_finished_and_the_cancellation_goes_on", "    if interrupt is None and not late:\n", "    if not late:\n"),
    Mutant("what was not begun is called unknown", "a_drive_that_is_stopped_once_its_permit_is_written_begins_nothing_more", "return NotStarted(Reason.CANCELLED) if isinstance(ask, Perform) else CannotDo(Reason.CANCELLED)", "return CannotDo(Reason.CANCELLED)"),
    Mutant("an interrupt in a step is lost", "an_interrupt_from_the_keyboard_finishes_the_books_too", "            self._interrupt = error\n", "            pass\n"),
    Mutant("an interrupt is not one", "an_interrupt_from_the_keyboard_finishes_the_books_too", "_INTERRUPTS = (KeyboardInterrupt, ", "_INTERRUPTS = ("),
    Mutant("a cancellation is not one", "cancelled_at_any_step_the_books_are_finished_and_the_cancellation_goes_on", "SystemExit, asyncio.CancelledError, GeneratorExit)", "SystemExit, GeneratorExit)"),
    Mutant("being stopped is lost", "a_drive_that_is_stopped_before_its_permit_is_written_writes_a_denial", "        self._interrupt = self._interrupt or error", "        pass"),
    Mutant("the last one that stops it is raised", "a_drive_that_is_stopped_while_its_permit_is_written_settles_it_and_performs_nothing", "        self._interrupt = self._interrupt or error", "        self._interrupt = error"),
    Mutant("the caller does not hear of it", "a_drive_that_is_stopped_while_its_permit_is_written_settles_it_and_performs_nothing", "            raise self._interrupt from None\n", "            pass\n"),
    Mutant("a cancellation during a record is forgotten", "cancelled_at_any_step_the_books_are_finished_and_the_cancellation_goes_on", '"cancelled") from None\n            stop(error)\n', '"cancelled") from None\n'),
    Mutant("a cancellation during a record that fails is forgotten", "who_is_cancelled_while_a_record_fails_hears_of_the_cancellation", "            stop(error)\n            return answer.result()\n", "            result = answer.result()\n            stop(error)\n            return result\n"),
    Mutant("a record is not shielded", "cancelled_at_any_step_the_books_are_finished_and_the_cancellation_goes_on", "            await asyncio.shield(future)\n", "            await future\n"),
    Mutant("a second cancellation leaves the record behind", "who_is_cancelled_again_and_again_while_a_permit_is_written_gets_it_settled_all_the_same", "    while not future.done():\n", "    for _ in range(1):\n"),
    Mutant("what cannot be stopped is", "what_cannot_be_stopped_is_not", "        del msg\n        return False\n", "        return super().cancel(msg)\n"),
    Mutant("a cancellation of what cannot be stopped is lost", "who_is_cancelled_again_and_again_while_a_permit_is_written_gets_it_settled_all_the_same", "            stop(error)\n            return answer.result()\n", "            return answer.result()\n"),
    Mutant("a record's own cancellation is its caller's", "a_step_that_was_cancelled_itself_is_a_refusal_and_no_cancellation_of_its_caller", '                raise CannotDo(Reason.UNAVAILABLE, "cancelled") from None\n', "                raise\n"),
]  # fmt: skip


DECIDING = [
    # each call has one end
    Mutant("a permit's outcome is waited for twice", "a_reported_fate_is_the_one_that_is_settled", "            if waiting is pending.outcome and waiting is not None:\n", "            if False:\n"),
    Mutant("what was awaited is not waited for", "a_permit_is_sent_when_it_is_written_and_not_before", "                self._connection.wait_for(waiting, lambda done: self._came(pending, done))\n", "                pass\n"),
    Mutant("it goes on before the record is there", "a_permit_is_sent_when_it_is_written_and_not_before", "                self._connection.wait_for(waiting, lambda done: self._came(pending, done))\n                return\n", "                step = pending.drive.go\n                return self._go_on(pending, step)\n"),
    Mutant("a record that failed is taken for written", "a_permit_that_cannot_be_written_is_a_denial", "(lambda: drive.go(done.result())) if error is None else (lambda: drive.fail(error))", "lambda: drive.go(None)"),
    Mutant("a cancelled flow falls over", "a_cancel_while_the_permit_is_written_denies_and_settles_it_as_not_started", "        except asyncio.CancelledError:\n            outcome =", "        except ZeroDivisionError:\n            outcome ="),
    Mutant("a denial is sent twice", "what_is_not_decided_in_time_is_denied_at_once_and_never_permitted", "        if pending.answered or pending.outcome is not None:\n            return\n", ""),
    Mutant("a late decision is not denied", "what_is_not_decided_in_time_is_denied_at_once_and_never_permitted", "            self._deny(pending, Deny(pending.action.id, Reason.DEADLINE))\n", ""),
    Mutant("who waits is never late", "what_is_not_decided_in_time_is_denied_at_once_and_never_permitted", "                if pending.timer is None:  #", "                if False:  #"),
    Mutant("a cancel is not heard", "a_cancel_while_the_permit_is_written_denies_and_settles_it_as_not_started", "        if pending is not None:\n            pending.cancel()\n", ""),
    Mutant("a late permit is sent", "a_permit_that_runs_out_once_it_was_confirmed_is_not_sent", "        if at >= ask.permit.expires_at:\n", "        if False:\n"),
    Mutant("what was not begun is not answered", "a_cancel_while_a_permit_cannot_be_written_denies_once", "            case Deny() | Hold() if pending.outcome is None:\n                self._deny(pending, outcome)\n", "            case Hold():\n                self._deny(pending, outcome)\n"),
    # a report, or none
    Mutant("a report is not heard", "a_second_report_is_withheld_and_settles_nothing", "        if pending.settle(report):\n            self._report(pending)\n", "        pending.settle(report)\n"),
    Mutant("a stranger's report is not answered", "a_second_report_is_withheld_and_settles_nothing", '                self._connection.send({"type": "withhold", "id": report.id, "sentence": sentence})\n            return', "                pass\n            return"),
    Mutant("nobody waits for a report for ever", "a_report_after_it_was_given_up_is_withheld_and_changes_nothing", "        if pending.give_up(why):\n            self._report(pending)\n", "        pending.give_up(why)\n"),
    Mutant("a lost connection gives nothing up", "a_connection_that_is_lost_while_its_permit_is_out_leaves_it_ambiguous", '            self._give_up(pending, "the connection ended")', "            pass"),
    Mutant("an output is released though it is unknown", "a_reported_fate_is_the_one_that_is_settled", "            case Done() if pending.reported is not None and self._connection.stopped not in ENDED:\n                self._connection.send(", "            case Done() | Undone() if pending.reported is not None:\n                self._connection.send("),
    # an output that need not wait, and one that does
    Mutant("no output waits", "an_output_waits_until_its_label_is_recorded_and_those_after_it_do_not", "adds_nothing = self._parts.state.adds_nothing(ask.permit.id)", "adds_nothing = True"),
    Mutant("every output waits", "an_output_that_adds_nothing_is_released_at_once_and_settled_without_an_answer", "adds_nothing = self._parts.state.adds_nothing(ask.permit.id)", "adds_nothing = False"),
    Mutant("whoever releases may", "who_releases_an_output_that_had_to_wait_is_not_served_any_more", "        if report.released and not pending.at_once:\n", "        if False:\n"),
    Mutant("what was released is released again", "an_output_that_adds_nothing_is_released_at_once_and_settled_without_an_answer", "            case Done() if pending.reported is not None and self._connection.stopped not in ENDED:\n", "            case Done() if self._connection.stopped not in ENDED:\n"),
    Mutant("a stranger is told of what was released", "what_was_released_at_once_after_it_was_given_up_is_answered_to_nobody", "            if not report.released:\n", "            if True:\n"),
    # who is undecided
    Mutant("a refusal is counted for ever", "a_permit_that_cannot_be_written_is_a_denial", "        if pending.outcome is None:\n            self._decided(", "        if False:\n            self._decided("),
    Mutant("a permit is counted off twice", "a_second_report_is_withheld_and_settles_nothing", "        if pending.outcome is None:\n            self._decided(", "        if True:\n            self._decided("),
    Mutant("a permit is counted for ever", "a_permit_is_sent_when_it_is_written_and_not_before", "        self._decided(pending)\n        seconds", "        seconds"),
    # what is below waits for what is undecided, and for nothing else
    Mutant("nobody below hears of it", "what_is_undecided_is_known_to_those_below_until_it_is_decided", "        self._parts.state.asked(action.id, action.task)\n", ""),
    Mutant("what is decided is waited for", "what_is_undecided_is_known_to_those_below_until_it_is_decided", "        self._parts.state.answered(pending.action.id)\n", ""),
    Mutant("what ended is remembered as running", "a_permit_that_cannot_be_written_is_a_denial", "        self._by_action.pop(pending.action.id, None)\n", ""),
    Mutant("what ended is remembered as asked", "any order", "        self._pending.pop(pending.frame, None)\n", ""),
]  # fmt: skip

ANSWERS = [
    Mutant("it stands still though others wait", "only_who_is_alone_stands_still_for_the_disk", "return self._point.undecided == 1 and not connection.unread and self._point.first_to_stand_still(connection)", "return not connection.unread"),
    Mutant("it stands still though more has come", "only_who_is_alone_stands_still_for_the_disk", "return self._point.undecided == 1 and not connection.unread and self._point.first_to_stand_still(connection)", "return self._point.undecided == 1 and self._point.first_to_stand_still(connection)"),
    Mutant("it stands still for each of many that come at once", "only_the_first_of_many_that_come_at_once_stands_still_for_the_disk", "return self._point.undecided == 1 and not connection.unread and self._point.first_to_stand_still(connection)", "return self._point.undecided == 1 and not connection.unread"),
    Mutant("it never stands still", "only_who_is_alone_stands_still_for_the_disk", "return self._point.undecided == 1 and not connection.unread and self._point.first_to_stand_still(connection)", "return False"),
]  # fmt: skip

CONNECTION = [
    Mutant("a permit that is out counts as settled", "it_is_settled_when_no_permit_is_out", "*self.calls.outcomes", "*()"),
]  # fmt: skip

PENDING = [
    Mutant("a failure is a success", "a_reported_fate_is_the_one_that_is_settled", "failed = report.fate is Fate.FAILED", "failed = False"),
    Mutant("not started is ambiguous", "a_reported_fate_is_the_one_that_is_settled", "NotStarted(Reason.CANCELLED, report.detail)", "CannotDo(Reason.CANCELLED, report.detail)"),
    Mutant("ambiguous is not started", "a_reported_fate_is_the_one_that_is_settled", "CannotDo(Reason.UNAVAILABLE, report.detail)", "NotStarted(Reason.UNAVAILABLE, report.detail)"),
    Mutant("what is given up is not started", "a_connection_that_is_lost_while_its_permit_is_out_leaves_it_ambiguous", "CannotDo(Reason.UNAVAILABLE, why)", "NotStarted(Reason.UNAVAILABLE, why)"),
    Mutant("nobody hears that it is given up", "a_connection_that_is_lost_while_its_permit_is_out_leaves_it_ambiguous", "why))\n            return True\n", "why))\n            return False\n"),
    Mutant("a cancel reaches what is permitted", "a_cancel_after_the_permit_is_harmless", "        if self.outcome is None and self.drive is not None:\n", "        if self.drive is not None:\n"),
    Mutant("who reports is not answered", "a_reported_fate_is_the_one_that_is_settled", "        self.reported = None if report.released else report.id\n", ""),
]  # fmt: skip


BROKEN = {deciding: DECIDING, answers: ANSWERS, connection: CONNECTION, pending: PENDING}
"""Where one call is decided, and what is broken there."""

DECISION_POINT = [mutant for mutants in BROKEN.values() for mutant in mutants]

SAME = Mutant("as it is", "", "# the end\n", "")


def mutated(mutant: Mutant, source: str = SOURCE) -> ModuleType:
    assert source.count(mutant.was) == 1, f"the mutant must change exactly one place: {mutant.was!r}"
    module = ModuleType("mutant")
    module.__file__ = run.__file__
    sys.modules["mutant"] = module  # dataclasses look their module up
    try:
        exec(compile(source.replace(mutant.was, mutant.becomes), "mutant", "exec"), module.__dict__)
    finally:
        del sys.modules["mutant"]
    return module


def cases(name: str) -> Iterator[Callable[[], None]]:
    """A test of the drivers, once for each of its parameters."""
    test = getattr(tests, f"test_{name}")
    columns = []
    for mark in getattr(test, "pytestmark", []):
        names, rows = mark.args
        names = [names] if isinstance(names, str) else list(names)
        columns.append([dict(zip(names, row if len(names) > 1 else [row], strict=True)) for row in rows])
    for choice in product(*columns):
        yield partial(test, **{name: value for row in choice for name, value in row.items()})


def fails(case: Callable[[], None]) -> bool:
    try:
        case()
    except (Exception, asyncio.CancelledError, pytest.fail.Exception, tests.Panic):
        return True
    return False


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_broken_driver_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    module: Any = mutated(mutant)
    for name in REPLACED:
        monkeypatch.setattr(tests, name, getattr(module, name))
    assert any(fails(case) for case in cases(mutant.by))


@pytest.mark.parametrize("name", sorted({mutant.by for mutant in MUTANTS}))
def test_the_drivers_themselves_are_not(name: str) -> None:
    found = list(cases(name))
    assert found
    for case in found:
        case()


def holds_its_word(kind: Any, by: str, root: Path) -> bool:
    home = make_home(root)
    try:
        if by == "any order":
            in_any_order(home, [("ask", 0, "write_file"), ("report", 0, "done"), ("ask", 0, "delete_file")], kind)
        else:
            play(home, SCENARIOS[by], kind)
    except (Exception, asyncio.CancelledError):
        return False
    return True


def decision_point(mutant: Mutant | None) -> Any:
    """The connection with the mutant in it; without one, built in the same way."""
    one = built(connection, mutant)
    calls = built(deciding, mutant)
    calls.Pending = built(pending, mutant).Pending
    one.Calls, one.Answers = calls.Calls, built(answers, mutant).Answers
    return one.Connection


def built(module: ModuleType, mutant: Mutant | None) -> Any:
    source = inspect.getsource(module)
    return mutated(mutant, source) if mutant in BROKEN[module] else mutated(SAME, source + SAME.was)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.tampers  # what a broken one writes need not verify
@pytest.mark.parametrize("mutant", DECISION_POINT, ids=lambda mutant: mutant.name)
def test_a_broken_decision_point_is_caught(mutant: Mutant, tmp_path: Path) -> None:
    assert not holds_its_word(decision_point(mutant), mutant.by, tmp_path)


@pytest.mark.parametrize("name", sorted({mutant.by for mutant in DECISION_POINT}))
def test_the_decision_point_itself_is_not(name: str, tmp_path: Path) -> None:
    assert holds_its_word(decision_point(None), name, tmp_path)
