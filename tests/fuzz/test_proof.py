"""Whatever is sent as a proof, a token, a key set or a document: a verified value, or `InvalidProof`; nothing else."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.canonical import MAX_SAFE_INTEGER, canonical
from forestall.proof.algorithm import Algorithm
from forestall.proof.discovery import read_discovery
from forestall.proof.encoding import encode
from forestall.proof.fault import InvalidProof
from forestall.proof.github import Workflows
from forestall.proof.jwk import parse_set
from forestall.proof.jws import sign_with, verify
from forestall.proof.kubernetes import ServiceAccounts
from forestall.proof.oidc import Issuer, verify_workload
from forestall.proof.possession import TYPE as PROOF_TYPE
from forestall.proof.possession import verify_proof
from forestall.proof.request import TYPE as REQUEST_TYPE
from forestall.proof.request import verify_request
from forestall.proof.set import CAEP, verify_event
from forestall.proof.set import TYPE as EVENT_TYPE
from forestall.proof.ticket import TYPE as TICKET_TYPE
from forestall.proof.ticket import verify_ticket
from forestall.proof.token import TYPE as GRANT_TYPE
from forestall.proof.token import verify_grant
from forestall.proof.user import UserIssuer, verify_user
from forestall.proof.workload import Listed, Match
from tests.tokens import NOW, SECONDS, key, keys, without

OURS = key()
KEYS = keys(OURS)
ALL = frozenset(Algorithm)
ISSUER, AUDIENCE, URL = "https://issuer.example", "forestall", "https://forestall.example/token"

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

COMMON: dict[str, Any] = {"iss": ISSUER, "sub": "a", "aud": AUDIENCE, "iat": SECONDS, "exp": SECONDS + 60, "jti": "j"}
DETAIL = {
    "type": "urn:forestall:authorization:task",
    "mandate": "m",
    "purpose": "p",
    "tools": ["a/b"],
    "effects": ["read"],
    "resources": [{"tool": "a/*", "argument": "order", "value": ["1", ""]}],
    "budget": {"read": 1, "rows": 5},
    "per_call": {"rows": 2},
    "confidentiality": "public",
    "parameters": {"order": "1"},
    "request": "sha256:0",
    "longest_at": 1,
}
GRANT: dict[str, Any] = {
    **COMMON,
    "client_id": "b",
    "txn": "t",
    "task": "u",
    "parent": "t",
    "act": {"iss": "example.org", "sub": "b", "act": {"iss": "example.org", "sub": "a"}},
    "authorization_details": [DETAIL],
    "cnf": {"jkt": OURS.public.thumbprint},
    "epoch": 0,
    "assurance": "svid",
    "instance": "i",
    "del_depth": 1,
    "del_max_depth": 2,
    "tenant": "t",
    "trust_domain": "example.org",
}
TICKET: dict[str, Any] = {
    "iss": ISSUER,
    "aud": ISSUER,
    "iat": SECONDS,
    "exp": SECONDS + 60,
    "jti": "j",
    "txn": "t",
    "task": "t",
    "sub": "b",
    "by": {
        "id": "a",
        "assurance": "svid",
        "tenant": "t",
        "trust_domain": "example.org",
        "key": "jkt:k",
        "instance": "i",
    },
    "authorization_details": [{"type": "urn:forestall:authorization:delegation", "to": "b", "tools": ["a/b"]}],
}
EVENT: dict[str, Any] = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "iat": SECONDS,
    "jti": "j",
    "sub_id": {
        "format": "complex",
        "user": {"format": "email", "email": "a"},
        "session": {"format": "uri", "uri": "b"},
    },
    "events": {CAEP + "risk-level-change": {"principal": "USER", "current_level": "HIGH", "event_timestamp": SECONDS}},
}
ACCOUNT: dict[str, Any] = {
    **COMMON,
    "sub": "system:serviceaccount:shop:agent",
    "kubernetes.io": {
        "namespace": "shop",
        "serviceaccount": {"name": "agent", "uid": "u"},
        "pod": {"name": "p", "uid": "u"},
    },
}
JOB: dict[str, Any] = {
    **COMMON,
    "sub": "repo:a@1/b@2:ref:refs/heads/main",
    "repository": "a/b",
    "repository_owner": "a",
    "repository_owner_id": "1",
    "repository_id": "2",
    "event_name": "push",
    "ref": "refs/heads/main",
}
PROOF: dict[str, Any] = {"jti": "j", "htm": "POST", "htu": URL, "iat": SECONDS}
USER: dict[str, Any] = {**COMMON, "azp": AUDIENCE, "nonce": "n", "auth_time": SECONDS, "acr": "1"}

WORKLOADS = Issuer(
    issuer=ISSUER,
    audience=AUDIENCE,
    algorithms=ALL,
    trust_domain="example.org",
    rule=Listed((Match("/a", {"sub": "a"}),)),
    max_life_ms=60_000,
)
CLUSTER = replace(WORKLOADS, rule=ServiceAccounts())
JOBS = replace(
    WORKLOADS,
    rule=Workflows((Match("/ci", {"repository_id": "2", "repository_owner_id": "1", "event_name": "push"}),)),
)
USERS = UserIssuer(issuer=ISSUER, client=AUDIENCE, algorithms=ALL, tenant="t", max_age_ms=60_000)

Reader = Callable[[str | bytes], object]


def grant(token: str | bytes) -> object:
    return verify_grant(
        token,
        KEYS,
        issuer=ISSUER,
        audience=AUDIENCE,
        tenants={"example.org": "t"},
        now=NOW,
        skew_ms=0,
        max_life_ms=60_000,
    )


def event(token: str | bytes) -> object:
    return verify_event(
        token, KEYS, issuer=ISSUER, audience=AUDIENCE, now=NOW, skew_ms=0, max_age_ms=1000, algorithms=ALL
    )


def proof(token: str | bytes) -> object:
    return verify_proof(token, method="POST", url=URL, now=NOW, access_token=None, nonces=None)


READERS: dict[str, tuple[Reader, dict[str, Any], dict[str, Any]]] = {
    "grant": (grant, GRANT, {"typ": GRANT_TYPE}),
    "request": (
        lambda token: verify_request(
            token, KEYS, issuer=ISSUER, audience=AUDIENCE, users=(ISSUER,), algorithms=ALL, now=NOW
        ),
        {**without(COMMON, "sub"), "user": {"iss": ISSUER, "sub": "a"}, "request": "r"},
        {"typ": REQUEST_TYPE},
    ),
    "ticket": (
        lambda token: verify_ticket(token, KEYS, issuer=ISSUER, receiver="b", now=NOW),
        TICKET,
        {"typ": TICKET_TYPE},
    ),
    "event": (event, EVENT, {"typ": EVENT_TYPE}),
    "proof": (proof, PROOF, {"typ": PROOF_TYPE, "kid": None, "jwk": OURS.public.bare()}),
    "listed": (lambda token: verify_workload(token, KEYS, WORKLOADS, now=NOW), COMMON, {"typ": "JWT"}),
    "kubernetes": (lambda token: verify_workload(token, KEYS, CLUSTER, now=NOW), ACCOUNT, {"typ": "JWT"}),
    "github": (lambda token: verify_workload(token, KEYS, JOBS, now=NOW), JOB, {"typ": "JWT"}),
    "user": (lambda token: verify_user(token, KEYS, USERS, now=NOW, nonce="n", access_token="t"), USER, {"typ": "JWT"}),
}


def signed(claims: Any, header: dict[str, Any]) -> str:
    members = {"alg": "EdDSA", "kid": OURS.public.kid, **header}
    return sign_with({name: value for name, value in members.items() if value is not None}, canonical(claims), OURS)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every container in `value` and every key or index of it, at any depth."""
    if not isinstance(value, dict | list):
        return []
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    return [(value, at) for at, _ in items] + [place for _, member in items for place in places(member)]


def copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: copied(member) for name, member in value.items()}
    return [copied(member) for member in value] if isinstance(value, list) else value


@pytest.mark.parametrize("kind", READERS)
def test_what_the_changes_start_from_is_accepted(kind: str) -> None:
    reader, claims, header = READERS[kind]
    assert reader(signed(claims, header)) is not None


@pytest.mark.parametrize("kind", READERS)
@given(data=st.data())
def test_any_claim_can_be_anything(kind: str, data: st.DataObject) -> None:
    reader, claims, header = READERS[kind]
    changed = copied(claims)
    for _ in range(data.draw(st.integers(1, 2))):
        container, at = data.draw(st.sampled_from(places(changed)))
        container[at] = data.draw(values)
    with suppress(InvalidProof):
        assert reader(signed(changed, header)) is not None


@pytest.mark.parametrize("kind", READERS)
@given(payload=values, more=st.dictionaries(texts, values, max_size=2))
def test_any_payload_can_be_signed(kind: str, payload: Any, more: dict[str, Any]) -> None:
    reader, claims, header = READERS[kind]
    for changed in (payload, {**claims, **more}):
        with suppress(InvalidProof):
            assert reader(signed(changed, header)) is not None


@pytest.mark.parametrize("kind", READERS)
@given(header=st.dictionaries(st.sampled_from(["alg", "typ", "kid", "jwk", "jku", "crit"]) | texts, values, max_size=4))
def test_any_header_can_be_sent(kind: str, header: dict[str, Any]) -> None:
    reader, claims, good = READERS[kind]
    for members in (header, {"alg": "EdDSA", **good, **header}):
        with suppress(InvalidProof):
            assert reader(sign_with(members, canonical(claims), OURS)) is not None


