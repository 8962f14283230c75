"""Threads for calls that block."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from forestall.adapter.credential.work import MAX_WAITING, Workers
from forestall.core.ask import CannotDo
from forestall.core.reason import Reason

WAIT_S = 30.0


def test_work_is_done_and_its_errors_come_back() -> None:
    workers = Workers("test", 2)
    assert workers.do(lambda: 7).result(WAIT_S) == 7
    with pytest.raises(ZeroDivisionError):
        workers.do(lambda: 1 // 0).result(WAIT_S)
    assert workers.do(lambda: threading.current_thread().daemon).result(WAIT_S)


def test_no_more_run_at_once_than_there_are_threads_and_all_are_done() -> None:
    workers, go, lock = Workers("test", 3), threading.Event(), threading.Lock()
    running = most = 0

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        assert go.wait(WAIT_S)
        with lock:
            running -= 1

    futures = [workers.do(work) for _ in range(20)]
    go.set()
    for future in futures:
        future.result(WAIT_S)
    assert most <= 3


def test_what_is_cancelled_while_it_waits_is_never_begun() -> None:
    workers, go, begun = Workers("test", 1), threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert go.wait(WAIT_S)

    done: list[int] = []
    running = workers.do(first)
    assert begun.wait(WAIT_S)
    waiting = workers.do(lambda: done.append(1))
    assert waiting.cancel()
    assert not running.cancel()
    go.set()
    running.result(WAIT_S)
    workers.do(lambda: done.append(2)).result(WAIT_S)
    assert done == [2]
    with pytest.raises(CancelledError):
        waiting.result(WAIT_S)


def test_more_than_can_wait_is_refused() -> None:
    workers, go, begun = Workers("test", 1), threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        assert go.wait(WAIT_S)

    workers.do(first)
    assert begun.wait(WAIT_S)
    last = [workers.do(lambda: None) for _ in range(MAX_WAITING)][-1]
    with pytest.raises(CannotDo, match="calls wait for test"):
        workers.do(lambda: None)
    go.set()
    last.result(WAIT_S)


def test_where_no_thread_can_be_started_it_is_said_and_the_next_one_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where a user has as many processes as it may have: whoever took them all keeps nothing alive for ever."""

    def none(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    workers = Workers("test", 1)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none)
        for _ in range(3):
            with pytest.raises(CannotDo) as caught:
                workers.do(lambda: 1)
            assert caught.value.reason is Reason.UNAVAILABLE
    assert workers.do(lambda: 2).result(WAIT_S) == 2
