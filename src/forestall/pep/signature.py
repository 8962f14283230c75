"""A Python function, seen as a tool: its definition, and its arguments as one JSON mapping.

Positional and keyword arguments, and defaults, come to the same mapping, so that the same call has the same digest.
What the function receives later is rebuilt from that mapping and from nothing else: a value that is changed between
decision and call changes nothing.

One parameter may be a credential's. Who calls neither sees nor gives it, and nothing that is decided knows of it.
"""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from forestall.core.canonical import digest
from forestall.core.errors import InvalidInput, SetupError
from forestall.core.hide import given_though_hidden
from forestall.core.model import NOTHING
from forestall.pep.codec import Codec, codec_of

_RECEIVERS = ("self", "cls")


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    kind: Any
    codec: Codec
    default: Any = inspect.Parameter.empty
    """The default as JSON, taken once: what the function does to its own default later is not the default."""

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Borrower:
    """The parameter that a credential is given in."""

    name: str
    kind: Any
    index: int
    """Where it stands among the others, a receiver not counted."""
    default: Any = inspect.Parameter.empty
    """What the function gets where there is no credential."""

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Signature:
    """How a function is called. `receiver`: its first argument is the object it is a method of, and is not decided."""

    function: Callable[..., Any]
    name: str
    description: str
    receiver: bool
    parameters: tuple[Parameter, ...]
    inspected: inspect.Signature = field(repr=False)
    hints: Mapping[str, Any] = field(repr=False)
    """Annotations of the parameters, resolved."""
    borrower: Borrower | None = None

    @property
    def hidden(self) -> tuple[str, ...]:
        return () if self.borrower is None else (self.borrower.name,)

    def definition(self) -> dict[str, Any]:
        """The tool as MCP would describe it (2025-11-25, `Tool`); its digest is the pin."""
        properties = {parameter.name: dict(parameter.codec.schema) for parameter in self.parameters}
        schema: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
        if required := [parameter.name for parameter in self.parameters if parameter.required]:
            schema["required"] = required
        return {"name": self.name, "description": self.description, "inputSchema": schema}

    def pin(self) -> str:
        return digest(self.definition())

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The call's arguments as fresh, plain JSON, defaults included. A receiver is not among `args`.

        Raises:
            InvalidInput: the call does not fit the signature, or a value is not what its parameter says.
        """
        if given_though_hidden(self.hidden, kwargs):
            raise InvalidInput(f"{self.hidden[0]!r} of {self.name} is filled in by a credential alone; leave it out.")
        try:
            given = self.inspected.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidInput(f"{self.name} cannot be called like this: {error}.") from None
        return {parameter.name: _encode(parameter, given) for parameter in self.parameters}

    def unbind(self, arguments: Mapping[str, Any], credential: object = None) -> tuple[list[Any], dict[str, Any]]:
        """What to call the function with, rebuilt from what `bind` returned. Without a credential, the borrower has its
        default.
        """
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        for parameter in self.parameters:
            value = parameter.codec.decode(arguments[parameter.name])
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                args.extend(value)
            elif parameter.kind is inspect.Parameter.VAR_KEYWORD:
                kwargs.update(value)
            elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                kwargs[parameter.name] = value
            else:
                args.append(value)
        if self.borrower is not None:
            _lend(self.borrower, self.borrower.default if credential is None else credential, args, kwargs)
        return args, kwargs


def _lend(borrower: Borrower, credential: object, args: list[Any], kwargs: dict[str, Any]) -> None:
    if borrower.kind is inspect.Parameter.KEYWORD_ONLY:
        kwargs[borrower.name] = credential
    else:
        args.insert(borrower.index, credential)


def signature_of(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    receiver: bool | None = None,
    codecs: Mapping[type, Codec] = NOTHING,
    credential: str | None = None,
) -> Signature:
    """Read a function's signature. Methods are known by being defined in a class with `self` or `cls` first.

    `credential`: the parameter that is a credential's.

    Raises:
        SetupError: an annotation cannot be resolved or carried by JSON, a default does not fit its annotation, or there
            is no such parameter for a credential.
    """
    path = getattr(function, "__qualname__", "").rpartition("<locals>.")[2]
    if not (name := name or path):
        raise SetupError(f"A {type(function).__name__} has no name of its own; give its tool a `name`.")
    inspected = inspect.signature(function)
    declared = list(inspected.parameters.values())
    if receiver is None:
        receiver = "." in path and bool(declared) and declared[0].name in _RECEIVERS
    declared = declared[1:] if receiver else declared
    borrower = None if credential is None else _borrower(declared, credential, name)
    declared = [one for one in declared if borrower is None or one.name != borrower.name]
    hints = _hints(function, declared, name, {kind.__name__: kind for kind in codecs})
    parameters = tuple(_parameter(parameter, hints.get(parameter.name, Any), name, codecs) for parameter in declared)
    description = inspect.getdoc(function) or ""
    shown = inspected.replace(parameters=declared)
    return Signature(function, name, description, receiver, parameters, shown, hints, borrower)


def _borrower(declared: list[inspect.Parameter], wanted: str, name: str) -> Borrower:
    names = [parameter.name for parameter in declared]
    if wanted not in names:
        known = ", ".join(names) or "none"
        raise SetupError(f"{name} has no parameter {wanted!r} for its credential; it has {known}.")
    if twin := given_though_hidden([wanted], [one for one in names if one != wanted]):
        raise SetupError(f"{name} has a parameter that is {twin!r} but for its case; rename one of them.")
    index = names.index(wanted)
    found = declared[index]
    if found.kind in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
        raise SetupError(f"{found} of {name} takes any number of arguments; a credential is one.")
    return Borrower(wanted, found.kind, index, found.default)


def _hints(
    function: Callable[..., Any], declared: list[inspect.Parameter], name: str, known: Mapping[str, type]
) -> dict[str, Any]:
    """Annotations of the parameters alone: what a function returns may be annotated with anything."""
    raw = {parameter.name: parameter.annotation for parameter in declared}
    raw = {key: value for key, value in raw.items() if value is not inspect.Parameter.empty}
    target = inspect.unwrap(function.func if isinstance(function, partial) else function)
    enclosed = inspect.getclosurevars(target).nonlocals if isinstance(target, types.FunctionType) else {}
    near = {**known, **enclosed}
    try:
        carrier = types.SimpleNamespace(__annotations__=raw)
        return typing.get_type_hints(carrier, getattr(target, "__globals__", {}), near, include_extras=True)
    except Exception as error:  # an annotation is code, and may raise anything
        raise SetupError(
            f"An annotation of {name} cannot be resolved ({error}); import the name where the function is defined."
        ) from error


def _parameter(declared: inspect.Parameter, hint: Any, name: str, codecs: Mapping[type, Codec]) -> Parameter:
    default: Any = declared.default
    if declared.kind is inspect.Parameter.VAR_POSITIONAL:
        hint, default = list[hint], []
    elif declared.kind is inspect.Parameter.VAR_KEYWORD:
        hint, default = dict[str, hint], {}
    where = f"Parameter {declared.name!r} of {name}"
    codec = codec_of(hint, where, codecs)
    if default is inspect.Parameter.empty:
        return Parameter(declared.name, declared.kind, codec)
    try:
        if default is None and not _takes_null(codec):
            codec = codec.or_null()  # `x: str = None` is how many write an optional argument
        return Parameter(declared.name, declared.kind, codec, codec.encode(default))
    except InvalidInput as error:
        raise SetupError(f"{where} has a default that does not fit: {error}") from None


def _takes_null(codec: Codec) -> bool:
    try:
        return codec.encode(None) is None
    except InvalidInput:
        return False


def _encode(parameter: Parameter, given: Mapping[str, Any]) -> Any:
    value = given.get(parameter.name, inspect.Parameter.empty)
    if value is inspect.Parameter.empty:
        return parameter.codec.encode(parameter.default)
    try:
        return parameter.codec.encode(value)
    except InvalidInput as error:
        raise InvalidInput(f"Argument {parameter.name!r}: {error}") from None
