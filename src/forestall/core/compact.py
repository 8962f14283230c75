"""Compact JSON text, for what is written on every call.

`json.JSONEncoder.encode` makes an encoder for each value that it is given; one that stays takes a third off a small
message. Where Python has no encoder in C, it is the ordinary one.
"""

from __future__ import annotations

import json
import json.encoder
from collections.abc import Callable
from typing import Any

_SEPARATORS = (",", ":")


def encoder(*, sort_keys: bool = False, allow_nan: bool = False) -> Callable[[Any], str]:
    """What writes a value without spaces, other than ASCII as it is. It raises as `json.dumps` does."""
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        plain = json.JSONEncoder(
            ensure_ascii=False, sort_keys=sort_keys, separators=_SEPARATORS, allow_nan=allow_nan, check_circular=False
        )
        return plain.encode
    text = json.encoder.encode_basestring
    write = make(None, _refuse, text, None, _SEPARATORS[1], _SEPARATORS[0], sort_keys, False, allow_nan)
    return lambda value: "".join(write(value, 0))


def _refuse(value: object) -> Any:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")
