"""The guard: every shape of Python function, decided before it runs."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import os
import pickle
import threading
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, get_type_hints

import pytest

from forestall.core.ask import CannotDo, Evaluate, Record
from forestall.core.effects import UNKNOWN, Confidence, Effect
from forestall.core.entry import Kind
from forestall.core.errors import InvalidInput, OutcomeUnknown, Refused, SetupError, Unavailable
from forestall.core.flow import PERMIT_LIFETIME_MS
from forestall.core.label import CLEAN, WORST
from forestall.core.model import Approval, Decision, Deny, Hold, Ruling
from forestall.core.reason import Reason
from forestall.pep.codec import Codec
from forestall.pep.guard import MAX_ARGUMENTS
from forestall.testing.world import PERMITTED
from tests.guards import EVERYTHING, Program

FORBIDDEN = Ruling(Decision.DENY, "b", "s", Reason.FORBIDDEN, ("no",))
HELD = Ruling(Decision.HOLD, "b", "s", Reason.NEEDS_APPROVAL, ("ask",), (Approval(("owner",)),))


@pytest.fixture
def program() -> Program:
    return Program()


def wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(coroutine, 60)

    return asyncio.run(bounded())


# -- what a function may be


def test_a_function_runs_under_a_recorded_permit(program: Program) -> None:
    @program.guard.tool(effects={"destructive"}, control={"path"})
    def delete(path: str) -> str:
        assert program.kinds() == ["permitted"]
        return f"deleted {path}"

    with program.guard.task("tidy up"):
        assert delete("a") == "deleted a"
    assert program.kinds() == ["permitted", "settled"]
    assert program.fates() == ["done"]


def test_positional_and_keyword_arguments_are_one_call(program: Program) -> None:
    @program.guard.tool()
    def move(source: str, target: str, *, force: bool = False) -> None: ...

    with program.guard.task("tidy up"):
        move("a", "b")
        move("a", target="b")
        move(target="b", source="a", force=False)
    digests = [entry.sealed and entry.sealed.split(b',"salt"')[0] for entry in program.entries(Kind.PERMITTED)]
    assert digests == [b'{"arguments":{"force":false,"source":"a","target":"b"}'] * 3


def test_a_refused_function_does_not_run(program: Program) -> None:
    program.world.ruling = FORBIDDEN
    ran = []

    @program.guard.tool()
    def delete(path: str) -> None:
        ran.append(path)

    with program.guard.task("tidy up"), pytest.raises(Refused) as caught:
        delete("hunter2")
    assert ran == []
    assert program.reasons() == ["forbidden"]
    refusal = caught.value
    assert isinstance(refusal.decision, Deny)
    assert (refusal.reason, refusal.exit_code) == (Reason.FORBIDDEN, 77)
    assert refusal.decision.id == program.entries(Kind.DENIED)[0].id
    assert str(refusal) == (
        "python/delete was refused (forbidden). Not permitted with these arguments. Repeating the call will not help."
    )
    assert "hunter2" not in repr(refusal)


def test_a_refusal_survives_the_way_between_processes(program: Program) -> None:
    refusal = Refused(Deny("1", Reason.FORBIDDEN), "no")
    again = pickle.loads(pickle.dumps(refusal))
    assert (again.decision, str(again)) == (refusal.decision, "no")


def test_a_task_that_policy_refuses_is_not_entered(program: Program) -> None:
    program.opening = replace(FORBIDDEN, detail="for the operator")
    with pytest.raises(Refused, match="not opened") as caught, program.guard.task("tidy up"):
        raise AssertionError("entered")
    assert caught.value.reason is Reason.FORBIDDEN
    assert "for the operator" not in str(caught.value)
    assert program.reasons() == ["forbidden"]
    program.opening = PERMITTED
    with program.guard.task("tidy up"):
        pass


def test_an_async_task_that_policy_refuses_is_not_entered(program: Program) -> None:
    program.opening = FORBIDDEN

    async def main() -> None:
        async with program.guard.task("tidy up"):
            raise AssertionError("entered")

    with pytest.raises(Refused) as caught:
        asyncio.run(main())
    assert caught.value.reason is Reason.FORBIDDEN


@pytest.mark.parametrize("purpose", ["", " "])
def test_a_task_without_a_purpose_is_not_entered(program: Program, purpose: str) -> None:
    with pytest.raises(Refused, match="`purpose` is missing"), program.guard.task(purpose):
        raise AssertionError("entered")


def test_a_held_function_does_not_run(program: Program) -> None:
    program.world.ruling = HELD
    ran = []

    @program.guard.tool()
    def delete(path: str) -> None:
        ran.append(path)

    with program.guard.task("tidy up"), pytest.raises(Refused, match="needs_approval") as caught:
        delete("a")
    assert ran == []
    assert isinstance(caught.value.decision, Hold)
    assert program.kinds() == ["held"]


def test_an_async_function(program: Program) -> None:
    @program.guard.tool()
    async def fetch(url: str) -> str:
        await asyncio.sleep(0)
        return url

    async def main() -> str:
        async with program.guard.task("look"):
            return await fetch("x")

    assert asyncio.iscoroutinefunction(fetch)
    assert wait(main()) == "x"
    assert program.kinds() == ["permitted", "settled"]


class Store:
    """Made by `store_of`, so that each test has tools of its own."""

    def __init__(self, root: str) -> None:
        self.root = root


def store_of(program: Program) -> type[Store]:
    class Files(Store):
        @program.guard.tool()
        def read(self, path: str) -> str:
            return f"{self.root}/{path}"

        @program.guard.tool()
        @classmethod
        def named(cls, path: str) -> str:
            return f"{cls.__name__}/{path}"

        @program.guard.tool()
        @staticmethod
        def plain(path: str) -> str:
            return path

        @staticmethod
        @program.guard.tool()
        def inner(path: str) -> str:
            return path

        @classmethod
        @program.guard.tool()
        def outer(cls, path: str) -> str:
            return f"{cls.__name__}/{path}"

    return Files


def test_methods_of_every_kind(program: Program) -> None:
    files: Any = store_of(program)
    with program.guard.task("look"):
        assert files("home").read("a") == "home/a"
        assert files.read(files("home"), path="a") == "home/a"
        assert files.named("a") == files("x").named("a") == files.outer("a") == "Files/a"
        assert files.plain("a") == files("x").plain("a") == files.inner("a") == "a"
    assert set(program.tools) == {f"python/Files.{name}" for name in ("read", "named", "plain", "inner", "outer")}
    assert all(b'{"arguments":{"path":"a"}' in (entry.sealed or b"") for entry in program.entries(Kind.PERMITTED))


def test_a_method_without_its_object_is_refused(program: Program) -> None:
    files: Any = store_of(program)
    with program.guard.task("look"), pytest.raises(Refused, match="call it on an object"):
        files.read(path="a")


def test_a_bound_method_a_partial_and_a_builtin(program: Program, tmp_path: Any) -> None:
    def greet(greeting: str, name: str) -> str:
        return f"{greeting} {name}"

    upper = program.guard.tool(name="upper")(Store("x").root.__add__)
    hello = program.guard.tool(name="hello")(functools.partial(greet, "hello"))
    remove = program.guard.tool(name="remove")(os.remove)
    (tmp_path / "a").touch()
    with program.guard.task("look"):
        assert upper("y") == "xy"
        assert hello("you") == "hello you"
        remove(str(tmp_path / "a"))
    assert not (tmp_path / "a").exists()


def test_a_guarded_function_looks_like_itself_and_does_not_show_what_it_guards(program: Program) -> None:
    def read(path: str, count: int = 1) -> str:
        """Read it."""
        return path * count

    guarded = program.guard.tool()(read)
    assert (guarded.__name__, guarded.__doc__, guarded.__module__) == ("read", "Read it.", __name__)
    assert inspect.signature(guarded) == inspect.signature(read)
    assert get_type_hints(guarded) == {"path": str, "count": int}
    assert inspect.unwrap(guarded) is guarded


def test_a_tool_may_call_a_tool(program: Program) -> None:
    @program.guard.tool()
    def inner(path: str) -> str:
        return path

    @program.guard.tool()
    def outer(path: str) -> str:
        return inner(path) * 2

    with program.guard.task("look"):
        assert outer("a") == "aa"
    assert program.kinds() == ["permitted", "permitted", "settled", "settled"]


# -- exceptions


class Broken(Exception):
    pass


def test_what_the_function_raises_is_raised_as_it_is(program: Program) -> None:
    error = Broken("as it is")

    @program.guard.tool()
    def fail() -> None:
        raise error

    with program.guard.task("look"), pytest.raises(Broken) as caught:
        fail()
    assert caught.value is error
    assert program.fates() == ["failed"]


def test_what_an_async_function_raises_is_raised_as_it_is(program: Program) -> None:
    error = TimeoutError("of its own")

    @program.guard.tool()
    async def fail() -> None:
        raise error

    async def main() -> None:
        async with program.guard.task("look"):
            await fail()

    with pytest.raises(TimeoutError) as caught:
        wait(main())
    assert caught.value is error
    assert program.fates() == ["failed"]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_interrupt_goes_on_and_what_it_stopped_is_ambiguous(program: Program, interrupt: Any) -> None:
    @program.guard.tool()
    def work() -> None:
        raise interrupt

    with program.guard.task("look"), pytest.raises(interrupt):
        work()
    assert program.fates() == ["ambiguous"]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_before_the_call_leaves_nothing_done(program: Program, interrupt: Any) -> None:
    ran = []

    @program.guard.tool()
    def work() -> None:
        ran.append(1)

    def stop(ask: Any) -> None:
        if isinstance(ask, Record) and ask.entry.kind is Kind.PERMITTED:
            program.before = lambda _ask: None
            program.answer(ask)  # it is written, and then the interrupt comes
            raise interrupt

    with program.guard.task("look"):
        program.before = stop
        with pytest.raises(interrupt):
            work()
    assert ran == []


def test_an_outcome_that_cannot_be_recorded_withholds_the_output(program: Program) -> None:
    @program.guard.tool()
    def read() -> str:
        return "secret"

    @program.guard.tool()
    def fail() -> str:
        raise Broken("secret")

    def refuse_settled(ask: Any) -> None:
        if isinstance(ask, Record) and ask.entry.kind is Kind.SETTLED:
            raise CannotDo

    with program.guard.task("look"):
        program.before = refuse_settled
        for tool in (read, fail):
            with pytest.raises(OutcomeUnknown, match="look before doing it again") as caught:
                tool()
            assert "secret" not in str(caught.value)
            assert caught.value.__suppress_context__
        program.before = lambda _ask: None


# -- cancellation


def test_a_call_cancelled_before_it_started_does_nothing(program: Program) -> None:
    ran = []

    @program.guard.tool()
    async def work() -> None:
        ran.append(1)

    async def main() -> None:
        deciding = asyncio.Event()

        async def slow(ask: Evaluate) -> Any:
            deciding.set()
            await asyncio.Event().wait()

        async with program.guard.task("look"):
            program.point.handlers_async[Evaluate] = slow  # type: ignore[index]
            call = asyncio.create_task(work())
            await deciding.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    wait(main())
    assert ran == []
    assert program.reasons() == ["cancelled"]
    assert program.fates() == []


def test_a_call_cancelled_while_its_permit_is_written_is_settled_as_not_started(program: Program) -> None:
    ran = []

    @program.guard.tool()
    async def work() -> None:
        ran.append(1)

    async def main() -> None:
        writing, go_on = asyncio.Event(), asyncio.Event()

        async def slow(ask: Record) -> Any:
            if ask.entry.kind is Kind.PERMITTED:
                writing.set()
                await go_on.wait()
            return program.answer(ask)

        program.point.handlers_async[Record] = slow  # type: ignore[index]
        async with program.guard.task("look"):
            call = asyncio.create_task(work())
            await writing.wait()
            call.cancel()
            await asyncio.sleep(0)
            go_on.set()
            with pytest.raises(asyncio.CancelledError):
                await call

    wait(main())
    assert ran == []
    assert program.fates() == ["not_started"]


def test_a_call_cancelled_while_it_runs_is_ambiguous(program: Program) -> None:
    async def main() -> None:
        running = asyncio.Event()

        @program.guard.tool()
        async def work() -> None:
            running.set()
            await asyncio.Event().wait()

        async with program.guard.task("look"):
            call = asyncio.create_task(work())
            await running.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    wait(main())
    assert program.fates() == ["ambiguous"]


# -- arguments


def test_a_call_that_does_not_fit_is_refused_and_recorded(program: Program) -> None:
    ran = []

    @program.guard.tool()
    def delete(path: str, count: int = 1) -> None:
        ran.append(path)

    bad: list[tuple[tuple[Any, ...], dict[str, Any], str]] = [
        ((), {}, "missing a required argument: 'path'"),
        (("a",), {"extra": 1}, "unexpected keyword argument 'extra'"),
        ((5,), {}, "Argument 'path': it must be a string, not int."),
        (("a", float("nan")), {}, "Argument 'count': it must be an integer, not float."),
        (("\ud800",), {}, "half of a surrogate pair"),
        (("a", 2**53), {}, "beyond 2"),
        (("a" * MAX_ARGUMENTS,), {}, "the limit is"),
    ]
    with program.guard.task("look"):
        for args, kwargs, says in bad:
            with pytest.raises(Refused, match=says) as caught:
                delete(*args, **kwargs)
            assert caught.value.reason is Reason.INVALID_ARGUMENTS
    assert ran == []
    assert program.reasons() == ["invalid_arguments"] * len(bad)


def test_the_function_gets_what_was_decided_whatever_is_changed_meanwhile(program: Program) -> None:
    message = {"to": ["friend"]}
    got = []

    @program.guard.tool()
    def send(message: dict[str, Any]) -> None:
        message["to"].append("whoever")
        got.append(message)

    def swap(ask: Any) -> None:
        if isinstance(ask, Evaluate):
            message["to"][:] = ["thief"]

    with program.guard.task("look"):
        program.before = swap
        send(message)
    assert got == [{"to": ["friend", "whoever"]}]
    assert message == {"to": ["thief"]}


def test_arguments_that_are_changed_on_the_inside_void_the_permit(program: Program) -> None:
    ran = []

    @program.guard.tool()
    def send(to: list[str]) -> None:
        ran.append(to)

    def swap(ask: Any) -> None:
        if isinstance(ask, Evaluate):
            ask.question.arguments["to"].append("thief")

    with program.guard.task("look"):
        program.before = swap
        with pytest.raises(Refused, match="invalid_arguments"):
            send(["friend"])
    assert ran == []
    assert program.fates() == ["not_started"]


def test_a_permit_that_expired_before_the_call_is_not_used(program: Program) -> None:
    @program.guard.tool()
    def work() -> None:
        raise AssertionError

    def late(ask: Any) -> None:
        if isinstance(ask, Record):
            program.now += PERMIT_LIFETIME_MS

    with program.guard.task("look"):
        program.before = late
        with pytest.raises(Refused, match="deadline"):
            work()
        program.before = lambda _ask: None
    assert program.fates() == ["not_started"]


def test_a_type_of_ones_own_is_carried_by_its_codec(program: Program) -> None:
    class Report:
        def __init__(self, title: str) -> None:
            self.title = title

    codec = Codec({"type": "string"}, lambda report: report.title, Report)

    @program.guard.tool(codecs={Report: codec})
    def publish(report: Report) -> Report:
        return report

    given = Report("Q4")
    with program.guard.task("look"):
        published = publish(given)
    assert published is not given
    assert published.title == "Q4"


def test_a_codec_that_fails_on_the_way_back_starts_nothing(program: Program) -> None:
    def fails(_value: Any) -> Any:
        raise ValueError("hunter2")

    @program.guard.tool(codecs={complex: Codec({"type": "string"}, str, fails)})
    def work(number: complex) -> None:
        raise AssertionError

    with program.guard.task("look"), pytest.raises(Refused) as caught:
        work(1j)
    assert "hunter2" not in f"{caught.value} {caught.value.decision}"
    assert program.fates() == ["not_started"]


# -- tasks


def test_a_call_outside_a_task_is_refused_and_recorded(program: Program) -> None:
    @program.guard.tool()
    def delete(path: str) -> None:
        raise AssertionError

    with pytest.raises(Refused, match=r"call it inside `with guard.task\(...\)`") as caught:
        delete("a")
    assert caught.value.reason is Reason.NO_GRANT
    assert program.reasons() == ["no_grant"]


def test_a_call_after_the_task_is_refused(program: Program) -> None:
    @program.guard.tool()
    def delete(path: str) -> None:
        raise AssertionError

    with program.guard.task("tidy up"):
        context = contextvars.copy_context()
    with pytest.raises(Refused, match="has ended") as caught:
        context.run(delete, "a")
    assert caught.value.reason is Reason.TASK_ENDED


def test_a_task_says_what_it_is_for_and_how_it_ended(program: Program) -> None:
    with program.guard.task("tidy up") as task:
        assert task.purpose == "tidy up"
    with pytest.raises(Broken), program.guard.task("fail"):
        raise Broken
    opened = program.entries(Kind.OPENED)
    assert [entry.body["purpose"] for entry in opened] == ["tidy up", "fail"]
    assert opened[0].id == task.id
    assert [entry.body["why"] for entry in program.entries(Kind.CLOSED)] == ["completed", "failed"]


def test_a_task_within_a_task_is_refused(program: Program) -> None:
    with program.guard.task("one"), pytest.raises(InvalidInput, match="'one'"), program.guard.task("two"):
        raise AssertionError
    with program.guard.task("three"):
        pass
    assert len(program.entries(Kind.OPENED)) == 2


def test_a_task_is_entered_once(program: Program) -> None:
    task = program.guard.task("one")
    with task:
        pass
    with pytest.raises(InvalidInput, match="entered once"), task:
        raise AssertionError


def test_a_task_needs_a_mandate(program: Program) -> None:
    with pytest.raises(SetupError, match=r"policy/mandates/other\.toml"):
        program.guard.task("x", mandate="other")


def test_the_mandate_bounds_the_task() -> None:
    reads = replace(EVERYTHING, effects=frozenset({Effect.READ}), budget={Effect.READ: 1})
    program = Program(mandate=reads)

    @program.guard.tool(effects={"read"}, output=("trusted", "public"))
    def read() -> str:
        return "text"

    @program.guard.tool()
    def unknown() -> None:
        raise AssertionError

    with program.guard.task("look"):
        assert read() == "text"
        with pytest.raises(Refused, match="budget"):
            read()
        with pytest.raises(Refused, match="out_of_scope"):
            unknown()


@pytest.mark.parametrize("fails", [Kind.OPENED, Kind.CLOSED])
def test_a_task_that_cannot_be_recorded(program: Program, fails: Kind) -> None:
    @program.guard.tool()
    def work() -> str:
        return "done"

    def refuse(ask: Any) -> None:
        if isinstance(ask, Record) and ask.entry.kind is fails:
            raise CannotDo

    program.before = refuse
    reached: list[Any] = []

    def do() -> None:
        with program.guard.task("x"):
            reached.extend((work(), contextvars.copy_context()))

    with pytest.raises(Unavailable, match="could not be"):
        do()
    assert reached[:1] == ([] if fails is Kind.OPENED else ["done"])
    for context in reached[1:]:
        with pytest.raises(Refused, match="has ended"):
            context.run(work)


def test_asyncio_tasks_belong_to_the_task_they_were_started_in(program: Program) -> None:
    @program.guard.tool()
    async def work(name: str) -> str:
        await asyncio.sleep(0)
        return name

    async def serve(purpose: str) -> list[str]:
        async with program.guard.task(purpose):
            return list(await asyncio.gather(*(work(f"{purpose}{number}") for number in range(3))))

    async def main() -> None:
        assert await asyncio.gather(serve("a"), serve("b")) == [["a0", "a1", "a2"], ["b0", "b1", "b2"]]
        assert await asyncio.gather(work("x"), return_exceptions=True) != ["x"]

    wait(main())
    tasks = [entry.body["task"] for entry in program.entries(Kind.PERMITTED)]
    assert sorted(tasks.count(task) for task in set(tasks)) == [3, 3]


def test_a_thread_belongs_to_the_task_only_with_a_copy_of_its_context(program: Program) -> None:
    @program.guard.tool()
    def work() -> str:
        return "done"

    seen: list[Any] = []

    def attempt() -> None:
        try:
            seen.append(work())
        except Refused as refusal:
            seen.append(refusal.reason)

    with program.guard.task("look"):
        bare = threading.Thread(target=contextvars.Context().run, args=(attempt,))
        copied = threading.Thread(target=contextvars.copy_context().run, args=(attempt,))
        for thread in (bare, copied):
            thread.start()
            thread.join(60)
    assert seen == [Reason.NO_GRANT, "done"]


def test_many_threads_at_once(program: Program) -> None:
    @program.guard.tool()
    def work(number: int) -> int:
        return number

    results: list[int] = []
    with program.guard.task("look"):

        def many() -> None:
            results.extend(work(number) for number in range(50))

        threads = [threading.Thread(target=contextvars.copy_context().run, args=(many,)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(results) == sorted([*range(50)] * 8)
    assert program.fates() == ["done"] * 400


# -- declaring


def test_a_tool_of_which_nothing_is_said_is_taken_at_its_worst(program: Program) -> None:
    @program.guard.tool()
    def work(path: str) -> None: ...

    (tool,) = program.guard.tools
    assert (tool.effects, tool.confidence) == (UNKNOWN, Confidence.ASSUMED)
    assert (tool.control, tool.output, tool.durable) == ({"path"}, WORST, True)


def test_what_is_said_of_a_tool_is_declared(program: Program) -> None:
    @program.guard.tool(effects="read", content={"text"}, output=("trusted", "public"), opaque={"ratio"})
    def work(path: str, text: str, ratio: float) -> None: ...

    (tool,) = program.guard.tools
    assert (tool.effects, tool.confidence) == ({Effect.READ}, Confidence.DECLARED)
    assert (tool.control, tool.content, tool.opaque) == ({"path", "ratio"}, {"text"}, {"ratio"})
    assert (tool.output, tool.output_confidence, tool.durable) == (CLEAN, Confidence.DECLARED, False)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"effects": {"reed"}}, "'reed' is not an effect; it is one of read, write"),
        ({"control": {"pth"}}, "work has no argument 'pth'; it has path."),
        ({"content": {"pth"}}, "work has no argument 'pth'"),
        ({"control": {"path"}, "content": {"path"}}, "both `control` and `content`"),
        ({"output": ("true", "public")}, "'true' is not an integrity"),
        ({"output": ("trusted", "open")}, "'open' is not a confidentiality"),
        ({"output": "trusted"}, "`output` is a pair"),
    ],
    ids=str,
)
def test_a_word_that_is_not_known_is_refused_when_the_tool_is_made(
    program: Program, said: dict[str, Any], says: str
) -> None:
    def work(path: str) -> None: ...

    with pytest.raises(SetupError, match=says):
        program.guard.tool(**said)(work)
    assert program.guard.tools == ()


def test_one_name_is_one_tool(program: Program) -> None:
    def work(path: str) -> None: ...

    def other(path: str, force: bool) -> None: ...

    program.guard.tool()(work)
    program.guard.tool()(work)  # a module that is imported twice says the same twice
    for function, said in ((other, {}), (work, {"effects": {"read"}})):
        with pytest.raises(SetupError, match=r"There is a tool python/work already"):
            program.guard.tool(name="work", **said)(function)  # type: ignore[arg-type]
    assert len(program.guard.tools) == 1


def test_tools_are_declared_before_the_first_call_that_needs_them(program: Program) -> None:
    @program.guard.tool()
    def first() -> int:
        return 1

    @program.guard.tool()
    def second() -> int:
        return 2

    assert program.declared == []
    with program.guard.task("look"):
        first()
        assert program.declared == [["first", "second"]]
        third = program.guard.tool(name="third")(lambda: 3)
        assert third() == 3
    assert program.declared == [["first", "second"], ["first", "second", "third"]]


def test_a_policy_that_does_not_fit_the_tools_stops_everything(program: Program) -> None:
    def work() -> None:
        raise AssertionError

    def broken(_tools: Any) -> None:
        raise SetupError("policy/x.cedar:3: no such action")

    guard = type(program.guard)(replace(program.point, declare=broken))
    tool = guard.tool()(work)
    for _ in range(2):
        with pytest.raises(SetupError, match="no such action"):
            guard.task("x")
        with pytest.raises(SetupError, match="no such action"):
            tool()


@pytest.mark.parametrize("name", ["", "a/b", "mcp", "Forestall", "-x", "x" * 65])
def test_a_guard_needs_a_name_that_can_be_one(program: Program, name: str) -> None:
    with pytest.raises(SetupError, match="cannot be"):
        type(program.guard)(program.point, name=name)


# -- closing, and other processes


def test_closing_closes_the_decision_point(program: Program) -> None:
    with program.guard:
        pass
    assert program.closed == 1


def test_a_forked_child_writes_nothing(program: Program) -> None:
    """A process of another number stands for the child: what a guard goes by is the number alone."""

    def work() -> str:
        return "done"

    elsewhere = type(program.guard)(replace(program.point, pid=os.getpid() + 1))
    child = elsewhere.tool()(work)
    for attempt in (child, lambda: elsewhere.task("x").__enter__()):
        with pytest.raises(Unavailable, match="opened in another process"):
            attempt()
    elsewhere.close()
    assert (program.world.entries, program.closed) == ([], 0)
