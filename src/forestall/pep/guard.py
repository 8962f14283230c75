"""The guard: tools written in Python, each call decided before it happens.

    guard = Guard.open("forestall-home")

    @guard.tool(effects={"destructive"}, control={"path"})
    def delete_report(path: str) -> str: ...

    with guard.task("clean up last year's reports"):
        delete_report("reports/2024.md")  # decided, recorded, then run
        delete_report("/etc/passwd")  # raises Refused

It is the same flow as the gateway's (`forestall.core.flow`), with one difference: `Perform` calls the function. It
cannot stop code that the agent itself runs in this interpreter, which can step around it: put such an agent behind
the gateway.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Collection, Mapping
from contextvars import ContextVar
from dataclasses import replace
from functools import update_wrapper
from threading import Lock
from typing import Any, Self, TypeVar, cast, overload

from forestall.catalogue.statement import Statement, effective, require_server_name
from forestall.core.action import ask_for
from forestall.core.ask import CannotDo
from forestall.core.errors import InvalidInput, SetupError
from forestall.core.mandate import Wish
from forestall.core.model import NOTHING, Action, Tool
from forestall.core.pin import definition_digest
from forestall.core.reason import Reason
from forestall.pep.call import Call
from forestall.pep.codec import Codec
from forestall.pep.declared import declared, require_fit
from forestall.pep.point import DecisionPoint
from forestall.pep.signature import Signature, signature_of
from forestall.pep.sought import Sought
from forestall.pep.stream import AsyncStream, Stream, perform, perform_async
from forestall.pep.task import Task

F = TypeVar("F", bound=Callable[..., Any])
R = TypeVar("R")

MAX_ARGUMENTS = 8 * 1024 * 1024
"""Bytes of canonical arguments in one call. What is larger belongs in a file that the call names."""


class Guard:
    """Decides every call of the tools that it is given. Safe to use from many threads; not across `fork`.

    `name`: what policy and ledger call the program; its tools are `name/tool`.

    Raises:
        SetupError: the name cannot be one.
    """

    def __init__(self, point: DecisionPoint, *, name: str = "python") -> None:
        self.name = require_server_name(name)
        self._point = point
        self._current: ContextVar[Task | None] = ContextVar(f"forestall.task.{name}", default=None)
        self._lock = Lock()
        self._tools: dict[str, Tool] = {}
        self._declared = False

    @property
    def tools(self) -> tuple[Tool, ...]:
        """What the guard knows of its tools."""
        return tuple(self._tools.values())

    @overload
    def tool(
        self,
        *,
        name: str | None = None,
        effects: Collection[str] = (),
        control: Collection[str] = (),
        content: Collection[str] = (),
        opaque: Collection[str] = (),
        output: tuple[str, str] | None = None,
        reversible: bool = False,
        codecs: Mapping[type, Codec] = NOTHING,
        credential: None = None,
    ) -> Callable[[F], F]: ...

    @overload  # who calls it gives one argument less, which no type can say
    def tool(
        self,
        *,
        name: str | None = None,
        effects: Collection[str] = (),
        control: Collection[str] = (),
        content: Collection[str] = (),
        opaque: Collection[str] = (),
        output: tuple[str, str] | None = None,
        reversible: bool = False,
        codecs: Mapping[type, Codec] = NOTHING,
        credential: str,
    ) -> Callable[[Callable[..., R]], Callable[..., R]]: ...

    def tool(
        self,
        *,
        name: str | None = None,
        effects: Collection[str] = (),
        control: Collection[str] = (),
        content: Collection[str] = (),
        opaque: Collection[str] = (),
        output: tuple[str, str] | None = None,
        reversible: bool = False,
        codecs: Mapping[type, Codec] = NOTHING,
        credential: str | None = None,
    ) -> Callable[[F], F] | Callable[[Callable[..., R]], Callable[..., R]]:
        """A decorator that guards a function. The result is called as the function is: sync or async, streaming or not.

        What is left out is taken at its worst: `effects` as destructive and external, arguments that are not `content`
        as selecting the target, `output` (its integrity and confidentiality) as untrusted and secret.

        `credential`: the parameter that is given the permit's `Credential`. It is no argument: who calls neither sees
        nor gives it. Where policy names no class of credentials, it has its default, or the call is refused.

        Raises:
            SetupError: a word is not known, an argument does not exist, a type has no JSON form, or the name is taken.
        """
        said = declared(effects, control, content, opaque, output, reversible=reversible)
        said = said if credential is None else replace(said, hidden=(credential,))

        def guarded(function: F) -> F:
            kind: Any = type(function)
            if kind is not staticmethod and kind is not classmethod:
                return cast(
                    "F", self._guarded(signature_of(function, name=name, codecs=codecs, credential=credential), said)
                )
            inside: Any = function
            receiver = kind is classmethod
            signature = signature_of(
                inside.__func__, name=name, receiver=receiver, codecs=codecs, credential=credential
            )
            return cast("F", kind(self._guarded(signature, said)))

        return guarded

    def task(self, purpose: str, *, mandate: str = "default", parameters: Mapping[str, str] = NOTHING) -> Task:
        """Authority to call tools, for the length of a `with` or `async with` block. Without one every call is refused.

        `parameters`: a value for each that the mandate has. Entering the block raises `Refused` where policy, or the
        mandate, does not let the task be opened.

        Raises:
            SetupError: there is no such mandate, or the policy does not fit the tools.
        """
        found = self._point.mandate(mandate)
        if found is None:
            raise SetupError(f"There is no mandate {mandate!r}; write policy/mandates/{mandate}.toml.")
        self._declare()
        wish = Wish(parameters, user=self._point.subject.local_user)
        return Task(self._point, self._current, replace(found, purpose=purpose), wish)

    def close(self) -> None:
        """Settle what was dropped and close the books. In a forked child: nothing, for they are the parent's."""
        if self._point.pid == os.getpid():
            self._point.settle_abandoned()
            self._point.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def _guarded(self, signature: Signature, said: Statement) -> Callable[..., Any]:
        tool = self._register(signature, said)

        def call(*args: Any, **kwargs: Any) -> Any:
            return perform(self._call(tool, signature, args, kwargs))

        async def call_async(*args: Any, **kwargs: Any) -> Any:
            return await perform_async(self._call(tool, signature, args, kwargs))

        def stream(*args: Any, **kwargs: Any) -> Stream:
            return Stream(self._call(tool, signature, args, kwargs))

        def stream_async(*args: Any, **kwargs: Any) -> AsyncStream:
            return AsyncStream(self._call(tool, signature, args, kwargs))

        function = signature.function
        if inspect.iscoroutinefunction(function):
            return _looking_like(signature, call_async)
        if inspect.isasyncgenfunction(function):
            return _looking_like(signature, stream_async)
        return _looking_like(signature, stream if inspect.isgeneratorfunction(function) else call)

    def _register(self, signature: Signature, said: Statement) -> Tool:
        definition = signature.definition()
        require_fit(said, definition)
        tool = effective(self.name, definition, replace(said, pin=definition_digest(self.name, definition)))
        with self._lock:
            if self._tools.setdefault(tool.name, tool) != tool:
                raise SetupError(f"There is a tool {tool.id} already, and it is another; give one of them a `name`.")
            self._declared = False
        return tool

    def _declare(self) -> None:
        """Let the decision point know the tools, before the first call that needs them."""
        with self._lock:
            if not self._declared:
                self._point.declare(tuple(self._tools.values()))
                self._declared = True

    def _call(self, tool: Tool, signature: Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Call:
        """Everything that the decision is about, taken now: arguments, task and time."""
        self._point.require_here()
        self._point.settle_abandoned()
        if not self._declared:
            self._declare()
        task = self._current.get()
        receiver, args = (args[:1], args[1:]) if signature.receiver else ((), args)
        objection = _objection(task, signature, receiver)
        try:
            action = self._action(tool, task, signature.bind(args, kwargs))
        except InvalidInput as error:
            action = self._action(tool, task, {})
            objection = objection or CannotDo(Reason.INVALID_ARGUMENTS, str(error))
        streaming, sought = (task.streaming, task.sought) if task else ({}, Sought())
        return Call(self._point, signature, receiver, action, streaming, sought, objection)

    def _action(self, tool: Tool, task: Task | None, arguments: dict[str, Any]) -> Action:
        random = self._point.random(32)
        action = ask_for(
            tool.id,
            arguments,
            action_id=random[:16].hex(),
            task=task.id if task else "",
            pin=tool.pin,
            salt=random[16:],
            at=self._point.now(),
            proof=self._point.proof,
        )
        if len(action.canonical) > MAX_ARGUMENTS:
            raise InvalidInput(f"The arguments are {len(action.canonical)} bytes; the limit is {MAX_ARGUMENTS}.")
        return action


def _looking_like(signature: Signature, guarded: Callable[..., Any]) -> Callable[..., Any]:
    """Name, signature and annotations of the function, but not `__wrapped__`: some frameworks call what it holds."""
    function: Any = signature.function
    outside: Any = update_wrapper(guarded, function)
    del outside.__wrapped__
    outside.__signature__ = _shown(signature)
    outside.__annotations__ = dict(signature.hints)
    return guarded


def _shown(signature: Signature) -> inspect.Signature:
    """As who calls may know it."""
    whole = inspect.signature(signature.function)
    kept = [one for one in whole.parameters.values() if one.name not in signature.hidden]
    return whole.replace(parameters=kept)


def _objection(task: Task | None, signature: Signature, receiver: tuple[Any, ...]) -> CannotDo | None:
    if task is None:
        return CannotDo(Reason.NO_GRANT, "No task is open here; call it inside `with guard.task(...)`.")
    if task.ended:
        return CannotDo(Reason.TASK_ENDED, f"The task {task.purpose!r} has ended; open a new one.")
    if signature.receiver and not receiver:
        return CannotDo(Reason.INVALID_ARGUMENTS, f"{signature.name} is a method; call it on an object.")
    return None
