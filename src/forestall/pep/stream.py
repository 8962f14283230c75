"""Results that come item by item: generators and async generators under one permit.

The permit is recorded, with the label of the output, before the first item; the outcome, when the last item was
taken, when the stream was closed, or when it raised. A stream that ends before its first step was never decided, and
did nothing.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Generator
from threading import Lock
from typing import Any

from forestall.core.errors import ForestallError, InvalidInput
from forestall.pep.call import Call, Output


class _Turn:
    """One step at a time, as Python has it for its own generators."""

    def __init__(self) -> None:
        self._taken = Lock()

    def __enter__(self) -> None:
        if not self._taken.acquire(blocking=False):
            raise ValueError("the stream is already executing")

    def __exit__(self, *_error: object) -> None:
        self._taken.release()


class _Once:
    """Not to be copied: two copies would be read under one permit."""

    def __reduce__(self) -> str:
        raise TypeError("a stream is decided and read once, and cannot be copied")


class Stream(_Once, Generator[Any, None, Any]):
    """A guarded generator. Nothing can be sent into it: what was not decided does not reach the function.

    `inner`: the generator, where the call that made it began already.
    """

    def __init__(self, call: Call, inner: Generator[Any, Any, Any] | None = None) -> None:
        self._call = call
        self._inner = inner
        if inner is not None:
            call.let_out()
        self._output = Output(call.action.salt)
        self._over = False
        self._turn = _Turn()

    def __next__(self) -> Any:
        return self._step(next)

    def send(self, value: None) -> Any:
        _require_nothing(value)
        return self._step(next)

    def throw(self, *error: Any) -> Any:
        self._over = self._over or self._inner is None
        return self._step(lambda inner: inner.throw(*error))

    def close(self) -> None:
        with self._turn:
            self._call.point.require_here()
            over, self._over = self._over, True
            if over or self._inner is None:
                return
            self._stop()
            self._call.finish(None, self._output)

    def _step(self, advance: Callable[[Any], Any]) -> Any:
        with self._turn:
            if self._over:
                return advance(_nothing())
            self._call.point.require_here()
            instead: ForestallError | None = None
            try:
                item = advance(self._begun())
            except StopIteration as stop:
                self._over, returned = True, stop.value
            except BaseException as error:
                self._over = True
                instead = None if self._inner is None else self._call.fail(error)
                if instead is None:
                    raise
            else:
                self._output.add(item, self._call.limits, rows_at_least=1)
                if self._call.may_let_out(item, self._output):
                    return item
                self._over, returned = True, None
                self._stop()
            if instead is not None:
                raise instead from None
            raise StopIteration(self._call.finish(returned, self._output))

    def _stop(self) -> None:
        """End the function where it stands. What it raises then is how the call ended."""
        assert self._inner is not None
        try:
            self._inner.close()
        except BaseException as error:
            instead = self._call.fail(error)
            if instead is None:
                raise
        else:
            return
        raise instead from None

    def _begun(self) -> Generator[Any, Any, Any]:
        if self._inner is None:
            self._inner = self._call.begin()()
            self._call.let_out()
        return self._inner


class AsyncStream(_Once, AsyncGenerator[Any, None]):
    """A guarded async generator; otherwise as `Stream`."""

    def __init__(self, call: Call, inner: AsyncGenerator[Any, Any] | None = None) -> None:
        self._call = call
        self._inner = inner
        if inner is not None:
            call.let_out()
        self._output = Output(call.action.salt)
        self._over = False
        self._turn = _Turn()

    async def __anext__(self) -> Any:
        return await self._step(anext)

    async def asend(self, value: None) -> Any:
        _require_nothing(value)
        return await self._step(anext)

    async def athrow(self, *error: Any) -> Any:
        self._over = self._over or self._inner is None
        return await self._step(lambda inner: inner.athrow(*error))

    async def aclose(self) -> None:
        with self._turn:
            self._call.point.require_here()
            over, self._over = self._over, True
            if over or self._inner is None:
                return
            await self._stop()
            await self._call.finish_async(None, self._output)

    async def _step(self, advance: Callable[[Any], Awaitable[Any]]) -> Any:
        with self._turn:
            if self._over:
                return await advance(_nothing_async())
            self._call.point.require_here()
            instead: ForestallError | None = None
            try:
                item = await advance(await self._begun())
            except StopAsyncIteration:
                self._over = True
            except BaseException as error:
                self._over = True
                instead = None if self._inner is None else await self._call.fail_async(error)
                if instead is None:
                    raise
            else:
                self._output.add(item, self._call.limits, rows_at_least=1)
                if self._call.may_let_out(item, self._output):
                    return item
                self._over = True
                await self._stop()
            if instead is not None:
                raise instead from None
            await self._call.finish_async(None, self._output)
            raise StopAsyncIteration

    async def _stop(self) -> None:
        """As that of `Stream`."""
        assert self._inner is not None
        try:
            await self._inner.aclose()
        except BaseException as error:
            instead = await self._call.fail_async(error)
            if instead is None:
                raise
        else:
            return
        raise instead from None

    async def _begun(self) -> AsyncGenerator[Any, Any]:
        if self._inner is None:
            self._inner = (await self._call.begin_async())()
            self._call.let_out()
        return self._inner


def perform(call: Call) -> Any:
    """Begin, call the function, settle: what it returned, or what it raised. What goes on is settled at its own end."""
    function = call.begin()
    try:
        value = function()
    except BaseException as error:
        instead = call.fail(error)
        if instead is None:
            raise
    else:
        return _performed(call, value)
    raise instead from None


def _performed(call: Call, value: object) -> Any:
    if isinstance(value, Coroutine):
        return _later(call, value)
    return call.finish(value) if (stream := _stream(call, value)) is None else stream


async def perform_async(call: Call) -> Any:
    """As `perform`."""
    function = await call.begin_async()
    try:
        value = await function()
    except BaseException as error:
        instead = await call.fail_async(error)
        if instead is None:
            raise
    else:
        return await call.finish_async(value) if (stream := _stream(call, value)) is None else stream
    raise instead from None


async def _later(call: Call, coroutine: Coroutine[Any, Any, Any]) -> Any:
    """The rest of a function that is no `async def` and returned a coroutine all the same."""
    try:
        value = await coroutine
    except BaseException as error:
        instead = await call.fail_async(error)
        if instead is None:
            raise
    else:
        return await call.finish_async(value)
    raise instead from None


def _stream(call: Call, value: object) -> Stream | AsyncStream | None:
    if isinstance(value, Generator):
        return Stream(call, value)
    return AsyncStream(call, value) if isinstance(value, AsyncGenerator) else None


def _require_nothing(value: object) -> None:
    if value is not None:
        raise InvalidInput("A value sent into a stream was not decided; pass it as an argument of the call.")


def _nothing() -> Generator[Any, None, None]:
    yield from ()


async def _nothing_async() -> AsyncGenerator[Any, None]:
    nothing: tuple[Any, ...] = ()
    for item in nothing:
        yield item
