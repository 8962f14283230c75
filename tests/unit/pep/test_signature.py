"""A function's signature as a tool's definition, and its arguments as one JSON mapping."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any, Literal, NewType, NotRequired, TypedDict
from uuid import UUID

import pytest

from forestall.core.canonical import digest
from forestall.core.errors import InvalidInput, SetupError
from forestall.pep.codec import Codec, codec_of
from forestall.pep.signature import Signature, signature_of

if TYPE_CHECKING:
    from nowhere import Missing


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Options(TypedDict):
    depth: int
    name: NotRequired[str]


@dataclass
class Report:
    title: str


Account = NewType("Account", str)
REPORT = Codec({"type": "string"}, lambda report: report.title, Report)


def ways(first: str, /, second: int = 2, *rest: float, only: bool = False, **more: str) -> None:
    """Do it in every way.

    At once.
    """


def both(function: Any, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """The decided mapping, and what the function is then given."""
    signature = signature_of(function)
    arguments = signature.bind(args, kwargs)
    return arguments, signature.unbind(arguments)


# -- the definition


def test_the_definition_is_what_mcp_would_say() -> None:
    assert signature_of(ways).definition() == {
        "name": "ways",
        "description": "Do it in every way.\n\nAt once.",
        "inputSchema": {
            "type": "object",
            "properties": {
                "first": {"type": "string"},
                "second": {"type": "integer"},
                "rest": {"type": "array", "items": {"type": "number"}},
                "only": {"type": "boolean"},
                "more": {"type": "object", "additionalProperties": {"type": "string"}},
            },
            "required": ["first"],
            "additionalProperties": False,
        },
    }


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (Any, {}),
        (str, {"type": "string"}),
        (float, {"type": "number"}),
        (None, {"type": "null"}),
        (list, {"type": "array", "items": {}}),
        (list[int], {"type": "array", "items": {"type": "integer"}}),
        (Sequence[str], {"type": "array", "items": {"type": "string"}}),
        (tuple[int, ...], {"type": "array", "items": {"type": "integer"}}),
        (dict, {"type": "object", "additionalProperties": True}),
        (Mapping[str, bool], {"type": "object", "additionalProperties": {"type": "boolean"}}),
        (str | None, {"anyOf": [{"type": "string"}, {"type": "null"}]}),
        (Literal["a", 1], {"enum": ["a", 1]}),
        (Colour, {"enum": ["red", "blue"]}),
        (Account, {"type": "string"}),
        (Annotated[int, "How many"], {"type": "integer", "description": "How many"}),
        (Path, {"type": "string"}),
        (datetime, {"type": "string", "format": "date-time"}),
        (bytes, {"type": "string", "contentEncoding": "base64"}),
        (
            tuple[str, int],
            {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "items": False, "minItems": 2},
        ),
        (
            Options,
            {
                "type": "object",
                "properties": {"depth": {"type": "integer"}, "name": {"type": "string"}},
                "required": ["depth"],
                "additionalProperties": False,
            },
        ),
    ],
    ids=str,
)
def test_a_hint_has_a_schema(hint: Any, schema: dict[str, Any]) -> None:
    assert codec_of(hint, "it").schema == schema


def test_no_annotation_is_anything() -> None:
    def tool(what, when=None): ...  # type: ignore[no-untyped-def]

    assert signature_of(tool).definition()["inputSchema"]["properties"] == {"what": {}, "when": {}}


def test_a_default_of_none_admits_null() -> None:
    def tool(path: str = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013 - as many write it

    assert both(tool) == ({"path": None}, ([None], {}))


def test_what_is_returned_may_be_annotated_with_anything() -> None:
    def tool(path: str) -> Missing: ...  # type: ignore[empty-body]

    assert signature_of(tool).definition()["inputSchema"]["required"] == ["path"]


def test_a_type_from_around_the_function_is_found() -> None:
    class Near(enum.Enum):
        HERE = "here"

    def tool(where: Near) -> Near:
        return Near(where)

    assert both(tool, "here") == ({"where": "here"}, ([Near.HERE], {}))


# -- binding


def test_positional_and_keyword_arguments_come_to_one_mapping() -> None:
    signature = signature_of(lambda path, count=1: None, name="tool")
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        (("a",), {}),
        (("a", 1), {}),
        (("a",), {"count": 1}),
        ((), {"count": 1, "path": "a"}),
    ]
    assert {digest(signature.bind(args, kwargs)) for args, kwargs in calls} == {digest({"path": "a", "count": 1})}


def test_every_kind_of_parameter_comes_back_as_it_was_given() -> None:
    arguments, call = both(ways, "a", 3, 0.5, 1, only=True, x="y")
    assert arguments == {"first": "a", "second": 3, "rest": [0.5, 1], "only": True, "more": {"x": "y"}}
    assert call == (["a", 3, 0.5, 1.0], {"only": True, "x": "y"})


def test_defaults_are_decided_too() -> None:
    assert both(ways, "a") == (
        {"first": "a", "second": 2, "rest": [], "only": False, "more": {}},
        (["a", 2], {"only": False}),
    )


def test_a_default_that_the_function_changes_is_not_the_default() -> None:
    def tool(seen: list[str] = []) -> list[str]:  # noqa: B006 - that is the point
        seen.append("x")
        return seen

    signature = signature_of(tool)
    for _ in range(2):
        args, _kwargs = signature.unbind(signature.bind((), {}))
        assert tool(*args) == ["x"]


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [((), {}), (("a", 1, 2.0), {"second": 3}), ((), {"first": "a"})],
    ids=["missing", "twice", "positional only"],
)
def test_a_call_that_does_not_fit_is_refused(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="ways cannot be called like this"):
        signature_of(ways).bind(args, kwargs)


def test_an_undeclared_argument_is_refused() -> None:
    with pytest.raises(InvalidInput, match="unexpected keyword argument 'extra'"):
        signature_of(lambda path: None, name="tool").bind(("a",), {"extra": 1})


def test_what_is_decided_shares_nothing_with_what_was_given() -> None:
    given = {"to": ["a"]}
    signature = signature_of(lambda message: None, name="tool")
    arguments = signature.bind((given,), {})
    given["to"].append("b")
    assert arguments == {"message": {"to": ["a"]}}
    (received,), _ = signature.unbind(arguments)
    received["to"].append("c")
    assert arguments == {"message": {"to": ["a"]}}


# -- values


@pytest.mark.parametrize(
    ("hint", "given", "decided", "received"),
    [
        (float, 1, 1, 1.0),
        (tuple[int, ...], [1, 2], [1, 2], (1, 2)),
        (tuple[str, int], ("a", 1), ["a", 1], ("a", 1)),
        (list[Path], [Path("a"), "b//c"], ["a", "b/c"], [Path("a"), Path("b/c")]),
        (dict[str, Colour], {"x": Colour.RED}, {"x": "red"}, {"x": Colour.RED}),
        (Colour, "blue", "blue", Colour.BLUE),
        (Literal[1, "1"], "1", "1", "1"),
        (Options, {"depth": 1}, {"depth": 1}, {"depth": 1}),
        (int | str, "1", "1", "1"),
        (Path | None, None, None, None),
        (Path | None, "x", "x", Path("x")),
        (Path, PurePosixPath("a/./b"), "a/b", Path("a/b")),
        (date, date(2026, 1, 2), "2026-01-02", date(2026, 1, 2)),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00", datetime(2026, 1, 2, tzinfo=UTC)),
        (UUID, UUID(int=1), "00000000-0000-0000-0000-000000000001", UUID(int=1)),
        (Decimal, Decimal("1.10"), "1.10", Decimal("1.10")),
        (bytes, b"\x00\xff", "AP8=", b"\x00\xff"),
        (Any, {"a": (1, None, True, 0.5)}, {"a": [1, None, True, 0.5]}, {"a": [1, None, True, 0.5]}),
        (Report, Report("Q4"), "Q4", Report("Q4")),
        (list[Report], [Report("Q4")], ["Q4"], [Report("Q4")]),
    ],
    ids=str,
)
def test_a_value_is_decided_as_json_and_rebuilt(hint: Any, given: Any, decided: Any, received: Any) -> None:
    codec = codec_of(hint, "it", {Report: REPORT})
    written = codec.encode(given)
    assert written == decided
    assert type(written) is type(decided)
    rebuilt = codec.decode(written)
    assert rebuilt == received
    assert type(rebuilt) is type(received)
    assert codec.encode(rebuilt) == decided


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"

    __repr__ = __str__


class Shade(enum.StrEnum):
    DARK = "dark"


@pytest.mark.parametrize("hint", [str, Any], ids=str)
def test_a_text_of_another_class_is_plain_text(hint: Any) -> None:
    for given, plain in ((Text("/etc/passwd"), "/etc/passwd"), (Shade.DARK, "dark")):
        written = codec_of(hint, "it").encode(given)
        assert (written, type(written)) == (plain, str)


@pytest.mark.parametrize(
    ("hint", "value", "says"),
    [
        (str, 5, "a string, not int"),
        (str, b"x", "a string, not bytes"),
        (int, True, "an integer, not bool"),
        (int, 1.0, "an integer, not float"),
        (float, "1", "a number, not str"),
        (bool, 1, "true or false, not int"),
        (list[str], "abc", "an array, not str"),
        (list[int], [1, "2"], "an integer, not str"),
        (dict[str, int], [1], "an object, not list"),
        (dict, {1: 2}, "a string, not int"),
        (tuple[str, int], ["a"], "an array of 2"),
        (Colour, "green", "one of 'red', 'blue'"),
        (Literal[1], True, "one of 1"),
        (Literal[1], 1.0, "one of 1"),
        (Options, {"name": "x"}, "depth"),
        (Options, {"depth": 1, "extra": 1}, "extra"),
        (date, datetime(2026, 1, 2, tzinfo=UTC), "a date, not datetime"),
        (date, "tomorrow", "not the text of a date"),
        (UUID, "1", "not the text of a UUID"),
        (Decimal, "one", "not the text of a Decimal"),
        (bytes, "not base64!", "not the text of a bytes"),
        (int | None, "x", "str is none of"),
        (Any, object(), "a object has no JSON form"),
        (Any, {"when": date(2026, 1, 2)}, "a date has no JSON form"),
        (Any, {1, 2}, "a set has no JSON form"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_a_value_of_another_type_is_refused_and_not_converted(hint: Any, value: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        codec_of(hint, "it").encode(value)


def test_what_holds_itself_is_refused_before_it_is_followed_far() -> None:
    knot: list[Any] = []
    knot.append(knot)
    wide: list[Any] = []
    for _ in range(40):
        wide = [wide, wide]  # forty lists, and a trillion values
    for value in (knot, wide):
        with pytest.raises(InvalidInput, match="holds itself"):
            codec_of(Any, "it").encode(value)


def test_the_refusal_names_the_argument_and_never_the_value() -> None:
    with pytest.raises(InvalidInput) as caught:
        signature_of(lambda path, token: None, name="tool").bind(("a", {"k": b"hunter2"}), {})
    assert str(caught.value) == "Argument 'token': a bytes has no JSON form; give the tool a codec for it."


def test_a_codec_of_ones_own_is_not_trusted() -> None:
    def fails(_value: Any) -> Any:
        raise ValueError("hunter2")

    for encode, says in ((fails, r"could not be encoded \(ValueError\)"), (lambda value: value, "has no JSON form")):
        codec = codec_of(Report, "it", {Report: Codec({}, encode, Report)})
        with pytest.raises(InvalidInput, match=says):
            codec.encode(Report("x"))
    with pytest.raises(InvalidInput, match="NaN"):
        codec_of(Report, "it", {Report: Codec({}, lambda _: float("nan"), Report)}).encode(Report("x"))


# -- what cannot be a tool


def refused(function: Any) -> str:
    with pytest.raises(SetupError) as caught:
        signature_of(function)
    return str(caught.value)


def test_a_type_that_json_cannot_carry_is_refused_when_the_tool_is_made() -> None:
    def tool(report: Report) -> None: ...

    assert refused(tool) == (
        "Parameter 'report' of tool is a Report, which JSON cannot carry: give `codecs={Report: Codec(...)}`, "
        "or hold it in the function's closure or in `self`."
    )


def test_an_object_with_other_keys_than_strings_is_refused_when_the_tool_is_made() -> None:
    def tool(pairs: dict[int, str]) -> None: ...

    assert "'pairs' of tool is a dict" in refused(tool)


def test_an_annotation_that_cannot_be_resolved_is_refused() -> None:
    def tool(path: Missing) -> None: ...

    assert refused(tool).startswith("An annotation of tool cannot be resolved (name 'Missing' is not defined)")


def test_a_default_that_does_not_fit_is_refused() -> None:
    def tool(path: str = 5) -> None: ...  # type: ignore[assignment]

    assert refused(tool) == "Parameter 'path' of tool has a default that does not fit: it must be a string, not int."


# -- methods


class Store:
    def delete(self, path: str) -> str:
        return path

    @staticmethod
    def list(path: str) -> str:
        return path


def names(signature: Signature) -> list[str]:
    return [parameter.name for parameter in signature.parameters]


def test_the_object_of_a_method_is_no_argument() -> None:
    signature = signature_of(Store.delete)
    assert (signature.name, signature.receiver, names(signature)) == ("Store.delete", True, ["path"])


def test_a_bound_method_and_a_static_one_have_no_receiver() -> None:
    for function in (Store().delete, Store.list):
        signature = signature_of(function)
        assert (signature.receiver, names(signature)) == (False, ["path"])


def test_an_argument_named_self_outside_a_class_is_an_argument() -> None:
    def tool(self: str) -> str:
        return self

    assert names(signature_of(tool)) == ["self"]
