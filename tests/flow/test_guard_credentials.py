"""A function with a credential, as conversations: who sees it, how long it lives, and what of it comes back."""

from __future__ import annotations

import asyncio
import gc
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from forestall import Credential
from forestall.core.ask import CannotDo, Issue, Plan, Record
from forestall.core.entry import Kind
from forestall.core.errors import ForestallError, InvalidInput, OutcomeUnknown, Refused, SetupError
from forestall.core.model import Deny, Scope, Secret
from forestall.core.place import Place, Where
from forestall.core.quantity import Quantity
from forestall.core.reason import Reason
from forestall.testing.world import LEASE, PERMITTED
from tests.guards import EVERYTHING, Program

PASSWORD = "correct-horse-battery"
PLACE = Place(Where.ARGUMENT, "connection", "postgresql://{user}:{password}@db/shop")
LENT = ["permitted", "leased", "revoked", "settled"]


@dataclass
class Lender(Program):
    """A program whose policy names a class of credentials."""

    scope: Scope = Scope.ACTION
    fields: dict[str, str] = field(default_factory=lambda: {"user": "agent", "password": PASSWORD})
    fail_at: int = -1
    """The ask that goes wrong, from 0."""
    is_done: bool = False
    """It takes effect all the same, and its answer is lost."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.world.ruling = replace(PERMITTED, credential="database")
        self.asks = 0

    def answer(self, ask: Any) -> Any:
        number, self.asks = self.asks, self.asks + 1
        if number == self.fail_at and not self.is_done:
            raise CannotDo
        answer = super().answer(ask)
        if number == self.fail_at:
            raise CannotDo
        return answer

    def _answer(self, ask: Any) -> Any:
        answer = super()._answer(ask)
        match ask:
            case Plan():
                name = f"forestall-0badcafe-{ask.permit.id}"
                return replace(
                    LEASE, name=name, task=ask.permit.task, permit=ask.permit.id, place=PLACE, scope=self.scope
                )
            case Issue():
                return Secret(self.fields)
        return answer

    @property
    def unended(self) -> set[str]:
        """What the sweep would end."""
        leased = {entry.id for entry in self.entries(Kind.LEASED)}
        return leased - {entry.id for entry in self.entries(Kind.REVOKED)}


@pytest.fixture
def program() -> Lender:
    return Lender()


def wait(coroutine: Coroutine[Any, Any, Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(coroutine, 60)

    return asyncio.run(bounded())


# -- who sees it


def test_a_function_is_lent_what_the_model_never_sees(program: Lender) -> None:
    @program.guard.tool(effects={"read"}, control={"customer"}, credential="connection")
    def orders(connection: Credential, customer: str, *more: str) -> str:
        """The orders of a customer."""
        assert program.kinds()[-2:] == ["permitted", "leased"]
        assert connection.value == f"postgresql://agent:{PASSWORD}@db/shop"
        assert connection["user"] == "agent"
        return f"orders of {customer} {more}"

    with program.guard.task("read"):
        assert orders("acme") == orders(customer="acme") == "orders of acme ()"
        assert orders("acme", "b") == "orders of acme ('b',)"
    assert program.kinds() == LENT * 3
    (tool,) = program.guard.tools
    assert set(tool.input_schema["properties"]) == {"customer", "more"}
    assert (tool.control, tool.hidden) == ({"customer", "more"}, {"connection"})
    assert list(inspect.signature(orders).parameters) == ["customer", "more"]
    assert set(orders.__annotations__) == {"customer", "more"}
    sealed = b"".join(entry.sealed or b"" for entry in program.entries(Kind.PERMITTED))
    assert b"connection" not in sealed
    assert not any(PASSWORD in repr(entry) for entry in program.world.entries)


def test_the_tool_is_the_same_with_a_credential_and_without(program: Lender) -> None:
    def with_one(connection: Credential, customer: str) -> None: ...

    def without(customer: str) -> None: ...

    program.guard.tool(name="one", credential="connection")(with_one)
    Lender().guard.tool(name="one")(without)
    (one,) = program.guard.tools
    other = Lender()
    other.guard.tool(name="one")(without)
    assert one.pin == other.guard.tools[0].pin


@pytest.mark.parametrize("name", ["connection", "Connection", "CONNECTION"])
def test_who_gives_it_is_refused(program: Lender, name: str) -> None:
    ran = []

    @program.guard.tool(credential="connection")
    def orders(connection: Any = None, **more: str) -> None:
        ran.append(connection)

    with program.guard.task("read"), pytest.raises(Refused) as caught:
        orders(**{name: "postgresql://attacker"})
    assert (caught.value.reason, ran, program.kinds()) == (Reason.INVALID_ARGUMENTS, [], ["denied"])
    assert "'connection' of" in str(caught.value)
    assert "filled in by a credential alone" in str(caught.value)


def test_who_gives_it_by_its_position_gives_one_argument_too_many(program: Lender) -> None:
    @program.guard.tool(credential="connection")
    def orders(connection: Any, customer: str) -> None: ...

    with program.guard.task("read"), pytest.raises(Refused, match="too many positional arguments"):
        orders("postgresql://attacker", "acme")


class Shop:
    """Every kind of parameter and method."""

    def __init__(self, program: Lender) -> None:
        guard, self.seen = program.guard, []
        seen: list[Any] = self.seen

        class Files:
            @guard.tool(credential="key")
            def read(self, path: str, key: Credential, mode: str = "r") -> None:
                seen.append((path, key["user"], mode))

            @classmethod
            @guard.tool(credential="key")
            def count(cls, key: Credential, path: str) -> None:
                seen.append((cls.__name__, path, key["user"]))

            @guard.tool(credential="key")
            @staticmethod
            def size(path: str, *, key: Credential) -> None:
                seen.append((path, key["user"]))

        @guard.tool(credential="key")
        def first(key: Credential, /, path: str) -> None:
            seen.append((key["user"], path))

        self.files, self.first = Files, first


def test_any_parameter_of_any_function_may_be_one(program: Lender) -> None:
    shop: Any = Shop(program)
    with program.guard.task("read"):
        shop.files().read("a", "w")
        shop.files.count("b")
        shop.files.size("c")
        shop.first("d")
        shop.first(path="e")
    assert shop.seen == [("a", "agent", "w"), ("Files", "b", "agent"), ("c", "agent"), ("agent", "d"), ("agent", "e")]


@pytest.mark.parametrize(
    ("function", "credential", "says"),
    [
        (lambda customer: None, "connection", "has no parameter 'connection' for its credential; it has customer"),
        (lambda: None, "", "has no parameter '' for its credential; it has none"),
        (lambda *connection: None, "connection", "takes any number of arguments; a credential is one"),
        (lambda **connection: None, "connection", "takes any number of arguments; a credential is one"),
        (lambda key, Key: None, "key", "'key' but for its case"),  # noqa: N803 - that is what is tested
    ],
)
def test_a_parameter_that_cannot_be_one_is_said_when_the_tool_is_made(
    program: Lender, function: Callable[..., Any], credential: str, says: str
) -> None:
    with pytest.raises(SetupError, match=says.replace("*", r"\*")):
        program.guard.tool(name="tool", credential=credential)(function)


def test_what_is_said_of_arguments_is_not_said_of_a_credential(program: Lender) -> None:
    with pytest.raises(SetupError, match="has no argument 'key'"):

        @program.guard.tool(control={"key"}, credential="key")
        def read(path: str, key: Credential) -> None: ...


def test_the_annotation_of_a_credential_need_not_be_known(program: Lender) -> None:
    @program.guard.tool(credential="key")
    def read(path: str, key: NotImportedHere) -> None:  # type: ignore[name-defined]  # noqa: F821
        assert key["user"] == "agent"

    with program.guard.task("read"):
        read("a")


# -- where policy names none


def test_where_policy_names_no_class_the_call_is_refused_before_anything_is_done(program: Lender) -> None:
    program.world.ruling = PERMITTED
    ran = []

    @program.guard.tool(credential="connection")
    def orders(connection: Credential) -> None:
        ran.append(connection)

    with program.guard.task("read"), pytest.raises(Refused) as caught:
        orders()
    assert (caught.value.reason, ran) == (Reason.UNAVAILABLE, [])
    assert str(caught.value) == (
        "python/orders was refused (unavailable). 'connection' is a credential, and the policy that permits the call "
        "names no class of them; write @credential on it. Nothing was done."
    )
    assert (program.kinds(), program.fates()) == (["permitted", "settled"], ["not_started"])
    assert "names no class" in program.entries(Kind.SETTLED)[0].body["detail"]


def test_where_policy_names_no_class_a_default_is_taken_as_it_is(program: Lender) -> None:
    program.world.ruling = PERMITTED
    default = object()

    @program.guard.tool(credential="connection")
    def orders(customer: str, connection: Any = default, *more: str) -> bool:
        return connection is default and more == ("b",)

    with program.guard.task("read"):
        assert orders("a", "b") is True


def test_a_function_that_takes_none_is_lent_none(program: Lender) -> None:
    @program.guard.tool()
    def orders() -> str:
        return PASSWORD

    with program.guard.task("read"):
        assert orders() == PASSWORD
    assert program.kinds() == LENT


def test_what_cannot_be_put_together_is_not_begun(program: Lender) -> None:
    program.fields = {"token": PASSWORD}

    @program.guard.tool(credential="connection")
    def orders(connection: Credential) -> None:
        raise AssertionError("ran")

    with program.guard.task("read"), pytest.raises(Refused) as caught:
        orders()
    assert caught.value.reason is Reason.UNAVAILABLE
    assert program.fates() == ["not_started"]
    assert "has no `user`; it has token" in program.entries(Kind.SETTLED)[0].body["detail"]
    assert program.unended == set()


# -- how long it lives


class Broken(Exception):
    pass


class Borrowers:
    """One function of each shape, and what they were lent."""

    def __init__(self, program: Lender) -> None:
        self.program = program
        self.kept: list[Credential] = []
        self.fails = False
        guard = program.guard

        @guard.tool(credential="key")
        def plain(key: Credential) -> int:
            self.take(key)
            return 1

        @guard.tool(credential="key")
        async def later(key: Credential) -> int:
            self.take(key)
            await asyncio.sleep(0)
            return len(key) - 1

        @guard.tool(credential="key")
        def items(key: Credential) -> Iterator[int]:
            self.take(key)
            yield 1
            yield len(key)

        @guard.tool(credential="key")
        async def items_later(key: Credential) -> AsyncIterator[int]:
            self.take(key)
            yield 1
            yield len(key)

        self.plain: Any = plain
        self.later: Any = later
        self.items: Any = items
        self.items_later: Any = items_later

    def take(self, key: Credential) -> None:
        assert self.program.kinds()[-2:] == ["permitted", "leased"]
        assert key["password"] == PASSWORD
        self.kept.append(key)
        if self.fails:
            raise Broken

    def call(self, shape: str) -> list[int]:
        """What came out of it."""

        async def later() -> list[int]:
            async with self.program.guard.task("read"):
                return [await self.later()]

        async def items_later() -> list[int]:
            async with self.program.guard.task("read"):
                return [item async for item in self.items_later()]

        match shape:
            case "plain":
                with self.program.guard.task("read"):
                    return [self.plain()]
            case "items":
                with self.program.guard.task("read"):
                    return list(self.items())
            case "later":
                return list(wait(later()))
        return list(wait(items_later()))


SHAPES = ["plain", "later", "items", "items_later"]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scope", list(Scope))
@pytest.mark.parametrize("fails", [False, True])
def test_it_can_be_used_until_the_call_is_settled_and_no_longer(shape: str, scope: Scope, fails: bool) -> None:
    program = Lender(scope=scope)
    borrowers = Borrowers(program)
    borrowers.fails = fails
    if fails:
        with pytest.raises(Broken):
            borrowers.call(shape)
    else:
        assert borrowers.call(shape) == ([1, 2] if "items" in shape else [1])
    (key,) = borrowers.kept
    with pytest.raises(InvalidInput, match="is over"):
        _ = key.value
    assert program.fates() == ["failed" if fails else "done"]
    assert len(program.unended) == (scope is Scope.TASK)
    assert program.world.credentials == program.unended


def test_it_holds_nothing_before_its_backend_is_asked_to_end_it() -> None:
    program, seen = Lender(), []
    borrowers = Borrowers(program)

    def before(ask: Any) -> None:
        if type(ask).__name__ == "Revoke":
            with pytest.raises(InvalidInput):
                _ = borrowers.kept[0].value
            seen.append(ask)

    program.before = before
    borrowers.call("plain")
    assert len(seen) == 1


@pytest.mark.parametrize("shape", ["items", "items_later"])
def test_an_abandoned_stream_takes_its_credential_along(shape: str) -> None:
    program = Lender()
    borrowers = Borrowers(program)

    async def main() -> None:
        async with program.guard.task("read"):
            if shape == "items":
                next(borrowers.items())
            else:
                stream = borrowers.items_later()
                await anext(stream)
                del stream
            gc.collect()
            with pytest.raises(InvalidInput):
                _ = borrowers.kept[0].value
            program.point.settle_abandoned()
            assert program.unended == set()

    wait(main())
    assert program.fates() == ["ambiguous"]


def test_a_stream_that_is_closed_ends_it(program: Lender) -> None:
    borrowers = Borrowers(program)
    with program.guard.task("read"):
        stream = borrowers.items()
        next(stream)
        stream.close()
        assert (program.kinds(), program.unended) == (LENT, set())


def test_calls_at_the_same_time_have_each_their_own(program: Lender) -> None:
    both, names = threading.Barrier(2, timeout=60), []

    @program.guard.tool(credential="key")
    def read(key: Credential) -> None:
        names.append(id(key))
        both.wait()
        assert key["password"] == PASSWORD
        both.wait()

    async def main() -> None:
        async with program.guard.task("read"):
            await asyncio.gather(asyncio.to_thread(read), asyncio.to_thread(read))

    wait(main())
    assert len(set(names)) == 2
    assert program.unended == set()


@pytest.mark.parametrize("is_done", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_whatever_goes_wrong_it_is_over_or_the_sweep_knows_of_it(shape: str, is_done: bool) -> None:
    whole = Lender()
    Borrowers(whole).call(shape)
    refused = 0
    for number in range(whole.asks):
        program = Lender(fail_at=number, is_done=is_done)
        borrowers = Borrowers(program)
        out: list[int] = []
        with suppress(ForestallError):
            out = borrowers.call(shape)
        ran = len(borrowers.kept)
        assert ran <= 1
        refused += not ran
        for key in borrowers.kept:
            with pytest.raises(InvalidInput):
                _ = key.value
        assert program.world.credentials <= program.unended, f"lost at step {number}"
        assert not out or program.fates() == ["done"]
    assert refused > 5  # of everything that comes before the function runs
    assert whole.asks - refused >= 3


# -- what comes back


def leaking(program: Lender, what: Callable[[Credential], Any]) -> Any:
    @program.guard.tool(effects={"read"}, credential="key")
    def leak(key: Credential) -> Any:
        return what(key)

    return leak


def require_leaked(program: Lender, refusal: Refused, fate: str = "done") -> None:
    assert refusal.reason is Reason.LEAKED
    assert isinstance(refusal.decision, Deny)
    assert PASSWORD not in str(refusal)
    assert PASSWORD not in repr(refusal)
    assert (refusal.__context__, refusal.__cause__) == (None, None)
    (settled,) = program.entries(Kind.SETTLED)
    assert (settled.body["fate"], settled.body["leaked"]) == (fate, True)
    assert program.leaks == [(settled.body["task"], "the output of python/leak")]
    assert program.unended == set()


@pytest.mark.parametrize(
    "what",
    [
        lambda key: key["password"],
        lambda key: {"dsn": [key.value]},
        lambda key: key["password"].encode().hex(),
        dict,
        lambda key: key,
        lambda key: (key["password"][::-1],),
    ],
)
def test_a_credential_that_comes_back_is_withheld(program: Lender, what: Callable[[Credential], Any]) -> None:
    leak = leaking(program, what)
    with program.guard.task("read"), pytest.raises(Refused) as caught:
        leak()
    require_leaked(program, caught.value)
    assert str(caught.value) == (
        "python/leak was carried out; its output held a credential and is withheld, and the credential ends."
    )


def refuse(key: Credential) -> Any:
    raise ConnectionError(f"cannot connect to {key.value}")


def test_an_error_that_holds_one_is_withheld_and_does_not_go_along(program: Lender) -> None:
    leak = leaking(program, refuse)
    with program.guard.task("read"), pytest.raises(Refused) as caught:
        leak()
    require_leaked(program, caught.value, "failed")


def test_an_error_whose_cause_holds_one_is_withheld(program: Lender) -> None:
    def wrapped(key: Credential) -> Any:
        try:
            refuse(key)
        except ConnectionError as error:
            raise RuntimeError("no orders") from error

    leak = leaking(program, wrapped)
    with program.guard.task("read"), pytest.raises(Refused) as caught:
        leak()
    require_leaked(program, caught.value, "failed")


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("kind", ["async", "coroutine"])
def test_what_an_async_function_lets_out_is_searched(program: Lender, kind: str, fails: bool) -> None:
    async def inner(key: Credential) -> Any:
        await asyncio.sleep(0)
        return refuse(key) if fails else key["password"]

    if kind == "coroutine":
        leak = leaking(program, inner)
    else:

        @program.guard.tool(effects={"read"}, credential="key")
        async def leak(key: Credential) -> Any:
            return await inner(key)

    async def main() -> None:
        async with program.guard.task("read"):
            await leak()

    with pytest.raises(Refused) as caught:
        wait(main())
    require_leaked(program, caught.value, "failed" if fails else "done")


class Streams:
    """What a stream does between the first item and the leak."""

    def __init__(self, program: Lender, end: str) -> None:
        self.closed = False

        @program.guard.tool(effects={"read"}, credential="key", name="leak")
        def items(key: Credential) -> Iterator[Any]:
            try:
                yield "fine"
                if end == "raises":
                    refuse(key)
                if end == "item":
                    yield key["password"]
                    raise AssertionError("went on")
            finally:
                self.closed = True
                if end == "close":
                    refuse(key)
            return key.value

        @program.guard.tool(effects={"read"}, credential="key", name="leak_later")
        async def items_later(key: Credential) -> AsyncIterator[Any]:
            try:
                yield "fine"
                if end == "raises":
                    refuse(key)
                yield key["password"]
                raise AssertionError("went on")
            finally:
                self.closed = True
                if end == "close":
                    refuse(key)

        self.items: Any = items
        self.items_later: Any = items_later


@pytest.mark.parametrize(("end", "fate"), [("item", "done"), ("raises", "failed"), ("returns", "done")])
def test_what_a_stream_lets_out_is_searched_item_by_item(program: Lender, end: str, fate: str) -> None:
    streams = Streams(program, end)
    with program.guard.task("read"):
        stream = streams.items()
        assert next(stream) == "fine"
        with pytest.raises(Refused) as caught:
            next(stream)
        assert list(stream) == []
    assert streams.closed
    require_leaked(program, caught.value, fate)


@pytest.mark.parametrize(("end", "fate"), [("item", "done"), ("raises", "failed")])
def test_what_an_async_stream_lets_out_is_searched(program: Lender, end: str, fate: str) -> None:
    streams = Streams(program, end)

    async def main() -> Refused:
        async with program.guard.task("read"):
            stream = streams.items_later()
            assert await anext(stream) == "fine"
            with pytest.raises(Refused) as caught:
                await anext(stream)
            assert [item async for item in stream] == []
        return caught.value

    refusal = wait(main())
    assert streams.closed
    program.leaks = [(task, where.replace("leak_later", "leak")) for task, where in program.leaks]
    require_leaked(program, refusal, fate)


@pytest.mark.parametrize("shape", ["items", "items_later"])
def test_what_a_stream_raises_while_it_is_closed_is_searched(program: Lender, shape: str) -> None:
    streams = Streams(program, "close")

    async def main() -> None:
        async with program.guard.task("read"):
            if shape == "items":
                stream = streams.items()
                next(stream)
                stream.close()
            else:
                later = streams.items_later()
                await anext(later)
                await later.aclose()

    with pytest.raises(Refused) as caught:
        wait(main())
    assert caught.value.reason is Reason.LEAKED
    assert caught.value.__context__ is None
    assert len(program.leaks) == 1


def test_other_functions_of_the_task_are_searched_too_and_other_tasks_are_not(program: Lender) -> None:
    borrowers = Borrowers(program)

    @program.guard.tool(effects={"read"})
    def log() -> str:
        return f"connected with {PASSWORD}"

    with program.guard.task("read"):
        assert log()
        borrowers.plain()
        with pytest.raises(Refused, match="held a credential"):
            log()
    with program.guard.task("read again"):
        assert log()


def test_an_interrupt_goes_on_as_it_is(program: Lender) -> None:
    def interrupted(key: Credential) -> Any:
        raise KeyboardInterrupt(key.value)

    leak = leaking(program, interrupted)
    with program.guard.task("read"), pytest.raises(KeyboardInterrupt):
        leak()
    assert program.fates() == ["ambiguous"]


def test_a_leak_whose_settlement_fails_is_withheld_and_told_all_the_same(program: Lender) -> None:
    leak = leaking(program, lambda key: key["password"])

    def no_settlement(ask: Any) -> None:
        if isinstance(ask, Record) and ask.entry.kind is Kind.SETTLED:
            raise CannotDo

    with program.guard.task("read"):
        program.before = no_settlement
        with pytest.raises(OutcomeUnknown):
            leak()
        program.before = lambda _ask: None
    assert len(program.leaks) == 1


def test_an_output_that_is_too_much_and_a_leak_is_a_leak() -> None:
    program = Lender(mandate=replace(EVERYTHING, per_call={Quantity.BYTES: 4}))
    leak = leaking(program, lambda key: key["password"])
    with program.guard.task("read"), pytest.raises(Refused) as caught:
        leak()
    require_leaked(program, caught.value)


def test_what_is_not_there_is_let_out_as_the_very_object(program: Lender) -> None:
    value = {"rows": [1, "two", object()]}
    leak = leaking(program, lambda _key: value)
    with program.guard.task("read"):
        assert leak() is value
    assert "leaked" not in program.entries(Kind.SETTLED)[0].body
    assert program.leaks == []
