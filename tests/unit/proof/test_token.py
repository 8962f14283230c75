"""A grant token says all that a grant is, and nothing else; whatever is missing, added or another's is refused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.effects import Effect
from forestall.core.grant import MAX_DEPTH
from forestall.core.label import Confidentiality
from forestall.proof.actor import Actor, ActorChain
from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jws import verify
from forestall.proof.possession import Binding
from forestall.proof.token import (
    CLAIMS,
    DETAIL_TYPE,
    GRANT_ALGORITHMS,
    MAX_ENTRIES,
    TYPE,
    GrantToken,
    Scope,
    read_details,
    sign_grant,
    verify_grant,
)
from tests.tokens import NOW, key, keys, refused, token, without

OURS = key()
ISSUER = "https://forestall.example"
CHAIN = ActorChain.start(Actor(ISSUER, "spiffe://example.org/root", "ai_agent"))
SCOPE = Scope(
    tools=("shop/orders.*",),
    effects=frozenset({Effect.READ, Effect.EXTERNAL}),
    resources={"order": ("4711",)},
    budget={"read": 20, "rows": 500},
    confidentiality=Confidentiality.INTERNAL,
)
GRANT = GrantToken(
    issuer=ISSUER,
    subject="alice",
    audience="https://forestall.example/",
    client="spiffe://example.org/root",
    issued_at=NOW,
    expires_at=NOW + 600_000,
    id="jti-1",
    task="task-1",
    chain=CHAIN,
    scope=SCOPE,
    binding=Binding(key=key(Algorithm.ES256).public.thumbprint),
    epoch=7,
    depth=0,
    max_depth=2,
    tenant="acme",
    trust_domain="example.org",
)
DETAIL = SCOPE.to_json()


def check(text: str, **options: Any) -> GrantToken:
    given: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": GRANT.audience,
        "tenant": "acme",
        "trust_domain": "example.org",
        "least_epoch": 7,
        "now": NOW,
        "skew_ms": 0,
        "max_life_ms": 3_600_000,
    }
    return verify_grant(text, options.pop("keyring", keys(OURS)), **{**given, **options})


def claims(grant: GrantToken = GRANT) -> dict[str, Any]:
    text = sign_grant(grant, OURS)
    return verify(text, keys(OURS), algorithms=GRANT_ALGORITHMS, types=frozenset({TYPE})).claims()


def changed(**members: Any) -> str:
    return token({**claims(), **members}, OURS, typ=TYPE)


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
lists = st.lists(texts, min_size=1, max_size=3, unique=True).map(tuple)
scopes = st.builds(
    Scope,
    tools=lists,
    effects=st.frozensets(st.sampled_from(Effect), min_size=1),
    resources=st.dictionaries(texts, lists, max_size=2),
    budget=st.dictionaries(texts, st.integers(0, 2**53 - 1), max_size=2),
    confidentiality=st.none() | st.sampled_from(Confidentiality),
)
grants = st.builds(
    lambda grant, scope, texts, epoch, hops: replace(
        grant,
        scope=scope,
        subject=texts[0],
        client=texts[1],
        id=texts[2],
        task=texts[3],
        epoch=epoch,
        depth=hops,
        max_depth=MAX_DEPTH,
        chain=ActorChain(tuple(Actor("i", str(number)) for number in range(hops + 1))),
    ),
    st.just(GRANT),
    scopes,
    st.tuples(texts, texts, texts, texts),
    st.integers(7, 2**53 - 1),
    st.integers(0, MAX_DEPTH),
)


@given(grants, st.sampled_from(sorted(GRANT_ALGORITHMS)))
def test_a_grant_is_read_back_as_it_was_signed(grant: GrantToken, algorithm: Algorithm) -> None:
    assert check(sign_grant(grant, key(algorithm)), keyring=keys(key(algorithm))) == grant


def test_a_grant_has_all_of_its_claims_and_a_type_of_its_own() -> None:
    assert set(claims()) == CLAIMS
    assert claims()["authorization_details"][0]["type"] == DETAIL_TYPE
    assert claims()["cnf"] == {"jkt": GRANT.binding.key}
    for kind in ("JWT", "at+jwt", None):
        with refused(Fault.WRONG_TYPE):
            check(token(claims(), OURS, typ=kind))


@pytest.mark.parametrize("name", sorted(CLAIMS - {"cnf"}))
def test_a_grant_without_a_claim_is_refused(name: str) -> None:
    with refused(Fault.MALFORMED):
        check(token(without(claims(), name), OURS, typ=TYPE))


@pytest.mark.parametrize("name", ["nbf", "scope", "may_act", "refresh_token", "Act"])
def test_a_grant_with_a_claim_more_is_refused(name: str) -> None:
    with refused(Fault.MALFORMED):
        check(changed(**{name: "x"}))


@pytest.mark.parametrize("cnf", [{}, {"kid": "k"}, {"jwk": key().public.bare()}])
def test_a_grant_that_is_bound_to_nothing_is_refused(cnf: Any) -> None:
    with refused(Fault.NOT_BOUND):
        check(token(without(claims(), "cnf"), OURS, typ=TYPE))
    with refused(Fault.NOT_BOUND):
        check(changed(cnf=cnf))


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"iss": "https://other.example"}, Fault.WRONG_ISSUER),
        ({"aud": "https://other.example"}, Fault.WRONG_AUDIENCE),
        ({"aud": [GRANT.audience, "https://other.example"]}, Fault.WRONG_AUDIENCE),
        ({"aud": [GRANT.audience]}, Fault.MALFORMED),
        ({"trust_domain": "other.example"}, Fault.WRONG_TRUST_DOMAIN),
        ({"tenant": "other"}, Fault.WRONG_TENANT),
        ({"epoch": 6}, Fault.REVOKED),
        ({"epoch": -1}, Fault.MALFORMED),
        ({"epoch": 7.5}, Fault.MALFORMED),
        ({"epoch": "7"}, Fault.MALFORMED),
        ({"epoch": True}, Fault.MALFORMED),
        ({"del_depth": 3}, Fault.TOO_DEEP),
        ({"del_depth": 1}, Fault.MALFORMED),
        ({"del_max_depth": MAX_DEPTH + 1}, Fault.MALFORMED),
        ({"del_max_depth": None}, Fault.MALFORMED),
        ({"act": {}}, Fault.MALFORMED),
        ({"act": {"iss": "a", "sub": "1", "act": {"iss": "a", "sub": "1"}}}, Fault.CYCLE),
        ({"sub": ""}, Fault.MALFORMED),
        ({"client_id": None}, Fault.MALFORMED),
        ({"jti": 7}, Fault.MALFORMED),
        ({"txn": "t" * 257}, Fault.MALFORMED),
        ({"iat": NOW // 1000 + 1}, Fault.CLOCK),
        ({"exp": NOW // 1000}, Fault.EXPIRED),
        ({"exp": NOW // 1000 + 3601}, Fault.TOO_LONG),
    ],
)
def test_a_grant_that_is_wrong_in_one_way_has_that_fault(members: dict[str, Any], fault: Fault) -> None:
    with refused(fault):
        check(changed(**members))


@pytest.mark.parametrize(
    "details",
    [
        None,
        {},
        [],
        [DETAIL, DETAIL],
        ["x"],
        DETAIL,
        [{**DETAIL, "type": "attenuating_agent_token"}],
        [{**DETAIL, "type": DETAIL_TYPE.upper()}],
        [without(DETAIL, "type")],
        [without(DETAIL, "tools")],
        [without(DETAIL, "effects")],
        [{**DETAIL, "actions": ["read"]}],
        [{**DETAIL, "Tools": ["*"]}],
        [{**DETAIL, "tools": []}],
        [{**DETAIL, "tools": "*"}],
        [{**DETAIL, "tools": [""]}],
        [{**DETAIL, "tools": ["a", "a"]}],
        [{**DETAIL, "tools": ["a", 7]}],
        [{**DETAIL, "tools": [["a"]]}],
        [{**DETAIL, "tools": ["a" * 1025]}],
        [{**DETAIL, "tools": [str(number) for number in range(MAX_ENTRIES + 1)]}],
        [{**DETAIL, "effects": []}],
        [{**DETAIL, "effects": ["anything"]}],
        [{**DETAIL, "resources": {}}],
        [{**DETAIL, "resources": None}],
        [{**DETAIL, "resources": {"order": []}}],
        [{**DETAIL, "resources": {"": ["1"]}}],
        [{**DETAIL, "resources": {"order": "4711"}}],
        [{**DETAIL, "budget": {}}],
        [{**DETAIL, "budget": {"read": -1}}],
        [{**DETAIL, "budget": {"read": 1.5}}],
        [{**DETAIL, "budget": {"read": True}}],
        [{**DETAIL, "budget": {"read": None}}],
        [{**DETAIL, "confidentiality": None}],
        [{**DETAIL, "confidentiality": "top"}],
    ],
)
def test_a_scope_that_is_not_understood_is_refused(details: Any) -> None:
    with refused(Fault.SCOPE):
        read_details(details)
    with refused(Fault.SCOPE):
        check(changed(authorization_details=details))


def test_a_scope_with_nothing_but_what_it_needs_is_understood() -> None:
    bare = Scope(tools=("a/b",), effects=frozenset({Effect.READ}))
    assert bare.to_json() == {"type": DETAIL_TYPE, "tools": ["a/b"], "effects": ["read"]}
    assert read_details([bare.to_json()]) == bare


def test_a_scope_cannot_be_changed_after_it_was_read() -> None:
    found = check(sign_grant(GRANT, OURS))
    for mapping in (found.scope.resources, found.scope.budget):
        with pytest.raises(TypeError):
            mapping["more"] = ("x",)  # type: ignore[index]


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"depth": 3}, Fault.TOO_DEEP),
        ({"depth": 1}, Fault.MALFORMED),
        ({"tenant": ""}, Fault.MALFORMED),
        ({"expires_at": NOW}, Fault.MALFORMED),
        ({"scope": replace(SCOPE, tools=())}, Fault.SCOPE),
        ({"scope": replace(SCOPE, effects=frozenset())}, Fault.SCOPE),
        ({"epoch": -1}, Fault.MALFORMED),
    ],
)
def test_what_would_be_refused_is_not_signed(members: dict[str, Any], fault: Fault) -> None:
    with refused(fault):
        sign_grant(replace(GRANT, **members), OURS)


def test_a_time_is_of_whole_seconds_and_a_key_of_ours() -> None:
    with pytest.raises(ValueError, match="whole seconds"):
        sign_grant(replace(GRANT, expires_at=NOW + 1), OURS)
    with pytest.raises(ValueError, match="whole seconds"):
        sign_grant(replace(GRANT, issued_at=NOW + 1), OURS)
    with pytest.raises(ValueError, match="EdDSA or ES256"):
        sign_grant(GRANT, key(Algorithm.RS256))
    with refused(Fault.ALGORITHM):
        check(token(claims(), key(Algorithm.RS256), typ=TYPE), keyring=keys(key(Algorithm.RS256)))


def test_a_key_that_was_rotated_out_counts_for_as_long_as_it_is_in_the_set() -> None:
    old, new = key(seed="old"), key(seed="new")
    text = sign_grant(GRANT, old)
    assert check(text, keyring=keys(new, old)) == GRANT
    with refused(Fault.UNKNOWN_KEY):
        check(text, keyring=keys(new))


@given(
    name=st.sampled_from(sorted(CLAIMS)),
    value=st.none() | st.integers(0, 9) | st.text(max_size=4) | st.just([]),
    algorithm=st.sampled_from(sorted(GRANT_ALGORITHMS)),
    named=st.booleans(),
)
def test_a_claim_that_was_changed_under_another_key_is_refused(
    name: str, value: Any, algorithm: Algorithm, named: bool
) -> None:
    other = key(algorithm, "other")
    kid = OURS.public.kid if named else other.public.kid
    with pytest.raises(InvalidProof) as caught:
        check(token({**claims(), name: value}, other, typ=TYPE, kid=kid))
    assert caught.value.fault in {Fault.UNKNOWN_KEY, Fault.ALGORITHM, Fault.BAD_SIGNATURE}


@given(data=st.data())
def test_one_changed_character_is_one_refused_grant(data: st.DataObject) -> None:
    text = sign_grant(GRANT, OURS)
    at = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=127).filter(lambda character: character != text[at]))
    with pytest.raises(InvalidProof):
        check(text[:at] + other + text[at + 1 :])
