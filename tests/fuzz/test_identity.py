"""Whatever is sent as an assertion, a grant or a review, or written into identity.toml: an answer, or the one error."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forestall.adapter.oidc.claimed import claimed_issuer
from forestall.adapter.oidc.keys import IssuerKeys, Times
from forestall.adapter.oidc.review import require_live
from forestall.core.canonical import MAX_SAFE_INTEGER, canonical
from forestall.core.errors import SetupError
from forestall.home import Home
from forestall.identities import Identities, KeySource, load_identities
from forestall.proof.algorithm import Algorithm
from forestall.proof.client_assertion import Client, verify_client
from forestall.proof.encoding import encode
from forestall.proof.fault import InvalidProof
from forestall.proof.id_jag import TYPE, GrantIssuer, verify_identity_grant
from forestall.proof.oidc import Workload
from forestall.proof.spiffe_id import parse_workload_id
from tests.tokens import NOW, SECONDS, key, keys, token

OURS = key()
KEYS = keys(OURS)
ISSUER, AUDIENCE = "https://issuer.example", "https://forestall.example"
CLIENT = Client("a", KEYS, frozenset(Algorithm))
GRANTS = GrantIssuer(ISSUER, AUDIENCE, frozenset(Algorithm), "acme")
WORKLOAD = Workload(parse_workload_id("spiffe://example.org/a"), ISSUER, "a", 0, {"serviceaccount_uid": "u"})

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4), max_leaves=6
)

ASSERTION: dict[str, Any] = {"iss": "a", "sub": "a", "aud": AUDIENCE, "iat": SECONDS, "exp": SECONDS + 60, "jti": "j"}
GRANT: dict[str, Any] = {
    **ASSERTION,
    "iss": ISSUER,
    "client_id": "a",
    "scope": "a b",
    "resource": ["https://a.example"],
    "auth_time": SECONDS,
    "acr": "1",
}
REVIEW: dict[str, Any] = {
    "apiVersion": "authentication.k8s.io/v1",
    "kind": "TokenReview",
    "status": {"authenticated": True, "audiences": [AUDIENCE], "user": {"username": "a", "uid": "u", "extra": {}}},
}


def assertion(text: str | bytes) -> object:
    return verify_client(text, CLIENT, audience=AUDIENCE, now=NOW)


def grant(text: str | bytes) -> object:
    return verify_identity_grant(text, KEYS, GRANTS, client="a", proof=None, certificate=None, now=NOW)


READERS: dict[str, tuple[Callable[[str | bytes], object], dict[str, Any], str]] = {
    "assertion": (assertion, ASSERTION, "JWT"),
    "grant": (grant, GRANT, TYPE),
    "claimed": (claimed_issuer, ASSERTION, "JWT"),
}


@pytest.mark.parametrize("kind", READERS)
def test_what_the_changes_start_from_is_accepted(kind: str) -> None:
    reader, claims, typ = READERS[kind]
    assert reader(token(claims, OURS, typ=typ))


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_any_claim_can_be_anything(kind: str, data: st.DataObject) -> None:
    reader, claims, typ = READERS[kind]
    name = data.draw(st.sampled_from([*sorted(claims), "tenant", "cnf", "authorization_details", "nbf"]))
    with suppress(InvalidProof):
        assert reader(token({**claims, name: data.draw(values)}, OURS, typ=typ))


@pytest.mark.parametrize("kind", READERS)
@given(payload=values | st.binary(max_size=60))
def test_any_payload_can_be_signed(kind: str, payload: Any) -> None:
    reader, _, typ = READERS[kind]
    with suppress(InvalidProof):
        assert reader(token(payload, OURS, typ=typ) if not isinstance(payload, bytes) else f"e30.{encode(payload)}.AA")


@given(st.binary(max_size=120) | st.text(max_size=120))
def test_any_text_is_no_token(text: str | bytes) -> None:
    for reader, _, _ in READERS.values():
        with pytest.raises(InvalidProof):
            reader(text)


@given(data=st.data())
def test_any_review_is_read_or_refused(data: st.DataObject) -> None:
    """Only the one that says yes to every question is one."""
    changed = json.loads(json.dumps(REVIEW))
    place = data.draw(st.sampled_from([changed, changed["status"], changed["status"]["user"]]))
    name = data.draw(st.sampled_from(sorted(place)))
    place[name] = data.draw(values)
    try:
        require_live(canonical(changed), WORKLOAD, audience=AUDIENCE)
    except InvalidProof:
        return
    status = changed["status"]
    assert status["authenticated"] is True
    assert AUDIENCE in status["audiences"]
    assert (status["user"]["username"], status["user"]["uid"]) == ("a", "u")


@given(st.binary(max_size=200))
def test_any_bytes_are_no_review(data: bytes) -> None:
    with pytest.raises(InvalidProof):
        require_live(data, WORKLOAD, audience=AUDIENCE)


@given(discovery=st.binary(max_size=100) | values.map(canonical), jwks=st.binary(max_size=100) | values.map(canonical))
def test_whatever_an_issuer_serves_nobody_waits_for_ever(discovery: bytes, jwks: bytes) -> None:
    found = IssuerKeys(
        ISSUER,
        KeySource(),
        algorithms=frozenset(Algorithm),
        loopback=False,
        fetch=lambda request: discovery if "well-known" in request.url else jwks,
        times=Times(),
    )
    due = found.due(NOW)
    assert due is not None
    due.result(60)
    with pytest.raises(InvalidProof):
        found.held(NOW)
    assert found.problem


RULES = """\
[[trust_domains]]
name = "example.org"
tenant = "acme"
[[issuers]]
kind = "kubernetes"
issuer = "https://cluster.example"
audience = "https://forestall.example"
trust_domain = "example.org"
namespaces = ["shop"]
[issuers.review]
api = "https://cluster.example"
token_file = "own"
[[issuers]]
kind = "listed"
issuer = "https://idp.example"
audience = "https://forestall.example"
trust_domain = "example.org"
[[issuers.workloads]]
path = "/agents/billing"
claims = { sub = "client-7" }
[[users]]
issuer = "https://idp.example"
client = "front-end"
tenant = "acme"
[[grants]]
issuer = "https://idp.example"
audience = "https://forestall.example"
tenant = "acme"
"""
LINES = RULES.splitlines()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_any_settings_are_read_or_refused_with_their_file(tmp_path: Path, data: st.DataObject) -> None:
    lines = list(LINES)
    at = data.draw(st.integers(0, len(lines) - 1))
    other = data.draw(st.sampled_from(LINES) | st.text(max_size=30) | st.just(""))
    name, _, _ = lines[at].partition(" = ")
    kinds = ["3", "-1", "true", "[]", "{}", '""', "1.5", "2026-11-21", '["a"]', '{ a = "b" }', '"\\u0000"']
    value = data.draw(st.sampled_from(kinds))
    lines[at] = data.draw(st.sampled_from([other, f"{name} = {value}"]))
    file = tmp_path / "identity.toml"
    file.write_text("\n".join(lines), encoding="utf-8", errors="replace")
    refusal, found = "", Identities()
    try:
        found = load_identities(Home(tmp_path))
    except SetupError as error:
        refusal = str(error)
    assert refusal.startswith(str(file)) if refusal else found != Identities()
    assert all(found.tenant(each.rule.trust_domain) for each in found.issuers)
