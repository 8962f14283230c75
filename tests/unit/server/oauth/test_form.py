"""A form that two readers could read differently, or that says what has no meaning here, is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.canonical import canonical
from forestall.server.http.message import Request
from forestall.server.oauth.form import MAX_BODY, MAX_PARAMETERS, MEDIA_TYPE, read_details, read_form
from forestall.server.oauth.refusal import Code, Refusal
from tests.desk import ISSUER, Desk, exchange, opening


def read(body: bytes, kind: str = MEDIA_TYPE, query: str = "") -> Any:
    return read_form(Request("POST", "/token", query, {"content-type": kind}, body, ISSUER))


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(st.dictionaries(texts.filter(bool), texts, max_size=MAX_PARAMETERS))
def test_a_form_is_read_as_it_was_written(form: dict[str, str]) -> None:
    assert read(urlencode(form).encode()) == {name: value for name, value in form.items() if value}


@given(st.binary(max_size=200))
def test_any_bytes_are_a_form_or_are_refused(body: bytes) -> None:
    form: dict[str, str] = {}
    with suppress(Refusal):
        form = read(body)
    assert all(isinstance(value, str) and value for value in form.values())


@pytest.mark.parametrize(
    ("body", "more"),
    [
        (b"a=1&a=2", {}),
        (b"a=1&a=", {}),
        (b"a=1", {"kind": "application/json"}),
        (b"a=1", {"kind": ""}),
        (b"a=1", {"query": "grant_type=x"}),
        (b"a=%ff", {}),
        ("a=\u00e4".encode(), {}),
        (b"a", {}),
        (b"a=" + b"x" * MAX_BODY, {}),
        (b"&".join(b"a%d=1" % number for number in range(MAX_PARAMETERS + 1)), {}),
    ],
)
def test_a_form_with_two_meanings_or_none_is_refused(body: bytes, more: dict[str, str]) -> None:
    with pytest.raises(Refusal) as caught:
        read(body, **more)
    assert caught.value.code is Code.INVALID_REQUEST


def test_a_charset_beside_the_media_type_changes_nothing() -> None:
    assert read(b"a=1", "Application/X-WWW-Form-Urlencoded; charset=UTF-8") == {"a": "1"}


@pytest.mark.parametrize("text", ["", "{}", "[", '[{"a":1,"a":2}]', "null", "[" * 20 + "]" * 20, '"' + "x" * 40_000])
def test_details_are_a_list_with_one_meaning(text: str) -> None:
    with pytest.raises(Refusal) as caught:
        read_details({"authorization_details": text})
    assert caught.value.code is Code.INVALID_DETAILS


@given(st.lists(st.dictionaries(texts, texts, max_size=3), max_size=3))
def test_details_are_read_as_they_were_written(details: Any) -> None:
    assert read_details({"authorization_details": canonical(details).decode()}) == details


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": ""}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "refresh_token"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"scope": "all"}, "invalid_scope"),
        ({"client_secret": "x"}, "invalid_request"),
        ({"client_assertion_type": "urn:other"}, "invalid_request"),
        ({"client_assertion": ""}, "invalid_request"),
        ({"client_id": "agent-b"}, "invalid_client"),
        ({"audience": "https://other.example"}, "invalid_target"),
        ({"resource": "https://other.example"}, "invalid_target"),
        ({"authorization_details": "[]"}, "invalid_authorization_details"),
        (exchange("t", "urn:ietf:params:oauth:token-type:refresh_token"), "invalid_request"),
        ({**exchange("t", "urn:ietf:params:oauth:token-type:id_token"), "actor_token": "t"}, "invalid_request"),
        (exchange("t", "urn:ietf:params:oauth:token-type:id_token", wanted="urn:x"), "invalid_request"),
        (exchange("t", "urn:ietf:params:oauth:token-type:id_token"), "invalid_request"),
        ({"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": "t"}, "invalid_grant"),
    ],
)
def test_a_request_that_has_no_meaning_here_is_refused(desk: Desk, form: dict[str, str], error: str) -> None:
    agent = desk.agent("agent-a")
    answer = desk.post("/token", {**agent.assertion(), **opening(), **form}, agent.proof())
    assert answer.error == error
    assert set(answer.body) == {"error", "decision"}
    assert desk.denial(answer)["detail"].startswith("/token")


def test_a_secret_in_a_header_is_refused(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    headers = {**agent.proof(), "authorization": "Basic YTpi"}
    assert desk.post("/token", {**agent.assertion(), **opening()}, headers).error == "invalid_request"


def test_our_own_name_is_a_good_target(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    assert agent.ask({**opening(), "resource": ISSUER, "audience": ISSUER}).status == 200


@pytest.mark.parametrize(
    "members",
    [
        {"type": "urn:other"},
        {"anything": 1},
        {"mandate": 7},
        {"mandate": ""},
        {"mandate": "m" * 129},
        {"purpose": "p" * 1025},
        {"request": "r" * 8193},
        {"request": "r", "signed_request": "s"},
        {"parameters": []},
        {"parameters": {"order": 4711}},
        {"expires_in_s": 0},
        {"expires_in_s": 1.5},
        {"expires_in_s": True},
        {"expires_in_s": 366 * 86_400 + 1},
        {"tools": []},
        {"tools": "files/*"},
        {"tools": [7]},
        {"tools": ["x" * 1025]},
        {"effects": ["anything"]},
    ],
)
def test_what_is_asked_for_has_a_closed_form(desk: Desk, members: dict[str, Any]) -> None:
    agent = desk.agent("agent-a")
    answer = agent.open(**members)
    assert answer.error == "invalid_authorization_details"
