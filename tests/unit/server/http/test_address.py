from __future__ import annotations

import pytest

from forestall.server.http.address import Address, Names, parse_listen


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8443", Address("127.0.0.1", 8443)),
        ("localhost:0", Address("127.0.0.1", 0)),
        ("[::1]:1", Address("::1", 1)),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535)),
    ],
)
def test_where_to_listen(text: str, address: Address) -> None:
    assert parse_listen(text) == address


def test_names_on_this_machine() -> None:
    names = Names.of([Address("127.0.0.1", 80), Address("::1", 8080)], "", secure=False)
    assert names.origin("127.0.0.1:80") == "http://127.0.0.1:80"
    assert names.origin("127.0.0.1") == "http://127.0.0.1:80"
    assert names.origin("LOCALHOST:80") == "http://localhost:80"
    assert names.origin("[::1]:8080") == "http://[::1]:8080"
    assert names.origin("[::1]") is None
    assert names.origin("rebound.example:80") is None
    assert names.origin("") is None


def test_behind_what_ends_tls_the_issuer_says_what_it_is_called() -> None:
    names = Names.of([Address("127.0.0.1", 8080)], "https://Forestall.example/tenant", secure=False)
    assert names.origin("forestall.example") == "https://forestall.example"
    assert names.origin("forestall.example:443") == "https://forestall.example"
    assert names.origin("forestall.example:80") is None
    assert names.origin("127.0.0.1:8080") == "http://127.0.0.1:8080"


def test_an_issuer_with_a_port() -> None:
    names = Names.of([], "https://forestall.example:8443", secure=True)
    assert names.origin("forestall.example:8443") == "https://forestall.example:8443"
    assert names.origin("forestall.example") is None
