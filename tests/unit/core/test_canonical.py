"""RFC 8785's own examples, and everything that two readers could read differently."""

from __future__ import annotations

import enum
import hashlib
import json
import random
import shutil
import struct
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from forestall.core.canonical import MAX_DEPTH, MAX_SAFE_INTEGER, canonical, digest, parse
from forestall.core.errors import InvalidInput


def read(text: bytes | str, **limits: Any) -> Any:
    return parse(text, **{"max_bytes": 1_000_000, **limits})


# -- known answers


def test_the_known_answer_for_order_and_numbers() -> None:
    value = read('{"b":1,"a":[1.0,1e21,0.000001,1e-7],"€":"x","\\r":"y","1":"z"}')
    assert canonical(value).decode() == '{"\\r":"y","1":"z","a":[1,1e+21,0.000001,1e-7],"b":1,"€":"x"}'


def test_rfc_8785_section_3_2_2() -> None:
    value = read(
        r"""{"numbers": [333333333.33333329, 1E30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "€$\u000F\u000aA'\u0042\u0022\u005c\\\"\/", "literals": [null, true, false]}"""
    )
    assert canonical(value).decode() == (
        r'{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        r'"string":"€$\u000f\nA' + "'" + r'B\"\\\\\"/"}'
    )


def test_rfc_8785_section_3_2_3_sorts_names_by_utf_16_units() -> None:
    names = ["€", "\r", "\ufb33", "1", "😀", "\u0080", "ö"]
    written = json.loads(canonical(dict.fromkeys(names, 0)), object_pairs_hook=lambda pairs: [n for n, _ in pairs])
    assert written == ["\r", "1", "\u0080", "ö", "€", "😀", "\ufb33"]


