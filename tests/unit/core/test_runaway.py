"""What gets a task suspended, and what is answered from memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forestall.core.model import Action, Deny
from forestall.core.reason import Reason
from forestall.core.runaway import (
    MAX_PERMITTED,
    MAX_REFUSED,
    MAX_TASKS,
    MINUTE_MS,
    REMEMBER_MS,
    REMEMBERED,
    STOPPED,
    Pace,
    Runaways,
    Watch,
)
from forestall.testing.world import NOW, action

PACE = Pace(calls=5, denials=4, same_call=3, too_deep=2)
NO = Deny("first", Reason.FORBIDDEN, ("no",), "sha256:b", "forbidden by no")


def call(number: int = 0, at: int = NOW) -> Action:
    return replace(action({"path": f"{number}"}), id=f"a{number}-{at}", at=at)


def test_what_was_refused_is_refused_again_for_the_same_reason_under_a_name_of_its_own() -> None:
    watch = Watch(PACE)
    assert watch.recall(call()) is None
    watch.denied(call(), NO)
    again = call(at=NOW + REMEMBER_MS - 1)
    assert watch.recall(again) == replace(NO, id=again.id)
    assert watch.recall(call(1)) is None, "another call"
    assert watch.recall(replace(call(), pin="sha256:other")) is None
    assert watch.recall(call(at=NOW + REMEMBER_MS)) is None, "by then it may be otherwise"


def test_repetitions_do_not_keep_a_refusal_alive() -> None:
    watch = Watch(replace(PACE, denials=100))
    for at in range(NOW, NOW + 3 * REMEMBER_MS, REMEMBER_MS // 2):
        known = watch.recall(call(at=at))
        assert (known is None) is ((at - NOW) % REMEMBER_MS == 0)
        watch.denied(call(at=at), known or NO)


@pytest.mark.parametrize("reason", sorted(set(Reason) - REMEMBERED))
def test_what_may_be_otherwise_the_next_time_is_not_remembered(reason: Reason) -> None:
    watch = Watch(PACE)
    watch.denied(call(), replace(NO, reason=reason))
    assert watch.recall(call()) is None


@pytest.mark.parametrize("what", ["forget", "renew"])
def test_what_is_remembered_is_forgotten_when_something_was_done(what: str) -> None:
    watch = Watch(PACE)
    watch.denied(call(), NO)
    getattr(watch, what)()
    assert watch.recall(call()) is None


def test_only_so_many_refusals_are_remembered() -> None:
    watch = Watch(replace(PACE, denials=10**6))
    for number in range(MAX_REFUSED + 1):
        watch.denied(call(number), NO)
    assert watch.recall(call(0)) is None
    assert watch.recall(call(MAX_REFUSED)) is not None
    assert len(watch._refused) <= MAX_REFUSED


def test_a_burst_is_seen_and_said_once() -> None:
    watch = Watch(PACE)
    said = [watch.permitted(call(number)) for number in range(8)]
    assert said[:5] == [""] * 5
    assert "burst" in said[5]
    assert said[6:] == ["", ""]


def test_a_loop_is_seen_and_names_the_tool() -> None:
    watch = Watch(PACE)
    said = [watch.permitted(call()) for _ in range(4)]
    assert said[:3] == [""] * 3
    assert "loop" in said[3]
    assert action().tool in said[3]


def test_a_storm_is_seen_whether_or_not_it_is_answered_from_memory() -> None:
    watch = Watch(PACE)
    said = [watch.denied(call(), NO) for _ in range(5)]
    assert said[:4] == [""] * 4
    assert "storm" in said[4]


def test_a_chain_that_is_too_deep_is_seen() -> None:
    watch = Watch(PACE)
    deep = replace(NO, reason=Reason.DEPTH)
    said = [watch.denied(call(number), deep) for number in range(3)]
    assert said[:2] == ["", ""]
    assert "too deep" in said[2]


@pytest.mark.parametrize("reason", sorted(STOPPED))
def test_what_is_stopped_already_is_not_stopped_again(reason: Reason) -> None:
    watch = Watch(PACE)
    assert not any(watch.denied(call(number), replace(NO, reason=reason)) for number in range(100))


def test_every_minute_begins_anew() -> None:
    watch = Watch(PACE)
    for minute in range(4):
        at = NOW + minute * MINUTE_MS
        assert not any(watch.permitted(call(at=at)) for _ in range(3))
        assert not any(watch.denied(call(1, at), NO) for _ in range(4))


def test_once_it_is_to_be_suspended_nothing_more_is_decided_until_a_person_has_looked() -> None:
    watch = Watch(PACE)
    while not watch.permitted(call()):
        pass
    refused = watch.recall(call(7))
    assert refused is not None
    assert refused.reason is Reason.SUSPENDED
    watch.renew()
    assert watch.recall(call(7)) is None
    assert watch.permitted(call()) == "", "it is counted anew"


def test_an_order_about_another_task_gives_nobody_a_new_start() -> None:
    """Else an agent would give up one task after the other to keep the one that floods."""
    watch = Watch(PACE)
    said = []
    for number in range(6):
        said.append(watch.permitted(call(number)))
        watch.renew()
    assert said[:5] == [""] * 5
    assert "burst" in said[5]


def test_what_is_told_apart_is_bounded() -> None:
    watch = Watch(Pace(10**9, 10**9, 10**9, 10**9))
    for number in range(MAX_PERMITTED + 10):
        watch.permitted(call(number))
    assert len(watch._permitted) == MAX_PERMITTED


def test_one_task_is_watched_as_one_and_so_many_are_watched() -> None:
    runaways = Runaways(PACE)
    first = runaways.of("t0")
    assert runaways.of("t0") is first
    first.denied(call(), NO)
    runaways.renew()
    assert first.recall(call()) is None
    for number in range(MAX_TASKS):
        runaways.of(f"t{number + 1}")
    assert runaways.of("t0") is not first
