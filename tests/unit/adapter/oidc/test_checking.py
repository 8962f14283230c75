"""A check waits for what it asks for, with and without a loop, and for no longer than it may."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from forestall.adapter.oidc.checking import Check, check_blocking, check_on_loop

WAIT_S = 60
IMPATIENT_S = 0.05


def blocking(check: Check[str], wait_s: float = WAIT_S) -> str:
    return check_blocking(check, wait_s=wait_s)


def on_loop(check: Check[str], wait_s: float = WAIT_S) -> str:
    return asyncio.run(check_on_loop(check, wait_s=wait_s))


@pytest.fixture(params=[blocking, on_loop])
def run(request: pytest.FixtureRequest) -> Callable[..., str]:
    chosen: Callable[..., str] = request.param
    return chosen


def done(value: str) -> Future[str]:
    future: Future[str] = Future()
    future.set_result(value)
    return future


def test_the_answer_is_the_checks(run: Callable[..., str]) -> None:
    def check() -> Check[str]:
        yield (one := done("a"))
        yield (other := done("b"))
        return one.result() + other.result()

    assert run(check()) == "ab"


def test_what_it_raises_is_raised(run: Callable[..., str]) -> None:
    def check() -> Check[str]:
        yield done("a")
        raise LookupError("b")

    with pytest.raises(LookupError, match="b"):
        run(check())


def test_what_does_not_come_is_seen_not_to_have_come(run: Callable[..., str]) -> None:
    never: Future[str] = Future()

    def check() -> Check[str]:
        yield never
        return "there" if never.done() else "not there"

    assert run(check(), IMPATIENT_S) == "not there"
    assert not never.cancelled()


def test_where_nothing_is_waited_for_the_loop_is_not_given_up() -> None:
    def check() -> Check[str]:
        if False:
            yield done("")
        return "a"

    with pytest.raises(StopIteration) as ended:
        check_on_loop(check(), wait_s=WAIT_S).send(None)
    assert ended.value.value == "a"


def test_who_is_cancelled_cancels_nothing_for_others() -> None:
    future: Future[Any] = Future()
    closed: list[bool] = []

    def check() -> Check[str]:
        try:
            yield future
        finally:
            closed.append(True)
        return "a"

    async def both() -> str:
        one, other = (asyncio.create_task(check_on_loop(check(), wait_s=WAIT_S)) for _ in range(2))
        await asyncio.sleep(0)
        one.cancel()
        await asyncio.wait([one])
        assert closed == [True]
        assert not future.cancelled()
        future.set_result(None)
        return await other

    assert asyncio.run(both()) == "a"


def test_what_failed_is_the_checks_to_see_and_no_fault_of_the_loops() -> None:
    """A future whose exception nobody looked at is reported to the operator when it goes."""
    failed: Future[str] = Future()
    failed.set_exception(LookupError("b"))

    def check() -> Check[str]:
        yield failed
        return "seen" if failed.exception() else "not seen"

    async def run() -> tuple[str, list[object]]:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        answer = await check_on_loop(check(), wait_s=WAIT_S)
        gc.collect()
        await asyncio.sleep(0)
        return answer, faults

    assert asyncio.run(run()) == ("seen", [])
