"""Streams through the guard, as conversations: when they are decided, what is let out, and how they are settled."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest

from forestall.core.ask import CannotDo, Perform, Record
from forestall.core.entry import Kind
from forestall.core.errors import InvalidInput, OutcomeUnknown, Refused, Unavailable
from forestall.core.flow import govern
from forestall.core.model import Decision, Result, Ruling
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason
from forestall.pep.halves import Halves
from forestall.run import run
from forestall.testing.world import Fault, World, action
from tests.flow.scenarios import SCENARIOS
from tests.guards import EVERYTHING, Program

FORBIDDEN = Ruling(Decision.DENY, "b", "s", Reason.FORBIDDEN, ("no",))


class Broken(Exception):
    pass


class Reader:
    """A tool that reads three lines, and what can be seen of it."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.steps: list[Any] = []

        @program.guard.tool()
        def lines(count: int = 3) -> Iterator[int]:
            try:
                for number in range(count):
                    self.steps.append(number)
                    yield number
            finally:
                self.steps.append("closed")
            return "end"

        @program.guard.tool()
        async def lines_async(count: int = 3) -> AsyncIterator[int]:
            try:
                for number in range(count):
                    self.steps.append(number)
                    yield number
            finally:
                self.steps.append("closed")

        self.lines: Any = lines
        self.lines_async: Any = lines_async


@pytest.fixture
def program() -> Program:
    return Program()


@pytest.fixture
def reader(program: Program) -> Reader:
    return Reader(program)


def wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(coroutine, 60)

    return asyncio.run(bounded())


# -- the flow, cut in two


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("fault", [None, *Fault])
def test_a_flow_in_halves_asks_and_ends_as_the_whole_does(scenario: Any, fault: Fault | None) -> None:
    whole = scenario.world()
    run(govern(action()), whole.handlers())
    for step in range(len(whole.asked)):
        faults = {step: fault} if fault else {}
        one, other = scenario.world(faults), scenario.world(faults)
        expected = run(govern(action()), one.handlers())
        halves = Halves(govern(action()))
        outcome = run(halves.first(), other.handlers())
        if halves.waiting is not None:
            outcome = run(halves.second(_performed(other, halves.waiting)), other.handlers())
        assert outcome == expected
        assert other.asked == one.asked
        assert other.done == one.done


def _performed(world: World, ask: Perform) -> Result | CannotDo:
    try:
        result: Result = world.handle(ask)
    except CannotDo as error:
        return error
    return result


# -- decided at the first step


LIMITED = replace(
    EVERYTHING, budget={Quantity.ROWS: 9, Quantity.BYTES: 99}, per_call={Quantity.ROWS: 3, Quantity.BYTES: 9}
)


@pytest.mark.parametrize(("output", "released"), [([1, 2, 3], True), ([1, 2, 3, 4], False), ("12345678", False)])
def test_an_output_that_is_more_than_one_call_may_have_is_let_out_to_nobody(output: Any, *, released: bool) -> None:
    program = Program(mandate=LIMITED)

    @program.guard.tool(effects={"read"})
    def query() -> Any:
        return output

    with program.guard.task("read"):
        if released:
            assert query() == output
        else:
            with pytest.raises(Refused, match="was carried out; its output is withheld") as refused:
                query()
            assert refused.value.decision.reason is Reason.BUDGET
    assert program.fates() == ["done"]


