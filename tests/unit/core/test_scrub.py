"""What is found of a secret, and what the module says is not."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from urllib.parse import quote

import pytest

from forestall.core.scrub import MAX_ESCAPES, Scrubber, secrets_in

SECRET = "pX7/w+Zq-93_kLmN"
BYTES = SECRET.encode()


def _words(text: str, by: str = " ") -> str:
    return by.join(text)


FORMS: dict[str, Callable[[], str]] = {
    "as it is": lambda: SECRET,
    "in a text": lambda: f"postgresql://u:{SECRET}@host/db",
    "base64": lambda: base64.b64encode(BYTES).decode(),
    "base64 without padding": lambda: base64.b64encode(BYTES).decode().rstrip("="),
    "base64 for URLs": lambda: base64.urlsafe_b64encode(BYTES).decode(),
    "base64 in lines": lambda: base64.encodebytes(b"a: " * 30 + BYTES + b" :b" * 30).decode(),
    "hex": BYTES.hex,
    "hex in capitals": lambda: BYTES.hex().upper(),
    "hex with colons": lambda: BYTES.hex(":"),
    "a dump": lambda: ", ".join(hex(byte) for byte in BYTES),
    "percent-encoded": lambda: quote(SECRET, safe=""),
    "percent-encoded, every sign": lambda: "".join(f"%{byte:02x}" for byte in BYTES),
    "percent-encoded twice": lambda: quote(quote(SECRET, safe=""), safe=""),
    "escaped": lambda: "".join(f"\\u{byte:04X}" for byte in BYTES),
    "escaped in part": lambda: f"\\u{BYTES[0]:04x}" + SECRET[1:],
    "JSON in JSON": lambda: json.dumps(json.dumps({"x": "".join(f"\\u{byte:04x}" for byte in BYTES)})),
    "backwards": lambda: SECRET[::-1],
    "in capitals": SECRET.upper,
    "apart": lambda: _words(SECRET),
    "apart by lines": lambda: _words(SECRET, "\n"),
    "apart by signs": lambda: _words(SECRET, " - "),
    "quoted": lambda: repr(SECRET),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_secret_is_found_in_every_form_that_is_promised(form: str) -> None:
    said = FORMS[form]()
    scrubber = Scrubber([SECRET])
    assert scrubber.finds(said.encode())
    assert scrubber.finds_in({"content": [{"type": "text", "text": f"before {said} after"}]})
    assert not Scrubber([SECRET[::2] + "other"]).finds(said.encode()), "another secret is not in it"


@pytest.mark.parametrize("before", range(6))
@pytest.mark.parametrize("after", range(4))
def test_base64_of_more_than_the_secret_is_found_at_every_offset(before: int, after: int) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        said = encode(b"\xff" * before + BYTES + b"\xff" * after)
        assert Scrubber([SECRET]).finds(said)


def test_a_secret_over_several_parts_of_a_message_is_found() -> None:
    parts = [{"type": "text", "text": SECRET[at : at + 3]} for at in range(0, len(SECRET), 3)]
    assert Scrubber([SECRET]).finds_in({"content": parts, "isError": False})
    assert not Scrubber([SECRET]).finds_in({"content": parts[1:]})
    assert Scrubber([SECRET]).finds_in({"list": list(SECRET)})
    assert Scrubber([SECRET]).finds_in({SECRET: 1}), "a member's name is said as well"


def test_a_number_is_a_text_too() -> None:
    assert Scrubber(["1234567890"]).finds_in({"pin": 1234567890})


def test_what_is_short_is_not_looked_for() -> None:
    assert not Scrubber(["secret7"])
    assert not Scrubber(["secret7"]).finds(b"secret7")
    assert not Scrubber().finds_in({"a": "b"})


def test_a_secret_of_signs_is_found_as_it_is_alone() -> None:
    scrubber = Scrubber(["!?!?!?!?!?"])
    assert scrubber.finds(b"x!?!?!?!?!?x")
    assert not scrubber.finds(b"nothing but letters")


def test_a_secret_outside_of_ascii_is_found() -> None:
    assert Scrubber(["geheimnißvoll"]).finds_in({"a": "geheimnißvoll"})


def test_one_line_of_a_long_secret_is_found() -> None:
    lines = [base64.b64encode(bytes([n]) * 48).decode() for n in range(5)]
    pem = "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----"])
    scrubber = Scrubber([pem])
    assert scrubber.finds(lines[2].encode())
    assert not scrubber.finds(b"-----BEGIN PRIVATE KEY-----"), "every key begins like that"


def test_a_text_of_nothing_but_escapes_is_not_looked_behind_and_all_of_them_are_still_read() -> None:
    noise = "\\\\" * MAX_ESCAPES
    whole = "".join(f"\\u{byte:04x}" for byte in BYTES)
    assert Scrubber([SECRET]).finds((noise + whole).encode())
    assert not Scrubber([SECRET]).finds((noise + f"\\u{BYTES[0]:04x}" + SECRET[1:]).encode())


def test_what_must_not_come_back_is_what_is_secret() -> None:
    fields = {"user": "forestall-00000000-abc", "host": "db.example.org", "password": SECRET, "pin": "1234"}
    assert secrets_in(fields, f"postgresql://u:{SECRET}@db.example.org") == (SECRET,)
    assert secrets_in({"host": "db.example.org"}, "made of nothing known") == ("made of nothing known",)


def test_the_password_in_a_url_is_a_secret_of_its_own() -> None:
    url = "postgresql://orders:pw%2Dof-orders@db.example.org/orders"
    found = Scrubber(secrets_in({"url": url}, url))
    assert found.finds(b"it is pw%2Dof-orders")
    assert found.finds(b"it is pw-of-orders")
    assert not found.finds(b"db.example.org/orders")
    assert secrets_in({"url": "https://db.example.org:5432/a@b"}) == ()


def test_a_secret_is_in_no_text_about_the_scrubber() -> None:
    assert SECRET not in repr(Scrubber([SECRET]))