@given(st.binary(max_size=120) | st.text(max_size=120))
def test_any_text_is_no_token(token: str | bytes) -> None:
    for reader, _, _ in READERS.values():
        with pytest.raises(InvalidProof):
            reader(token)


@given(st.tuples(st.binary(max_size=60), st.binary(max_size=60), st.binary(max_size=80)))
def test_any_three_parts_are_no_token(parts: tuple[bytes, bytes, bytes]) -> None:
    with pytest.raises(InvalidProof):
        verify(".".join(map(encode, parts)), KEYS, algorithms=ALL, types=frozenset({None, "jwt"}))


jwks = st.fixed_dictionaries(
    {"kty": st.sampled_from(["RSA", "EC", "OKP", "oct"]) | values},
    optional={
        **{name: st.binary(max_size=70).map(encode) | values for name in ("n", "e", "x", "y")},
        "crv": st.sampled_from(["P-256", "P-384", "P-521", "Ed25519"]),
        "kid": texts | values,
        "use": st.sampled_from(["sig", "enc"]) | values,
        "alg": st.sampled_from(sorted(Algorithm)) | values,
        "key_ops": values,
    },
)


@given(st.lists(jwks | values, max_size=3).map(lambda members: canonical({"keys": members})) | st.binary(max_size=100))
def test_any_key_set_is_read_or_refused(data: bytes) -> None:
    with suppress(InvalidProof):
        for found in parse_set(data).keys:
            assert found.algorithms
            assert len(found.thumbprint) == 43


@given(st.dictionaries(st.sampled_from(["issuer", "jwks_uri", "id_token_signing_alg_values_supported"]), values))
def test_any_document_is_read_or_refused(document: dict[str, Any]) -> None:
    for members in (document, {"issuer": ISSUER, "jwks_uri": "https://a.example/", **document}):
        with suppress(InvalidProof):
            found = read_discovery(canonical(members), issuer=ISSUER, algorithms=ALL, loopback=True)
            assert found.jwks_uri.startswith("http")