def test_what_is_no_json_nobody_can_measure_and_so_it_is_withheld_and_counts_as_all_that_was_reserved() -> None:
    program = Program(mandate=LIMITED)

    @program.guard.tool(effects={"read"})
    def look() -> object:
        return program

    with program.guard.task("read"):
        for _turn in range(99 // 9):
            with pytest.raises(Refused, match="was carried out; its output is withheld"):
                look()
        with pytest.raises(Refused, match=r"was refused \(budget\)"):
            look()


class Dumb(Exception):
    def __str__(self) -> str:
        raise ValueError("not even that")


@pytest.mark.parametrize(
    ("error", "seen"), [(Broken("short"), Broken), (Broken("much too long"), Refused), (Dumb("x"), Refused)]
)
def test_what_an_exception_says_is_an_output_too(error: Exception, seen: type[Exception]) -> None:
    program = Program(mandate=LIMITED)

    @program.guard.tool(effects={"read"})
    def fail() -> None:
        raise error

    with program.guard.task("read"), pytest.raises(seen):
        fail()
    assert program.fates() == ["failed"]


def test_a_stream_lets_out_what_one_call_may_have_and_no_more() -> None:
    program = Program(mandate=LIMITED)
    ended: list[str] = []

    @program.guard.tool(effects={"read"})
    def numbers() -> Iterator[int]:
        try:
            yield from range(100)
        finally:
            ended.append("stream")

    @program.guard.tool(effects={"read"})
    async def numbers_async() -> AsyncIterator[int]:
        try:
            for number in range(100):
                yield number
        finally:
            ended.append("stream")

    seen: list[int] = []

    def collect() -> None:
        seen.extend(numbers())

    async def collect_async() -> None:
        async for number in numbers_async():
            seen.append(number)  # noqa: PERF401 - what came before it was stopped is what counts

    with program.guard.task("read"):
        with pytest.raises(Refused, match="was carried out; its output is withheld"):
            collect()
        assert (seen, ended) == ([0, 1, 2], ["stream"])
    with program.guard.task("read"):
        seen.clear()
        with pytest.raises(Refused, match="was carried out; its output is withheld"):
            wait(collect_async())
        assert (seen, ended) == ([0, 1, 2], ["stream", "stream"])
    assert program.fates() == ["done", "done"]


def test_a_stream_within_its_limits_counts_what_it_let_out() -> None:
    program = Program(mandate=LIMITED)

    @program.guard.tool(effects={"read"})
    def numbers() -> Iterator[int]:
        yield from range(2)

    with program.guard.task("read"):
        for _turn in range(4):
            assert list(numbers()) == [0, 1]
        with pytest.raises(Refused, match="budget"):
            list(numbers())


def test_nothing_is_decided_before_the_first_step(reader: Reader) -> None:
    with reader.program.guard.task("read"):
        stream = reader.lines()
        assert (reader.program.kinds(), reader.steps) == ([], [])
        assert next(stream) == 0
        assert (reader.program.kinds(), reader.steps) == (["permitted"], [0])
        assert list(stream) == [1, 2]
        assert reader.program.kinds() == ["permitted", "settled"]
        assert next(stream, "over") == "over"
    assert reader.program.fates() == ["done"]


def test_a_stream_returns_what_the_function_returns(reader: Reader) -> None:
    def whole() -> Iterator[Any]:
        yield (yield from reader.lines(1))

    with reader.program.guard.task("read"):
        assert list(whole()) == [0, "end"]


def test_a_refused_stream_gives_nothing(reader: Reader) -> None:
    reader.program.world.ruling = FORBIDDEN
    with reader.program.guard.task("read"):
        stream = reader.lines()
        with pytest.raises(Refused, match="forbidden"):
            next(stream)
        assert list(stream) == []
    assert (reader.steps, reader.program.kinds()) == ([], ["denied"])


def test_a_stream_is_bound_when_it_is_made(reader: Reader) -> None:
    with reader.program.guard.task("read"):
        stream = reader.lines()
        refused = reader.lines("three")
    for made, reason in ((stream, Reason.TASK_ENDED), (refused, Reason.INVALID_ARGUMENTS)):
        with pytest.raises(Refused) as caught:
            next(made)
        assert caught.value.reason in (reason, Reason.NO_GRANT)
    assert reader.steps == []


def test_a_stream_outside_a_task_is_refused(reader: Reader) -> None:
    with pytest.raises(Refused, match="no_grant"):
        next(reader.lines())


# -- settled at its end


def test_a_closed_stream_is_settled(reader: Reader) -> None:
    with reader.program.guard.task("read"):
        stream = reader.lines()
        next(stream)
        stream.close()
        assert reader.steps == [0, "closed"]
        assert reader.program.fates() == ["done"]
        stream.close()
        assert list(stream) == []
    assert reader.program.kinds() == ["permitted", "settled"]


def test_a_stream_that_never_began_is_nothing(reader: Reader) -> None:
    with reader.program.guard.task("read"):
        reader.lines().close()
        thrown = reader.lines()
        with pytest.raises(Broken):
            thrown.throw(Broken())
        assert list(thrown) == []
    assert (reader.program.kinds(), reader.steps) == ([], [])


def test_an_abandoned_stream_is_settled_as_ambiguous(reader: Reader) -> None:
    with reader.program.guard.task("read"):
        stream = reader.lines()
        next(stream)
        del stream
        gc.collect()
        assert reader.steps == [0, "closed"]
    assert reader.program.fates() == ["ambiguous"]
    kinds = [entry.kind for entry in reader.program.world.entries]
    assert kinds == [Kind.OPENED, Kind.PERMITTED, Kind.SETTLED, Kind.CLOSED]


def test_an_abandoned_stream_is_settled_by_the_next_call(reader: Reader) -> None:
    with reader.program.guard.task("read"):
        next(reader.lines())
        gc.collect()
        list(reader.lines(0))
        assert reader.program.kinds() == ["permitted", "settled", "permitted", "settled"]
    assert reader.program.fates() == ["ambiguous", "done"]


def test_a_stream_that_raises_is_settled_as_failed(program: Program) -> None:
    error = Broken("as it is")

    @program.guard.tool()
    def lines() -> Iterator[int]:
        yield 1
        raise error

    with program.guard.task("read"):
        stream = lines()
        assert next(stream) == 1
        with pytest.raises(Broken) as caught:
            next(stream)
        assert caught.value is error
        assert list(stream) == []
    assert program.fates() == ["failed"]


def test_an_interrupted_stream_is_ambiguous(program: Program) -> None:
    @program.guard.tool()
    def lines() -> Iterator[int]:
        yield 1
        raise KeyboardInterrupt

    with program.guard.task("read"), pytest.raises(KeyboardInterrupt):
        list(lines())
    assert program.fates() == ["ambiguous"]


def test_an_end_that_cannot_be_recorded_is_said(reader: Reader) -> None:
    def refuse(ask: Any) -> None:
        if isinstance(ask, Record) and ask.entry.kind is Kind.SETTLED:
            raise CannotDo

    with reader.program.guard.task("read"):
        reader.program.before = refuse
        with pytest.raises(OutcomeUnknown):
            list(reader.lines())
        reader.program.before = lambda _ask: None


def test_nothing_is_sent_into_a_stream(reader: Reader) -> None:
    with reader.program.guard.task("read"):
        stream = reader.lines()
        assert stream.send(None) == 0
        with pytest.raises(InvalidInput, match="was not decided"):
            stream.send("rm -rf")
        assert next(stream) == 1
        stream.close()


def test_an_exception_thrown_into_a_stream_reaches_the_function(program: Program) -> None:
    seen: list[str] = []

    @contextmanager
    @program.guard.tool()
    def transaction(name: str) -> Iterator[str]:
        try:
            yield name
        except Broken:
            seen.append("rolled back")
            raise
        seen.append("done")

    with program.guard.task("write"):
        with transaction("a") as name:
            assert name == "a"
        with suppress(Broken), transaction("b"):
            raise Broken
    assert seen == ["done", "rolled back"]
    assert program.fates() == ["done", "failed"]


def test_a_stream_is_not_stepped_from_within_itself(program: Program) -> None:
    made: list[Any] = []

    @program.guard.tool()
    def lines() -> Iterator[int]:
        yield next(made[0])

    with program.guard.task("read"):
        made.append(lines())
        with pytest.raises(ValueError, match="already executing"):
            next(made[0])
    assert program.fates() == ["failed"]


def test_a_generator_that_a_function_returns_is_settled_at_its_end(program: Program) -> None:
    @program.guard.tool()
    def lines() -> Any:
        return (number for number in range(2))

    with program.guard.task("read"):
        stream = lines()
        assert program.kinds() == ["permitted"]
        assert list(stream) == [0, 1]
    assert program.fates() == ["done"]


def test_a_coroutine_that_a_function_returns_is_settled_at_its_end(program: Program) -> None:
    async def inner(value: int) -> int:
        await asyncio.sleep(0)
        if value < 0:
            raise Broken
        return value

    @program.guard.tool()
    def work(value: int) -> Any:
        return inner(value)

    async def main() -> None:
        async with program.guard.task("read"):
            waiting = work(1)
            assert program.kinds() == ["permitted"]
            assert await waiting == 1
            with pytest.raises(Broken):
                await work(-1)

    wait(main())
    assert program.fates() == ["done", "failed"]


def test_the_digest_speaks_of_every_item(program: Program) -> None:
    @program.guard.tool()
    def lines(items: list[Any]) -> Iterator[Any]:
        yield from items

    @program.guard.tool()
    def objects() -> Iterator[Any]:
        yield object()

    with program.guard.task("read"):
        for items in ([1, 2], [1], ["a"]):
            list(lines(items))
        list(objects())
    *digests, of_objects = [entry.body["output"] for entry in program.entries(Kind.SETTLED)]
    assert len(set(digests)) == 3
    assert all(digest.startswith("sha256:") for digest in digests)
    assert of_objects == ""


# -- what is let out counts at once


def seen_by(program: Program) -> list[Any]:
    """The labels that each decision knew of."""
    return [(entry.body["tool"], entry.body["seen"]["integrity"]) for entry in program.entries(Kind.PERMITTED)]


def test_a_trusted_task_is_untrusted_once_a_stream_let_something_out(reader: Reader) -> None:
    program = reader.program

    @program.guard.tool(effects={"write"}, output=("trusted", "public"))
    def note(text: str) -> None: ...

    with program.guard.task("read"):
        stream = reader.lines()
        note("before")
        next(stream)
        note("between")
        with suppress(StopIteration):
            while True:
                next(stream)
        note("after")
    assert [integrity for tool, integrity in seen_by(program) if tool == "python/note"] == [
        "trusted",
        "untrusted",
        "untrusted",
    ]


# -- async


def test_an_async_stream(reader: Reader) -> None:
    async def main() -> None:
        async with reader.program.guard.task("read"):
            stream = reader.lines_async()
            assert (reader.program.kinds(), reader.steps) == ([], [])
            assert [item async for item in stream] == [0, 1, 2]
            assert [item async for item in stream] == []

    wait(main())
    assert reader.program.fates() == ["done"]


def test_an_async_stream_closed_early(reader: Reader) -> None:
    async def main() -> None:
        async with reader.program.guard.task("read"):
            stream = reader.lines_async()
            assert await anext(stream) == 0
            await stream.aclose()
            await stream.aclose()
            assert reader.steps == [0, "closed"]
            await reader.lines_async().aclose()

    wait(main())
    assert reader.program.fates() == ["done"]


def test_an_abandoned_async_stream_is_ambiguous(reader: Reader) -> None:
    async def main() -> None:
        async with reader.program.guard.task("read"):
            async for _item in reader.lines_async():
                break
            gc.collect()

    wait(main())
    assert reader.program.fates() == ["ambiguous"]


def test_an_async_stream_that_raises_or_is_thrown_at(program: Program) -> None:
    @program.guard.tool()
    async def lines(fails: bool) -> AsyncIterator[int]:
        yield 1
        if fails:
            raise Broken
        yield 2

    async def main() -> None:
        async with program.guard.task("read"):
            failing = lines(True)
            assert await anext(failing) == 1
            with pytest.raises(Broken):
                await anext(failing)
            thrown = lines(False)
            assert await thrown.asend(None) == 1
            with pytest.raises(InvalidInput, match="was not decided"):
                await thrown.asend("rm -rf")
            with pytest.raises(Broken):
                await thrown.athrow(Broken())
            with pytest.raises(Broken):
                await lines(False).athrow(Broken())

    wait(main())
    assert program.fates() == ["failed", "failed"]


def test_an_async_stream_cancelled_in_the_middle_is_ambiguous(program: Program) -> None:
    async def main() -> None:
        reached = asyncio.Event()

        @program.guard.tool()
        async def lines() -> AsyncIterator[int]:
            yield 1
            reached.set()
            await asyncio.Event().wait()

        async def read() -> None:
            async for _item in lines():
                pass

        async with program.guard.task("read"):
            reading = asyncio.create_task(read())
            await reached.wait()
            reading.cancel()
            with pytest.raises(asyncio.CancelledError):
                await reading

    wait(main())
    assert program.fates() == ["ambiguous"]


def test_an_async_stream_is_refused_as_a_function_is(reader: Reader) -> None:
    reader.program.world.ruling = FORBIDDEN

    async def main() -> None:
        async with reader.program.guard.task("read"):
            with pytest.raises(Refused, match="forbidden"):
                await anext(reader.lines_async())

    wait(main())
    assert reader.steps == []


# -- every step fails, for every shape


def _plain(program: Program, ran: list[Any]) -> Callable[[], Any]:
    @program.guard.tool()
    def tool() -> int:
        ran.append(program.kinds())
        return 1

    return tool


def _streamed(program: Program, ran: list[Any]) -> Callable[[], Any]:
    @program.guard.tool()
    def tool() -> Iterator[int]:
        ran.append(program.kinds())
        yield 1

    return lambda: list(tool())


def _awaited(program: Program, ran: list[Any]) -> Callable[[], Any]:
    @program.guard.tool()
    async def tool() -> int:
        ran.append(program.kinds())
        return 1

    async def main() -> Any:
        return await tool()

    return lambda: wait(main())


def _streamed_async(program: Program, ran: list[Any]) -> Callable[[], Any]:
    @program.guard.tool()
    async def tool() -> AsyncIterator[int]:
        ran.append(program.kinds())
        yield 1

    async def main() -> Any:
        return [item async for item in tool()]

    return lambda: wait(main())


@pytest.mark.parametrize("shape", [_plain, _streamed, _awaited, _streamed_async])
@pytest.mark.parametrize("failing", range(8))
@pytest.mark.parametrize(
    "error", [CannotDo(), RuntimeError("hunter2"), Unavailable("disk full"), BaseException("panic")]
)
def test_whatever_fails_nothing_runs_without_a_recorded_permit(shape: Any, failing: int, error: BaseException) -> None:
    program, ran = Program(), []
    call = shape(program, ran)
    asked: list[Any] = []

    def fail(ask: Any) -> None:
        asked.append(ask)
        if len(asked) == failing + 1:
            raise error

    with program.guard.task("work"):
        program.before = fail
        result = None
        with suppress(Refused, OutcomeUnknown):
            result = call()
        program.before = lambda _ask: None
    assert all("permitted" in kinds for kinds in ran)
    assert len(ran) <= 1
    assert (result is not None) == (program.fates() == ["done"])
    if failing < 7:  # the steps of a decision, up to the permit's record
        assert ran == []


# -- forked


def test_a_stream_that_was_begun_before_a_fork_does_not_go_on_in_the_child(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reader.program.guard.task("read"):
        stream = reader.lines()
        next(stream)
        before = list(reader.program.world.entries)
        with monkeypatch.context() as child:
            child.setattr(os, "getpid", lambda: -1)
            for attempt in (lambda: next(stream), stream.close):
                with pytest.raises(Unavailable, match="another process"):
                    attempt()
            assert reader.program.world.entries == before