@pytest.mark.parametrize(
    ("bits", "text"),
    [  # RFC 8785 appendix B
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("ffefffffffffffff", "-1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("c340000000000000", "-9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("44b52d02c7e14af7", "1.0000000000000001e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef4f", "999999999999999900000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("41b3de4355555554", "333333333.33333325"),
        ("41b3de4355555555", "333333333.3333333"),
        ("41b3de4355555556", "333333333.3333334"),
        ("41b3de4355555557", "333333333.33333343"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_rfc_8785_appendix_b(bits: str, text: str) -> None:
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(number).decode() == text


def test_numbers_as_javascript_writes_them() -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed, so there is no second implementation to compare numbers with")
    chosen = random.Random(8785)
    patterns = [chosen.getrandbits(64).to_bytes(8, "big") for _ in range(20_000)]
    patterns += [struct.pack(">d", 10.0**power * digit) for power in range(-30, 31) for digit in (1, 3, 9.5)]
    finite = [p.hex() for p in patterns if p[0] & 0x7F != 0x7F or p[1] & 0xF0 != 0xF0]
    script = (
        "const r=require('fs').readFileSync(0,'utf8').trim().split('\\n');"
        "console.log(r.map(h=>JSON.stringify(Buffer.from(h,'hex').readDoubleBE(0))).join('\\n'))"
    )
    done = subprocess.run(
        [node, "-e", script], input="\n".join(finite), capture_output=True, text=True, timeout=60, check=True
    )
    theirs = done.stdout.split()
    ours = [canonical(struct.unpack(">d", bytes.fromhex(bits))[0]).decode() for bits in finite]
    assert len(ours) > 20_000
    assert ours == theirs


# -- what has no canonical form


class Colour(enum.StrEnum):
    RED = "red"


class Level(int, enum.Enum):
    LOW = 1


class Ratio(float):
    def __repr__(self) -> str:
        return "a ratio"


def test_subclasses_are_written_as_what_they_hold() -> None:
    assert canonical({"colour": Colour.RED, "level": Level.LOW, "ratio": Ratio(0.5), "pair": (1, 2)}) == (
        b'{"colour":"red","level":1,"pair":[1,2],"ratio":0.5}'
    )


@pytest.mark.parametrize("integer", [MAX_SAFE_INTEGER, -MAX_SAFE_INTEGER])
def test_the_largest_safe_integers_are_written(integer: int) -> None:
    assert canonical([integer]) == f"[{integer}]".encode()
    assert read(f"[{integer}]") == [integer]


@pytest.mark.parametrize(
    "value",
    [2**53, -(2**53), float("nan"), float("inf"), -float("inf"), "\ud800", {"\udfff": 1}, {1: 2}, {None: 1}, b"x", {1}],
    ids=repr,
)
@pytest.mark.parametrize("wrap", [lambda value: value, lambda value: [[value]], lambda value: {"é": value}])
def test_what_has_no_form_is_refused(value: Any, wrap: Any) -> None:
    with pytest.raises(InvalidInput):
        canonical(wrap(value))


def test_what_holds_itself_is_refused() -> None:
    knot: list[Any] = []
    knot.append(knot)
    with pytest.raises(InvalidInput, match="too deep"):
        canonical(knot)


# -- what two readers could read differently


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a":1,"a":1}', "twice"),
        ('{"a":1,"\\u0061":2}', "twice"),
        ('[{"x":{"a":1,"a":2}}]', "twice"),
        ("NaN", "NaN"),
        ("[Infinity]", "Infinity"),
        ("[-Infinity]", "-Infinity"),
        ("9007199254740992", r"2\^53-1"),
        ("-9007199254740992", r"2\^53-1"),
        ("1" + "0" * 5_000, r"2\^53-1"),
        ("1e400", "double"),
        ('"\\ud800"', "surrogate"),
        ('"\\udc00\\ud800"', "surrogate"),
        ('{"\\ud800":1}', "surrogate"),
        ('"\ud800"', "surrogate"),
        ("", "not JSON"),
        ("{} {}", "not JSON"),
        ("{'a':1}", "not JSON"),
        ("[1,]", "not JSON"),
        ("01", "not JSON"),
        ("\u00a0{}", "not JSON"),
        ("{}\u2003", "not JSON"),
        ("\ufeff{}", "not JSON"),
        ('"a\tb"', "not JSON"),
    ],
    ids=lambda text: repr(text)[:20],
)
def test_ambiguous_or_broken_text_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        read(text)


def test_white_space_around_a_value_is_no_part_of_it() -> None:
    assert read(b" \t\r\n{} \t\r\n") == {}


def test_a_surrogate_pair_is_a_character() -> None:
    assert read('"\\ud83d\\ude00"') == "😀"


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    with pytest.raises(InvalidInput, match="UTF-8"):
        read(b'"\xff"')
    with pytest.raises(InvalidInput, match="UTF-8"):
        read(b'"\xed\xa0\x80"')  # a surrogate, encoded as UTF-8 forbids


def test_members_equal_but_for_case_are_refused_where_asked() -> None:
    assert read('{"path":1,"Path":2}') == {"path": 1, "Path": 2}
    for text in ('{"path":1,"Path":2}', '{"straße":1,"STRASSE":2}', '[{"a":{"k":1,"\\u212a":2}}]'):
        with pytest.raises(InvalidInput, match="case"):
            read(text, fold_case=True)


@pytest.mark.parametrize("written", [str, str.encode], ids=["text", "bytes"])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_nesting_has_a_limit(opening: str, closing: str, written: Callable[[str], str | bytes]) -> None:
    each = len(closing)

    def nested(levels: int) -> str | bytes:
        return written(opening * levels + "1" + closing * levels)

    assert read(nested(MAX_DEPTH // each))
    assert read(nested(3), max_depth=3 * each)
    for levels in (MAX_DEPTH // each + 1, 100_000):
        with pytest.raises(InvalidInput, match="deep"):
            read(nested(levels))


@pytest.mark.parametrize("written", [str, str.encode], ids=["text", "bytes"])
def test_what_is_wide_or_says_brackets_is_not_deep(written: Callable[[str], str | bytes]) -> None:
    wide = json.dumps([[[]] * 100, {"[[[{{{": "[" * 100}])
    assert read(written(wide), max_depth=3) == json.loads(wide)
    with pytest.raises(InvalidInput, match="deep"):
        read(written(wide), max_depth=2)


def test_size_has_a_limit() -> None:
    assert read(b"[1]", max_bytes=3) == [1]
    with pytest.raises(InvalidInput, match="4 bytes; the limit is 3"):
        read(b"[12]", max_bytes=3)


def test_what_is_only_carried_may_hold_any_integer() -> None:
    assert read("9007199254740993", exact=False) == 9007199254740993
    with pytest.raises(InvalidInput):
        read("9" * 400, exact=False)


def test_the_form_of_a_large_double_is_carried_but_not_decided_again() -> None:
    form = canonical(1e20)
    assert form == b"100000000000000000000"
    assert read(form, exact=False) == 1e20
    with pytest.raises(InvalidInput):
        read(form)


def test_the_digest_is_sha_256_of_the_form() -> None:
    assert digest({"b": 1, "a": 2.0}) == "sha256:" + hashlib.sha256(b'{"a":2,"b":1}').hexdigest()
