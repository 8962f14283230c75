"""`backend = "oauth"`: every setting that cannot be is found when the file is read, with its place."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.credential.oauth import OAuthBroker
from forestall.adapter.issuing import load_or_create
from forestall.core.ask import CannotDo
from forestall.core.errors import SetupError
from forestall.core.model import Scope
from forestall.core.place import Place, Where
from forestall.core.reason import Reason
from forestall.credentials.oauth import open_broker
from tests.backends.leases import READ, action, context, grant, lease, permit, table
from tests.backends.upstream import ASSERTION, write_files, written

AS = '"https://login.example/tenant"'
TOKEN = '"https://login.example/token"'
REVOKE = '"https://login.example/revoke"'


def opened(folder: Path, *, scope: Scope = Scope.ACTION, place: Place | None = None, **given: str) -> OAuthBroker:
    write_files(folder)
    text = written(**{"issuer": AS, **given})
    return open_broker(table(folder, text), replace(context(folder, scope=scope, timeout_s=1), place=place))


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "nobody to ask": ({"issuer": ""}, "write `issuer`"),
    "an issuer with a query": ({"issuer": '"https://a.example/?b"'}, "an issuer has no query"),
    "an issuer elsewhere without TLS": ({"issuer": '"http://a.example"'}, "not https"),
    "an endpoint without TLS": ({"token_endpoint": '"http://a.example/"'}, "not https"),
    "half of the endpoints": ({"revocation_endpoint": REVOKE}, "says all endpoints"),
    "no end": ({"token_endpoint": TOKEN}, "unrevocable = true"),
    "two ends": ({"token_endpoint": TOKEN, "revocation_endpoint": REVOKE, "unrevocable": "true"}, "take one of both"),
    "nobody to ask about it": ({"token_endpoint": TOKEN, "revocation_endpoint": REVOKE}, "needs an `introspection_"),
    "no grant": ({"grant": ""}, "has no `grant`"),
    "another grant": ({"grant": '"password"'}, "`grant` is one of"),
    "no scopes": ({"scopes": ""}, "has no `scopes`"),
    "empty scopes": ({"scopes": "{ read = [] }"}, "what each effect may have"),
    "an effect that is none": ({"scopes": '{ reed = ["a"] }'}, "did you mean `read`"),
    "a scope that is two": ({"scopes": '{ read = ["a b"] }'}, "is no scope"),
    "a scope with a quote": ({"scopes": "{ read = ['\"'] }"}, "is no scope"),
    "a resource with a fragment": ({"resource": '["https://a/#b"]'}, "absolute URI"),
    "a resource that is relative": ({"resource": '["/a"]'}, "absolute URI"),
    "a life that is none": ({"token_lifetime_s": "-1"}, "whole number"),
    "an unknown key": ({"scope_": '"a"'}, "unknown key `scope_`"),
    "a client without a name": ({"client": "{ }"}, "has no `id`"),
    "a client with nothing to show": ({"client": '{ id = "a" }'}, "shows itself by"),
    "a client with two": ({"client": '{ id = "a", key_file = "client.pem", secret_file = "secret" }'}, "shows itself"),
    "a key that is not there": ({"client": '{ id = "a", key_file = "no.pem" }'}, "cannot be read"),
    "a key that is none": ({"client": '{ id = "a", key_file = "secret" }'}, "no private key in PEM"),
    "another key's algorithm": (
        {"client": '{ id = "a", key_file = "client.pem", algorithm = "RS256" }'},
        "no private key",
    ),
    "an algorithm without a key": ({"client": '{ id = "a", secret_file = "secret", kid = "a" }'}, "there is none"),
    "a certificate that is none": ({"client": '{ id = "a", certificate_file = "secret" }'}, "are not a certificate"),
    "half of a certificate": (
        {"client": '{ id = "a", key_file = "client.pem", certificate_key_file = "client.pem" }'},
        "goes with a `certificate_file`",
    ),
    "authorities that are none": ({"ca_file": '"secret"'}, "does not hold certificates"),
    "an exchange without words": ({"grant": '"token_exchange"'}, "who we are to whoever reads our words"),
    "words that nobody reads": ({"assertion": ASSERTION}, "nobody is told"),
    "a provider that is not asked": ({"identity_provider": "{ }"}, "`id_jag` alone"),
    "an ID-JAG for nobody": (
        {
            "issuer": "",
            "token_endpoint": TOKEN,
            "unrevocable": "true",
            "introspect": "",
            "grant": '"id_jag"',
            "assertion": ASSERTION,
        },
        "for one issuer",
    ),
    "a detail without a type": ({"authorization_details": '[{ a = "b" }]'}, "has a `type`"),
    "an argument in a longer text": ({"authorization_details": '[{ type = "a", b = "x{c}" }]'}, "stands alone"),
    "an argument without a name": ({"authorization_details": '[{ type = "a", b = "{}" }]'}, "stands alone"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_cannot_be_is_found_at_once(tmp_path: Path, wrong: str) -> None:
    given, says = WRONG[wrong]
    with pytest.raises(SetupError, match=says) as caught:
        opened(tmp_path, **given)
    assert str(tmp_path) in str(caught.value)


def test_a_task_has_no_tools_and_no_arguments(tmp_path: Path) -> None:
    for given in ({"tools": '{ "a/*" = ["crm.read"] }'}, {"authorization_details": '[{ type = "a", b = "{c}" }]'}):
        assert opened(tmp_path, **given)
        with pytest.raises(SetupError, match='scope = "action"'):
            opened(tmp_path, scope=Scope.TASK, **given)


@pytest.mark.parametrize(
    ("where", "template", "says"),
    [
        (Where.HEADER, "Bearer {token}", "`Authorization` as `template"),
        (Where.HEADER, "DPoP  {token}", "`Authorization` as `template"),
        (Where.HEADER, "dpop {token}", "`Authorization` as `template"),
        (Where.HEADER, "DPoP {token} {key}", "`Authorization` as `template"),
        (Where.ARGUMENT, "{token}", "a new proof for each request"),
        (Where.ARGUMENT, "{password}", "has `{key}` and `{token}` and no more"),
    ],
)
def test_a_bound_token_goes_where_proofs_are_made(tmp_path: Path, where: Where, template: str, says: str) -> None:
    with pytest.raises(SetupError, match=says):
        opened(tmp_path, place=Place(where, "Authorization", template), dpop="true")
    assert opened(tmp_path, place=Place(Where.ARGUMENT, "a", "{token} {key}"), dpop="true")
    assert opened(tmp_path, place=Place(Where.HEADER, "authorization", "DPoP {token}"), dpop="true")
    with pytest.raises(SetupError, match="no other header's"):
        opened(tmp_path, place=Place(Where.HEADER, "X-Token", "DPoP {token}"), dpop="true")


@pytest.mark.parametrize("template", ["DPoP {token}", "dpop {token}"])
def test_a_bearer_token_does_not_pass_for_a_bound_one(tmp_path: Path, template: str) -> None:
    with pytest.raises(SetupError, match="write `dpop = true`"):
        opened(tmp_path, place=Place(Where.HEADER, "Authorization", template))


def test_a_bearer_token_has_no_key(tmp_path: Path) -> None:
    assert opened(tmp_path, place=Place(Where.HEADER, "Authorization", "Bearer {token}"))
    with pytest.raises(SetupError, match="no more"):
        opened(tmp_path, place=Place(Where.ARGUMENT, "a", "{token}{key}"))


def test_what_the_settings_say_is_what_the_broker_is(tmp_path: Path) -> None:
    traits = opened(tmp_path, token_lifetime_s="600").traits
    assert (traits.revocable, traits.by_name, traits.renewable, traits.shortest_ms) == (True, False, False, 600_000)
    assert not opened(tmp_path, unrevocable="true").traits.revocable


def test_nothing_is_asked_when_it_is_opened_and_nothing_is_left_of_what_was_not_sent(tmp_path: Path) -> None:
    broker = opened(tmp_path, issuer='"http://127.0.0.1:1"')
    made = lease(broker.plan(permit(READ), action(), grant()))
    with pytest.raises(CannotDo, match="not reached"):
        broker.issue(made)
    broker.revoke(made)


def rights(tmp_path: Path, asked: frozenset[Any] = READ, **given: str) -> Any:
    return opened(tmp_path, **given).plan(permit(asked), action(), grant())


def test_a_tool_has_less_than_its_effects_would_let_it(tmp_path: Path) -> None:
    scopes = '{ read = ["one", "two"] }'
    for tools, left in {
        '{ "server/*" = ["two", "three"] }': ["two"],
        '{ "server/tool" = ["one"], "*" = ["two"] }': ["one", "two"],
    }.items():
        assert rights(tmp_path, scopes=scopes, tools=tools)["scope"] == left
    for tools in ('{ "other/*" = ["one"] }', '{ "server/tool" = [] }'):
        with pytest.raises(CannotDo) as caught:
            rights(tmp_path, scopes=scopes, tools=tools)
        assert caught.value.reason is Reason.OUT_OF_SCOPE


def test_an_effect_that_the_class_does_not_have_gets_no_token(tmp_path: Path) -> None:
    from forestall.core.effects import Effect

    both = frozenset({Effect.READ, Effect.WRITE})
    for scopes, asked in {'{ read = ["a"] }': both, '{ read = ["a"], write = [] }': frozenset({Effect.WRITE})}.items():
        with pytest.raises(CannotDo) as caught:
            rights(tmp_path, asked, scopes=scopes)
        assert caught.value.reason is Reason.OUT_OF_SCOPE
    assert rights(tmp_path, both, scopes='{ read = ["a"], write = [] }')["scope"] == ["a"]


def test_our_own_key_signs_where_no_other_is_named(tmp_path: Path) -> None:
    ours = '{ issuer = "https://forestall.example" }'
    given = {
        "token_endpoint": '"http://127.0.0.1:1/"',
        "unrevocable": "true",
        "introspect": "",
        "grant": '"token_exchange"',
    }
    broker = opened(tmp_path, assertion=ours, **given)
    made = lease(broker.plan(permit(READ), action(), replace(grant(), trust_domain="example.org")))
    with pytest.raises(CannotDo, match="no key yet"):
        broker.issue(made)
    load_or_create(tmp_path / "keys", now=0, random=bytes)
    with pytest.raises(CannotDo, match="not reached"):
        broker.issue(made)
