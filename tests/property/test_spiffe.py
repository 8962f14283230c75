"""Of SPIFFE: an identity has one spelling, no SVID survives a change, and no trust domain speaks for another."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from forestall.adapter.workload.held import Held as Word
from forestall.proof.bundle import parse_bundle, require_newer
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.spiffe_id import SpiffeId, parse_spiffe_id
from forestall.proof.svid import verify_jwt_svid, verify_x509_svid
from forestall.testing.authority import Authority, der
from tests.unit.proof.trust import NOW, Held, authority

AUDIENCE = "https://forestall.example"
NAMES = ("example.org", "partner.example", "example.org.evil")
DOMAINS = frozenset(NAMES)
SOURCES = tuple(authority(name) for name in NAMES)
BUNDLES = Held(*SOURCES)
CHAIN = SOURCES[0].x509_svid("/agent").chain
TOKEN = SOURCES[0].jwt_svid("/agent", [AUDIENCE])

letters = "abcxyzABCXYZ019.-_"
segments = st.text(letters, min_size=1, max_size=8).filter(lambda text: text not in {".", ".."})
paths = st.lists(segments, max_size=5)
trust_domains = st.text("abcxyz019.-_", min_size=1, max_size=12)
ids = st.builds(lambda name, parts: f"spiffe://{name}" + "".join(f"/{part}" for part in parts), trust_domains, paths)


@given(ids)
def test_every_id_is_read_as_it_is_written(text: str) -> None:
    identity = parse_spiffe_id(text)
    assert str(identity) == text
    assert text == f"spiffe://{identity.trust_domain}{identity.path}"


@given(ids, st.integers(0), st.sampled_from([*"/%?#@: A\n\\~+é", "//", "/../", "/./", "%2f"]), st.booleans())
def test_a_changed_id_is_refused_or_another_id(text: str, at: int, put: str, replace: bool) -> None:
    at %= len(text) + 1
    changed = text[:at] + put + text[at + replace :]
    try:
        identity = parse_spiffe_id(changed)
    except InvalidProof:
        return
    assert str(identity) == changed


@given(trust_domains, paths, trust_domains, paths)
@example("a", ["pay"], "a", ["pay", "roll"])
@example("a", ["payroll"], "a", ["pay"])
def test_within_is_a_prefix_of_segments(one: str, below: list[str], other: str, above: list[str]) -> None:
    identity = SpiffeId(one, "".join(f"/{part}" for part in below))
    whole = SpiffeId(other, "".join(f"/{part}" for part in above))
    assert identity.is_within(whole) is (one == other and below[: len(above)] == above)
    assert identity.is_within(identity)


@pytest.mark.filterwarnings("ignore:Attribute's length", "ignore:Parsed a serial number")
@given(st.integers(0, len(CHAIN[0]) * 8 - 1))
def test_an_x509_svid_with_a_bit_changed_is_refused(bit: int) -> None:
    changed = bytearray(CHAIN[0])
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InvalidProof):
        verify_x509_svid([bytes(changed)], BUNDLES, trust_domains=DOMAINS, now=NOW)


@given(st.integers(0, len(TOKEN) - 1), st.characters(codec="ascii"))
def test_a_jwt_svid_with_a_character_changed_is_refused(at: int, put: str) -> None:
    changed = TOKEN[:at] + put + TOKEN[at + 1 :]
    if changed == TOKEN:
        return
    with pytest.raises(InvalidProof):
        verify_jwt_svid(changed, BUNDLES, audience=AUDIENCE, trust_domains=DOMAINS, now=NOW, skew_ms=0)


@given(st.sampled_from(SOURCES), st.sampled_from(NAMES), segments)
def test_a_trust_domain_speaks_for_itself_alone(signer: Authority, name: str, path: str) -> None:
    claimed = f"spiffe://{name}/{path}"
    token = signer.jwt_svid("/", [AUDIENCE], sub=claimed)
    leaf = signer.certify("leaf", signer.jwt["jwt-1"], signer.x509[-1], uris=(claimed,))

    def check() -> tuple[str, str]:
        by_token = verify_jwt_svid(token, BUNDLES, audience=AUDIENCE, trust_domains=DOMAINS, now=NOW, skew_ms=0)
        return str(by_token.id), str(verify_x509_svid([der(leaf)], BUNDLES, trust_domains=DOMAINS, now=NOW).id)

    if signer.trust_domain == name:
        assert check() == (claimed, claimed)
        return
    with pytest.raises(InvalidProof):
        verify_jwt_svid(token, BUNDLES, audience=AUDIENCE, trust_domains=DOMAINS, now=NOW, skew_ms=0)
    with pytest.raises(InvalidProof) as refused:
        verify_x509_svid([der(leaf)], BUNDLES, trust_domains=DOMAINS, now=NOW)
    assert refused.value.fault is Fault.UNTRUSTED


@given(st.lists(st.none() | st.integers(0, 5), max_size=12))
def test_whatever_bundles_come_the_sequence_never_goes_back(offered: list[int | None]) -> None:
    held = None
    seen: list[int] = []
    for sequence in offered:
        members = {"keys": []} if sequence is None else {"keys": [], "spiffe_sequence": sequence}
        bundle = parse_bundle(json.dumps(members).encode(), NAMES[0])
        if seen and (sequence is None or sequence < seen[-1]):
            with pytest.raises(InvalidProof, match="too_old"):
                require_newer(bundle, held)
            continue
        held = require_newer(bundle, held)
        if sequence is not None:
            seen.append(sequence)
    assert (held.sequence if held is not None else None) == (seen[-1] if seen else None)


BOUND = 10
words = st.one_of(
    st.tuples(st.just("say"), st.frozensets(st.sampled_from(NAMES))),
    st.tuples(st.just("poll"), st.frozensets(st.sampled_from(NAMES))),
    st.tuples(st.just("silence"), st.just(frozenset())),
    st.tuples(st.just("forget"), st.just(frozenset())),
)


@given(st.lists(st.tuples(words, st.integers(0, 2 * BOUND)), max_size=12), st.integers(0, 3 * BOUND))
def test_what_is_held_is_the_last_word_for_as_long_as_it_counts(
    history: list[tuple[tuple[str, frozenset[str]], int]], later: int
) -> None:
    held: Word[str] = Word(BOUND)
    now, said, silent_since, live = 0, frozenset[str](), 0, False
    for (what, names), passed in history:
        now += passed
        if what == "say":
            held.replace({name: name for name in names})
            said, live = names, True
        elif what == "poll":
            held.replace({name: name for name in names}, now)
            said, live, silent_since = names, False, now
        elif what == "silence":
            held.silence(now)
            silent_since, live = (now if live else silent_since), False
        else:
            held.forget()
            said, live = frozenset(), False
    now += later
    counts = live or now - silent_since <= BOUND
    for name in NAMES:
        if name in said and counts:
            assert held.find(name, now) == name
        else:
            with pytest.raises(InvalidProof) as refused:
                held.find(name, now)
            assert refused.value.fault is Fault.NO_BUNDLE


@given(st.binary(max_size=60))
def test_no_token_names_its_own_signature(tail: bytes) -> None:
    head, body, _ = TOKEN.split(".")
    forged = f"{head}.{body}.{urlsafe_b64encode(tail).rstrip(b'=').decode()}"
    with pytest.raises(InvalidProof) as refused:
        verify_jwt_svid(forged, BUNDLES, audience=AUDIENCE, trust_domains=DOMAINS, now=NOW, skew_ms=0)
    assert refused.value.fault is Fault.BAD_SIGNATURE
