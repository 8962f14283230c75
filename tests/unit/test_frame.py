"""Frames of the decision point's socket, and what is refused as one."""

from __future__ import annotations

import json

import pytest

from forestall import frame
from forestall.core.errors import InvalidInput


def test_a_frame_is_a_big_endian_length_and_one_object() -> None:
    data = frame.encode({"type": "hello", "name": "ü"})
    assert data == b"\x00\x00\x00\x1c" + '{"type":"hello","name":"ü"}'.encode()
    assert frame.length(data[: frame.HEAD]) == len(data) - frame.HEAD
    assert frame.decode(data[frame.HEAD :]) == {"type": "hello", "name": "ü"}


def test_a_head_announces_no_more_than_a_frame_holds() -> None:
    assert frame.length(frame.MAX_FRAME.to_bytes(4, "big")) == frame.MAX_FRAME
    for size in (frame.MAX_FRAME + 1, 0xFFFFFFFF):
        with pytest.raises(InvalidInput, match=f"announces {size} bytes"):
            frame.length(size.to_bytes(4, "big"))


def test_a_message_that_fits_no_frame_is_not_sent() -> None:
    with pytest.raises(InvalidInput, match="a frame holds"):
        frame.encode({"type": "ask", "arguments": "x" * frame.MAX_FRAME})


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "not an object with a type"),
        (b"{}", "not an object with a type"),
        (b'{"type":1}', "not an object with a type"),
        (b'{"type":null}', "not an object with a type"),
        (b'"hello"', "not an object with a type"),
        (b'{"type":"a","type":"b"}', "twice"),
        (b'{"type":"a"}{"type":"b"}', "not JSON"),
        (b'{"type":"a","n":NaN}', "NaN"),
        (b'{"type":"a","n":9007199254740993}', "2\\^53-1"),
        (b'{"type":"a","s":"\\ud800"}', "surrogate"),
        (b"\xff\xfe", "not UTF-8"),
        (b'{"type":"a","n":' + b"[" * 500 + b"]" * 500 + b"}", "nests"),
        (b'{"type":"a","n":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nests"),
    ],
)
def test_what_is_not_one_message_to_every_reader_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        frame.decode(body)


def test_a_body_larger_than_a_frame_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidInput, match="limit"):
        frame.decode(b'{"type":"a"}' + b" " * frame.MAX_FRAME)


def test_a_call_nested_as_deep_as_the_gateway_accepts_fits_a_frame() -> None:
    deep: object = "bottom"
    for _ in range(64):
        deep = [deep]
    message = {"type": "ask", "id": 1, "arguments": {"value": deep}}
    assert frame.decode(frame.encode(message)[frame.HEAD :]) == json.loads(json.dumps(message))
