"""Two URLs are the same when every server takes them for the same; what two readers could read differently is none."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.url import MAX_URL, normalise, require_issuer_url, require_location
from tests.tokens import refused


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://a.example", "https://a.example/"),
        ("https://a.example/", "https://a.example/"),
        ("HTTPS://A.Example:443/B", "https://a.example/B"),
        ("http://a.example:80/", "http://a.example/"),
        ("http://a.example:443/", "http://a.example:443/"),
        ("https://a.example:/", "https://a.example/"),
        ("https://[::1]:8080/b", "https://[::1]:8080/b"),
        ("https://a.example/b?c=d#e", "https://a.example/b"),
        ("https://a.example/%7euser/%c3%a9%2f", "https://a.example/~user/%C3%A9%2F"),
        ("https://a.example//b", "https://a.example//b"),
        ("https://a.example/b;c=d", "https://a.example/b;c=d"),
    ],
)
def test_a_url_has_one_spelling(url: str, normal: str) -> None:
    assert normalise(url) == normal
    assert normalise(normal) == normal


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example",
        "//a.example/",
        "ftp://a.example/",
        "file:///etc/passwd",
        "https:///b",
        "https://",
        "https://a.example:65536/",
        "https://a.example:x/",
        "https://user@a.example/",
        "https://user:word@a.example/",
        "https://a.example@/",
        "https://a%2eexample/",
        "https://[::1/",
        "https://a.example\\@b.example/",
        "https://a.example/b c",
        "https://a.example/\tb",
        "https://a.example/b\n",
        " https://a.example/",
        "https://a.example/é",
        "https://é.example/",
        "https://a.example/.",
        "https://a.example/b/..",
        "https://a.example/../b",
        "https://a.example/%2e%2E/b",
        "https://a.example/%",
        "https://a.example/%2",
        "https://a.example/%zz",
        "https://a.example/<b>",
        "https://a.example/" + "b" * MAX_URL,
    ],
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with refused(Fault.MALFORMED):
        normalise(url)


@given(st.text(max_size=40).map(lambda rest: "https://" + rest) | st.text(max_size=40))
def test_any_text_has_one_spelling_or_is_refused(text: str) -> None:
    normal = "https://refused.example/"
    with suppress(InvalidProof):  # whatever else is raised fails the test
        normal = normalise(text)
    assert normalise(normal) == normal


def test_a_location_is_https_or_this_machine() -> None:
    for url in ("https://a.example/keys", "https://a.example/keys?policy=one"):
        assert require_location(url, loopback=False) == url
    for url in ("http://127.0.0.1:8080/keys", "http://[::1]/keys", "http://localhost/keys"):
        assert require_location(url, loopback=True) == url
        with refused(Fault.MALFORMED):
            require_location(url, loopback=False)
    for url in ("http://a.example/", "http://127.0.0.1.evil.example/", "http://127.0.0.2/", "https://a.example/#b"):
        with refused(Fault.MALFORMED):
            require_location(url, loopback=True)


def test_an_issuer_has_no_query() -> None:
    assert require_issuer_url("https://a.example/b", loopback=False) == "https://a.example/b"
    for url in ("https://a.example/?b", "https://a.example/#b", "a.example", "http://a.example"):
        with pytest.raises(ValueError, match=r"issuer|malformed"):
            require_issuer_url(url, loopback=False)
