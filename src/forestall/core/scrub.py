"""Does a secret come back in what a tool says? Best effort, in linear time.

It is found as it is, in base64 (both alphabets, at any offset, padded or not), in hex, percent-encoded, JSON-escaped,
backwards, in the other case, and split by white space, punctuation or the parts of a message. It is not found
encrypted, compressed, in an encoding that is not named here, spread over several messages, or in pieces: who wants to
get a secret out of a tool that has it can. What keeps it harmless is that it ends with its task or action.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

MIN_SECRET = 8
"""Characters, and letters and digits among them. What is shorter is found in texts that know nothing of it."""

MIN_LINE = 24
"""Letters and digits of one line of a long secret, such as a key in PEM, that count as a secret of their own."""

MIN_ENCODED = 6
"""Letters and digits that are left of a secret in base64 once what depends on its neighbours is taken off."""

LAYERS = 3
"""Encodings that are taken off, one under the other: JSON within JSON, percent signs within percent signs."""

MAX_ESCAPES = 50_000
"""Percent signs and backslashes of one text that are looked behind, so that a hostile one takes milliseconds."""

PUBLIC = frozenset(
    {"user", "username", "host", "port", "url", "database", "access_key_id", "namespace", "api", "ca", "expires_at"}
)
"""Fields of a `Secret` that are none."""

_ALPHANUMERIC = bytes(range(0x30, 0x3A)) + bytes(range(0x41, 0x5B)) + bytes(range(0x61, 0x7B))
_NOT_ALPHANUMERIC = bytes(set(range(256)) - set(_ALPHANUMERIC))
_NOT_HEX = bytes(set(range(256)) - set(b"0123456789abcdef"))
_PASSWORD = re.compile(r"://[^/?#@:\s]*:([^/?#@\s]+)@")
"""In a URL (RFC 3986, 3.2.1): it opens the door by itself, whatever the rest of the URL is."""

_ESCAPE = re.compile(rb"\\u([0-9a-fA-F]{4})|\\x([0-9a-fA-F]{2})|\\([^ux])")


def secrets_in(fields: Mapping[str, str], *placed: str) -> tuple[str, ...]:
    """What must not come back of a credential with these fields, put in place as these texts."""
    found = [value for name, value in fields.items() if name not in PUBLIC]
    for value in (*fields.values(), *placed):
        found += [form for password in _PASSWORD.findall(value) for form in (password, unquote(password))]
    whole = [value for value in placed if not any(one in value for one in found)]
    return tuple(dict.fromkeys(value for value in (*found, *whole) if len(value) >= MIN_SECRET))


class Scrubber:
    """Finds these secrets. Those that are shorter than `MIN_SECRET` are not looked for."""

    def __init__(self, secrets: Collection[str] = ()) -> None:
        wanted = [one for one in map(_bytes, _with_lines(secrets)) if len(one) >= MIN_SECRET]
        self._exact = tuple(dict.fromkeys(wanted))
        """As they are: also those of signs alone."""
        plain = [one for one in map(_squeezed, wanted) if len(one) >= MIN_SECRET]
        folded = [one.lower() for one in plain]
        self._folded = tuple(dict.fromkeys([*folded, *(one[::-1] for one in folded)]))
        self._base64 = tuple(dict.fromkeys(part for one in wanted for part in _base64_of(one)))
        self._hex = tuple(dict.fromkeys(form for one in wanted for form in _hex_of(one)))

    def __bool__(self) -> bool:
        return bool(self._exact)

    def __repr__(self) -> str:
        return f"Scrubber({len(self._exact)} secrets)"

    def finds(self, text: bytes) -> bool:
        """In a text, such as a line of a log."""
        return bool(self._exact) and any(map(self._finds_here, _layers(text)))

    def finds_in(self, value: Any) -> bool:
        """In any part of a JSON value, or in what its parts are together."""
        return bool(self._exact) and self.finds(_flat(value))

    def _finds_here(self, text: bytes) -> bool:
        if any(one in text for one in self._exact):
            return True
        squeezed = _squeezed(text)
        if any(one in squeezed for one in self._base64):
            return True
        folded = squeezed.lower()
        if any(one in folded for one in self._folded):
            return True
        digits = folded.replace(b"0x", b"").translate(None, _NOT_HEX)
        return any(one in digits for one in self._hex)


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _with_lines(secrets: Iterable[str]) -> Iterator[str]:
    for secret in secrets:
        yield secret
        lines = secret.splitlines()
        if len(lines) > 1:
            yield from (line for line in lines if len(_squeezed(_bytes(line))) >= MIN_LINE)


def _squeezed(text: bytes) -> bytes:
    """Its letters and digits."""
    return text.translate(None, _NOT_ALPHANUMERIC)


def _base64_of(secret: bytes) -> Iterator[bytes]:
    """Its letters and digits at each of the three offsets, without what its neighbours have a part in."""
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + secret)
        whole = encoded[-(-offset * 8 // 6) : (offset + len(secret)) * 8 // 6]
        for form in (_squeezed(whole), _squeezed(whole.translate(bytes.maketrans(b"+/", b"-_")))):
            if len(form) >= MIN_ENCODED:
                yield form


def _hex_of(secret: bytes) -> Iterator[bytes]:
    """Byte for byte, and with four digits each, as JSON escapes it."""
    yield secret.hex().encode()
    yield "".join(f"{byte:04x}" for byte in secret).encode()


def _layers(text: bytes) -> Iterator[bytes]:
    """The text, and what it is once an encoding is taken off."""
    yield text
    for _ in range(LAYERS):
        if text.count(b"\\") + text.count(b"%") > MAX_ESCAPES:
            return
        bare = _ESCAPE.sub(_unescaped, text) if b"\\" in text else text
        bare = unquote_to_bytes(bare) if b"%" in bare else bare
        if bare == text:
            return
        yield bare
        text = bare


def _unescaped(found: re.Match[bytes]) -> bytes:
    digits = found[1] or found[2]
    if digits is None:
        return b"\n" if found[3] in b"nrtbf" else found[3]
    return chr(int(digits, 16)).encode("utf-8", "surrogatepass")


def _flat(value: Any) -> bytes:
    """All texts and numbers of a JSON value: those that have one name together, whatever stands between them."""
    groups: dict[str, list[str]] = {"": []}
    waiting: list[tuple[str, Any]] = [("", value)]
    while waiting:
        name, one = waiting.pop()
        if type(one) is dict:
            groups[""].extend(one)
            waiting.extend(reversed(one.items()))
        elif type(one) is list:
            waiting.extend((name, part) for part in reversed(one))
        elif type(one) is str:
            groups.setdefault(name, []).append(one)
        elif type(one) is int or type(one) is float:
            groups.setdefault(name, []).append(repr(one))
    return b"\n".join(_bytes("\n".join(texts)) for texts in groups.values())
