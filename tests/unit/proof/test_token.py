"""A grant token says all that a grant is, and nothing else; whatever is missing, added or another's is refused, and
what is not as it was recorded counts for nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.effects import Effect
from forestall.core.grant import MAX_DEPTH
from forestall.core.label import Confidentiality
from forestall.core.model import Assurance, Grant, Resource
from forestall.core.quantity import Quantity
from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jws import verify
from forestall.proof.token import (
    CLAIMS,
    DETAIL_TYPE,
    GRANT_ALGORITHMS,
    MAX_ENTRIES,
    OPTIONAL_CLAIMS,
    TYPE,
    GrantToken,
    details_of,
    read_details,
    require_recorded,
    sign_grant,
    to_the_second,
    verify_grant,
)
from tests.tokens import NOW, key, keys, refused, token, without

OURS = key()
ISSUER = "https://forestall.example"
AGENT = "spiffe://example.org/agent"
ROOT = Grant(
    task="task-1",
    holder=AGENT,
    purpose="Refund one order.",
    mandate="refund",
    tools=("shop/orders.*",),
    effects=frozenset({Effect.READ, Effect.EXTERNAL}),
    expires_at=NOW + 600_000,
    budget={Effect.READ: 20, Quantity.ROWS: 500},
    max_depth=2,
    per_call={Quantity.ROWS: 50},
    tenant="acme",
    trust_domain="example.org",
    instance=AGENT,
    user="https://idp.example#alice",
    request="sha256:00",
    parameters={"order": "4711"},
    resources=(Resource("shop/*", "order", ("4711",)), Resource("shop/read", "path", ("orders/", "", ".txt"))),
    ceiling=Confidentiality.INTERNAL,
    longest_at=NOW + 3_600_000,
    key=f"jkt:{key(Algorithm.ES256).public.thumbprint}",
)
BELOW = replace(
    ROOT,
    task="task-2",
    holder="spiffe://example.org/other",
    depth=1,
    parent="task-1",
    root="task-1",
    actors=(("example.org", "spiffe://example.org/other"), ("example.org", AGENT)),
    key=f"x5t#S256:{key(Algorithm.ES256).public.thumbprint}",
)
GRANT = GrantToken(ISSUER, ISSUER, NOW, "jti-1", 7, Assurance.SVID, ROOT)
DETAIL = details_of(ROOT)


def check(text: str, **options: Any) -> GrantToken:
    given: dict[str, Any] = {
        "issuer": ISSUER,
        "audience": ISSUER,
        "tenants": {"example.org": "acme"},
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
lists = st.lists(texts, min_size=1, max_size=3).map(tuple)
amounts = st.integers(0, 2**53 - 1)


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    depth = draw(st.integers(0, MAX_DEPTH))
    names = draw(st.lists(texts, min_size=depth + 4, max_size=depth + 4, unique=True))
    actors = tuple(("example.org", name) for name in names[3:])
    return replace(
        ROOT,
        task=names[0],
        parent=names[1] if depth else "",
        root=names[2] if depth else "",
        holder=actors[0][1],
        actors=actors if depth else (),
        depth=depth,
        max_depth=MAX_DEPTH,
        purpose=draw(texts),
        mandate=draw(texts),
        tools=draw(lists),
        effects=draw(st.frozensets(st.sampled_from(Effect), min_size=1)),
        budget=draw(st.dictionaries(st.sampled_from(Effect) | st.sampled_from(Quantity), amounts, max_size=3)),
        per_call=draw(st.dictionaries(st.sampled_from(Quantity), amounts, max_size=3)),
        instance=draw(st.just("") | texts),
        user=draw(st.just("") | texts.map("https://idp.example#".__add__)),
        request=draw(st.just("") | texts),
        parameters=draw(st.dictionaries(texts, texts, max_size=2)),
        resources=tuple(
            Resource(tool, argument, value)
            for tool, argument, value in draw(
                st.lists(st.tuples(texts, texts, st.lists(st.just("") | texts, min_size=1, max_size=3).map(tuple)))
            )[:3]
        ),
        ceiling=draw(st.none() | st.sampled_from(Confidentiality)),
        longest_at=draw(amounts),
        expires_at=NOW + draw(st.integers(1000, 3_600_000)),
    )


@given(grants(), st.sampled_from(sorted(GRANT_ALGORITHMS)), st.sampled_from(Assurance), amounts)
def test_a_grant_is_read_back_as_it_was_signed_and_found_in_the_record(
    grant: Grant, algorithm: Algorithm, assurance: Assurance, epoch: int
) -> None:
    said = replace(GRANT, grant=grant, assurance=assurance, epoch=epoch)
    found = check(sign_grant(said, key(algorithm)), keyring=keys(key(algorithm)))
    assert found == replace(said, grant=to_the_second(grant))
    assert require_recorded(found, grant) is grant


def test_a_grant_has_all_of_its_claims_and_a_type_of_its_own() -> None:
    assert set(claims()) == CLAIMS | {"instance"}
    assert set(claims(replace(GRANT, grant=BELOW))) == CLAIMS | OPTIONAL_CLAIMS
    assert claims()["authorization_details"][0]["type"] == DETAIL_TYPE
    assert claims()["cnf"] == {"jkt": key(Algorithm.ES256).public.thumbprint}
    assert claims()["sub"] == ROOT.user
    for kind in ("JWT", "at+jwt", None):
        with refused(Fault.WRONG_TYPE):
            check(token(claims(), OURS, typ=kind))


def test_a_task_below_another_names_the_tree_and_who_acts_for_whom() -> None:
    said = claims(replace(GRANT, grant=BELOW))
    assert (said["txn"], said["task"], said["parent"], said["del_depth"]) == ("task-1", "task-2", "task-1", 1)
    assert said["act"] == {"iss": "example.org", "sub": BELOW.holder, "act": {"iss": "example.org", "sub": AGENT}}
    assert said["cnf"] == {"x5t#S256": key(Algorithm.ES256).public.thumbprint}


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
    for bare in ("", "jkt", "kid:k"):
        with refused(Fault.NOT_BOUND):
            sign_grant(replace(GRANT, grant=replace(ROOT, key=bare)), OURS)


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"iss": "https://other.example"}, Fault.WRONG_ISSUER),
        ({"aud": "https://other.example"}, Fault.WRONG_AUDIENCE),
        ({"aud": [ISSUER, "https://other.example"]}, Fault.WRONG_AUDIENCE),
        ({"aud": [ISSUER]}, Fault.MALFORMED),
        ({"trust_domain": "other.example"}, Fault.WRONG_TRUST_DOMAIN),
        ({"tenant": "other"}, Fault.WRONG_TENANT),
        ({"epoch": -1}, Fault.MALFORMED),
        ({"epoch": 7.5}, Fault.MALFORMED),
        ({"epoch": "7"}, Fault.MALFORMED),
        ({"epoch": True}, Fault.MALFORMED),
        ({"assurance": "sworn"}, Fault.MALFORMED),
        ({"del_depth": 3}, Fault.TOO_DEEP),
        ({"del_depth": 1}, Fault.MALFORMED),
        ({"del_max_depth": MAX_DEPTH + 1}, Fault.MALFORMED),
        ({"del_max_depth": None}, Fault.MALFORMED),
        ({"act": {}}, Fault.MALFORMED),
        ({"act": {"iss": "example.org", "sub": "another"}}, Fault.MALFORMED),
        ({"act": {"iss": "other.example", "sub": AGENT}}, Fault.MALFORMED),
        ({"act": {"iss": "example.org", "sub": AGENT, "act": {"iss": "a", "sub": "1"}}}, Fault.MALFORMED),
        ({"act": {"iss": "a", "sub": "1", "act": {"iss": "a", "sub": "1"}}}, Fault.CYCLE),
        ({"parent": "task-0"}, Fault.MALFORMED),
        ({"txn": "task-0"}, Fault.MALFORMED),
        ({"sub": ""}, Fault.MALFORMED),
        ({"client_id": None}, Fault.MALFORMED),
        ({"jti": 7}, Fault.MALFORMED),
        ({"txn": "t" * 257}, Fault.MALFORMED),
        ({"task": "t" * 257}, Fault.MALFORMED),
        ({"iat": NOW // 1000 + 1}, Fault.CLOCK),
        ({"exp": NOW // 1000}, Fault.EXPIRED),
        ({"exp": NOW // 1000 + 3601}, Fault.TOO_LONG),
    ],
)
def test_a_grant_that_is_wrong_in_one_way_has_that_fault(members: dict[str, Any], fault: Fault) -> None:
    with refused(fault):
        check(changed(**members))


RESOURCE = {"tool": "a", "argument": "b", "value": ["c"]}


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
        *([without(DETAIL, name)] for name in ("type", "mandate", "purpose", "tools", "effects")),
        [{**DETAIL, "actions": ["read"]}],
        [{**DETAIL, "Tools": ["*"]}],
        [{**DETAIL, "tools": []}],
        [{**DETAIL, "tools": "*"}],
        [{**DETAIL, "tools": [""]}],
        [{**DETAIL, "tools": ["a", 7]}],
        [{**DETAIL, "tools": [["a"]]}],
        [{**DETAIL, "tools": ["a" * 2049]}],
        [{**DETAIL, "tools": [str(number) for number in range(MAX_ENTRIES + 1)]}],
        [{**DETAIL, "effects": []}],
        [{**DETAIL, "effects": ["anything"]}],
        [{**DETAIL, "purpose": ""}],
        [{**DETAIL, "mandate": None}],
        [{**DETAIL, "resources": {}}],
        [{**DETAIL, "resources": []}],
        [{**DETAIL, "resources": ["x"]}],
        *([{**DETAIL, "resources": [without(RESOURCE, name)]}] for name in RESOURCE),
        [{**DETAIL, "resources": [{**RESOURCE, "more": "x"}]}],
        [{**DETAIL, "resources": [{**RESOURCE, "tool": ""}]}],
        [{**DETAIL, "resources": [{**RESOURCE, "argument": 7}]}],
        [{**DETAIL, "resources": [{**RESOURCE, "value": []}]}],
        [{**DETAIL, "resources": [{**RESOURCE, "value": "c"}]}],
        [{**DETAIL, "resources": [{**RESOURCE, "value": [None]}]}],
        [{**DETAIL, "budget": {}}],
        [{**DETAIL, "budget": {"read": -1}}],
        [{**DETAIL, "budget": {"read": 1.5}}],
        [{**DETAIL, "budget": {"read": True}}],
        [{**DETAIL, "budget": {"read": None}}],
        [{**DETAIL, "budget": {"anything": 1}}],
        [{**DETAIL, "per_call": {"read": 1}}],
        [{**DETAIL, "per_call": []}],
        [{**DETAIL, "parameters": {"order": 7}}],
        [{**DETAIL, "parameters": {"order": ""}}],
        [{**DETAIL, "request": ""}],
        [{**DETAIL, "longest_at": 0}],
        [{**DETAIL, "longest_at": "soon"}],
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
    bare = Grant("", "", "p", "m", ("a/b",), frozenset({Effect.READ}), 0)
    assert details_of(bare) == {
        "type": DETAIL_TYPE,
        "mandate": "m",
        "purpose": "p",
        "tools": ["a/b"],
        "effects": ["read"],
    }
    assert read_details([details_of(bare)]) == bare


@pytest.mark.parametrize(
    ("members", "fault"),
    [
        ({"depth": 3}, Fault.TOO_DEEP),
        ({"depth": 1}, Fault.MALFORMED),
        ({"tenant": ""}, Fault.MALFORMED),
        ({"trust_domain": ""}, Fault.MALFORMED),
        ({"expires_at": NOW}, Fault.MALFORMED),
        ({"expires_at": NOW + 999}, Fault.MALFORMED),
        ({"tools": ()}, Fault.SCOPE),
        ({"effects": frozenset()}, Fault.SCOPE),
        ({"user": AGENT}, Fault.MALFORMED),
        ({"actors": (("example.org", AGENT),)}, Fault.MALFORMED),
        ({"tools": tuple("x" * 1024 for _ in range(16))}, Fault.TOO_LARGE),
    ],
)
def test_what_would_be_refused_is_not_signed(members: dict[str, Any], fault: Fault) -> None:
    with refused(fault):
        sign_grant(replace(GRANT, grant=replace(ROOT, **members)), OURS)
    with refused(Fault.MALFORMED):
        sign_grant(replace(GRANT, epoch=-1), OURS)


@pytest.mark.parametrize("below", [False, True])
@pytest.mark.parametrize(
    "members",
    [
        {"task": "task-9"},
        {"holder": "spiffe://example.org/third"},
        {"purpose": "Another."},
        {"mandate": "other"},
        {"tools": ("shop/*",)},
        {"effects": frozenset(Effect)},
        {"budget": {}},
        {"per_call": {}},
        {"max_depth": 3},
        {"instance": "another"},
        {"user": "https://idp.example#bob"},
        {"request": ""},
        {"parameters": {"order": "4712"}},
        {"resources": ()},
        {"ceiling": None},
        {"longest_at": NOW + 3_600_001},
        {"key": "jkt:another"},
        {"tenant": "other"},
        {"trust_domain": "other.example"},
        {"expires_at": NOW + 599_000},
    ],
)
def test_a_token_that_says_something_else_than_the_record_counts_for_nothing(
    members: dict[str, Any], below: bool
) -> None:
    grant = BELOW if below else ROOT
    found = check(sign_grant(replace(GRANT, grant=grant), OURS))
    assert require_recorded(found, grant) is grant
    with refused(Fault.UNLIKE_RECORD):
        require_recorded(found, replace(grant, **members))


def test_a_token_of_a_task_that_is_over_counts_for_nothing() -> None:
    with refused(Fault.ENDED):
        require_recorded(GRANT, None)


def test_a_token_from_before_an_extension_still_counts_until_it_ends_itself() -> None:
    later = replace(ROOT, expires_at=ROOT.expires_at + 60_000)
    found = check(sign_grant(GRANT, OURS))
    assert require_recorded(found, later) is later
    with refused(Fault.EXPIRED):
        check(sign_grant(GRANT, OURS), now=ROOT.expires_at)


def test_a_time_is_of_whole_seconds_and_a_key_of_ours() -> None:
    assert check(sign_grant(replace(GRANT, grant=replace(ROOT, expires_at=NOW + 1999)), OURS)).expires_at == NOW + 1000
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
