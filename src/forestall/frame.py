"""Frames of the decision point's socket: 4 bytes of big-endian length, one JSON object (docs/adr/0003)."""

from __future__ import annotations

from typing import Any

from forestall.core.canonical import parse
from forestall.core.compact import encoder
from forestall.core.errors import InvalidInput

PROTOCOL = 2

MAX_FRAME = 16 * 1024 * 1024
"""Bytes. Larger than any message the gateway accepts, so that a refusal is always its own, with a sentence."""

HEAD = 4

CHUNK = 32 * 1024
"""Bytes that an end of the socket reads at a time, into a buffer of its own: a new one costs more than the read."""

_compact = encoder()


def encode(message: dict[str, Any]) -> bytes:
    body = _compact(message).encode()
    if len(body) > MAX_FRAME:
        raise InvalidInput(f"The message is {len(body)} bytes; a frame holds {MAX_FRAME}.")
    return len(body).to_bytes(HEAD, "big") + body


def length(head: bytes | bytearray) -> int:
    """How many bytes follow these four."""
    size = int.from_bytes(head, "big")
    if size > MAX_FRAME:
        raise InvalidInput(f"A frame announces {size} bytes; the limit is {MAX_FRAME}.")
    return size


def decode(body: bytes) -> dict[str, Any]:
    message = parse(body, max_bytes=MAX_FRAME, max_depth=128)
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise InvalidInput("A frame is not an object with a type.")
    return message
