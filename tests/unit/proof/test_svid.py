"""An SVID names one workload of one trust domain, signed by that trust domain alone; each thing wrong has its fault."""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from forestall.proof.bundle import JwtAuthorities, X509Authorities, parse_x509_bundle
from forestall.proof.chain import MAX_CERTIFICATE, MAX_CHAIN
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.svid import JwtSvid, X509Svid, verify_jwt_svid, verify_x509_svid
from forestall.testing.authority import (
    HOUR_MS,
    Authority,
    Signer,
    compact,
    der,
    key_usage,
    new_key,
    uri_names,
)
from tests.unit.proof.trust import NOW, Held, authority

DOMAINS = frozenset({"example.org", "partner.example"})
AUDIENCE = "https://forestall.example"
ID = "spiffe://example.org/agent"


def verify(chain: Sequence[bytes], *sources: Authority, now: int = NOW) -> X509Svid:
    return verify_x509_svid(chain, Held(*sources), trust_domains=DOMAINS, now=now)


def fault(chain: Sequence[bytes], *sources: Authority, now: int = NOW) -> Fault:
    with pytest.raises(InvalidProof) as refused:
        verify(chain, *sources, now=now)
    return refused.value.fault


# -- X.509


def test_an_x509_svid_names_its_workload() -> None:
    source = authority()
    issued = source.x509_svid("/agent")
    svid = verify(issued.chain, source)
    assert str(svid.id) == ID
    digest = hashlib.sha256(issued.chain[0]).digest()
    assert svid.thumbprint == urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert svid.expires_at == NOW + HOUR_MS + 1000


def test_a_chain_may_go_through_subordinate_authorities() -> None:
    source = authority()
    subordinate = source.subordinate()
    issued = source.x509_svid("/agent", through=[subordinate])
    assert str(verify(issued.chain, source).id) == ID
    assert fault(issued.chain[:1], source) is Fault.UNTRUSTED
    assert fault(tuple(reversed(issued.chain)), source) is Fault.MALFORMED


def test_a_subordinate_authority_that_ran_out_ends_the_chain() -> None:
    source = authority()
    subordinate = source.subordinate(lifetime_ms=60_000)
    issued = source.x509_svid("/agent", through=[subordinate])
    assert verify(issued.chain, source, now=NOW + 60_000)
    assert fault(issued.chain, source, now=NOW + 61_000) is Fault.EXPIRED


def test_it_counts_from_its_first_second_to_its_last() -> None:
    source = authority()
    chain = source.x509_svid("/agent", lifetime_ms=60_000).chain
    assert verify(chain, source, now=NOW - 60_000)
    assert verify(chain, source, now=NOW + 60_999)
    assert fault(chain, source, now=NOW - 60_001) is Fault.NOT_YET_VALID
    assert fault(chain, source, now=NOW + 61_000) is Fault.EXPIRED


def test_an_authority_that_ran_out_signs_nothing() -> None:
    source = authority()
    issued = source.x509_svid("/agent", lifetime_ms=3 * HOUR_MS)
    assert fault(issued.chain, source, now=NOW + 2 * HOUR_MS) is Fault.UNTRUSTED


def test_a_trust_domain_that_is_not_accepted_is_refused_even_with_a_bundle() -> None:
    stranger = authority("stranger.example")
    assert fault(stranger.x509_svid("/agent").chain, stranger) is Fault.WRONG_TRUST_DOMAIN


def test_without_a_bundle_there_is_nothing_to_check_against() -> None:
    assert fault(authority("partner.example").x509_svid("/agent").chain, authority()) is Fault.NO_BUNDLE


def test_another_trust_domains_authority_counts_for_nothing() -> None:
    source, partner = authority(), authority("partner.example")
    claimed = authority()
    claimed.x509 = partner.x509
    assert fault(claimed.x509_svid("/agent").chain, source, partner) is Fault.UNTRUSTED


def test_an_authority_of_the_same_name_is_not_the_same() -> None:
    assert fault(authority().x509_svid("/agent").chain, authority()) is Fault.UNTRUSTED


def test_an_empty_bundle_takes_everything_back() -> None:
    source = authority()
    issued = source.x509_svid("/agent")
    source.revoke_all()
    assert fault(issued.chain, source) is Fault.UNTRUSTED


def test_what_a_retired_authority_signed_is_refused() -> None:
    source = authority()
    issued = source.x509_svid("/agent")
    source.rotate()
    assert verify(issued.chain, source)
    source.retire()
    assert fault(issued.chain, source) is Fault.UNTRUSTED


def leaf(source: Authority, *extensions: tuple[x509.ExtensionType, bool], name: str = "agent") -> list[bytes]:
    return [der(source.certify(name, new_key(), source.x509[-1], extensions=extensions))]


LEAF = (x509.BasicConstraints(ca=False, path_length=None), True)
USAGE = (key_usage(authority=False), True)
NAMED = (uri_names(ID), False)


def usage(**changes: bool) -> x509.KeyUsage:
    bits = dict.fromkeys(
        [
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ],
        False,
    )
    return x509.KeyUsage(**{**bits, "digital_signature": True, **changes})


@pytest.mark.parametrize(
    ("extensions", "name"),
    [
        ([USAGE, NAMED], "agent"),
        ([LEAF, USAGE, NAMED], "agent"),
        ([LEAF, (usage(key_encipherment=True, key_agreement=True), True), NAMED], "agent"),
        ([LEAF, USAGE, (uri_names(ID), True)], ""),
        (
            [
                LEAF,
                USAGE,
                (x509.SubjectAlternativeName([x509.UniformResourceIdentifier(ID), x509.DNSName("a.b")]), False),
            ],
            "x",
        ),
    ],
)
def test_what_a_leaf_may_be(extensions: list[tuple[x509.ExtensionType, bool]], name: str) -> None:
    source = authority()
    assert str(verify(leaf(source, *extensions, name=name), source).id) == ID


@pytest.mark.parametrize(
    ("extensions", "name"),
    [
        ([(x509.BasicConstraints(ca=True, path_length=None), True), USAGE, NAMED], "agent"),
        ([LEAF, NAMED], "agent"),
        ([LEAF, (key_usage(authority=False), False), NAMED], "agent"),
        ([LEAF, (usage(digital_signature=False, key_encipherment=True), True), NAMED], "agent"),
        ([LEAF, (usage(key_cert_sign=True), True), NAMED], "agent"),
        ([LEAF, (usage(crl_sign=True), True), NAMED], "agent"),
        ([LEAF, USAGE, NAMED, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)], "agent"),
        ([LEAF, USAGE, NAMED, (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)], "agent"),
        ([LEAF, USAGE], "agent"),
        ([LEAF, USAGE, (x509.SubjectAlternativeName([x509.DNSName("example.org")]), False)], "agent"),
        ([LEAF, USAGE, (uri_names(ID, ID), False)], "agent"),
        ([LEAF, USAGE, (uri_names(ID, "https://example.org"), False)], "agent"),
        ([LEAF, USAGE, (uri_names("https://example.org/agent"), False)], "agent"),
        ([LEAF, USAGE, (uri_names("spiffe://example.org"), False)], "agent"),
        ([LEAF, USAGE, (uri_names("spiffe://example.org/"), False)], "agent"),
        ([LEAF, USAGE, (uri_names("spiffe://EXAMPLE.org/agent"), False)], "agent"),
        ([LEAF, USAGE, (uri_names("spiffe://example.org/%61gent"), False)], "agent"),
        ([LEAF, USAGE, NAMED], ""),
    ],
)
def test_what_a_leaf_may_not_be(extensions: list[tuple[x509.ExtensionType, bool]], name: str) -> None:
    source = authority()
    assert fault(leaf(source, *extensions, name=name), source) is Fault.MALFORMED


def test_a_critical_extension_that_nobody_knows_is_refused() -> None:
    source = authority()
    unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    assert verify(leaf(source, LEAF, USAGE, NAMED, (unknown, False)), source)
    assert fault(leaf(source, LEAF, USAGE, NAMED, (unknown, True)), source) is Fault.UNTRUSTED


def test_a_key_that_is_too_short_or_of_another_kind_is_refused() -> None:
    source = authority()

    def chain(key: Any) -> list[bytes]:
        return [der(source.certify("agent", key, source.x509[-1], uris=(ID,)))]

    for good in (rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())):
        assert verify(chain(good), source)
    for bad in (rsa.generate_private_key(65537, 1024), ec.generate_private_key(ec.SECP256K1())):
        assert fault(chain(bad), source) is Fault.ALGORITHM


def signer(source: Authority, *extensions: tuple[x509.ExtensionType, bool]) -> Signer:
    key = new_key()
    return Signer(source.certify("subordinate", key, source.x509[-1], extensions=extensions), key)


AUTHORITY = (x509.BasicConstraints(ca=True, path_length=None), True)
SIGNS = (key_usage(authority=True), True)


@pytest.mark.parametrize(
    "extensions",
    [
        [LEAF, SIGNS],
        [SIGNS],
        [AUTHORITY],
        [AUTHORITY, USAGE],
        [AUTHORITY, SIGNS, (uri_names(ID), False)],
        [AUTHORITY, SIGNS, (uri_names("spiffe://example.org/"), False)],
        [AUTHORITY, SIGNS, (uri_names("SPIFFE://example.org/agent"), False)],
        [AUTHORITY, SIGNS, (x509.NameConstraints(None, [x509.UniformResourceIdentifier("example.org")]), True)],
    ],
)
def test_who_may_not_sign(extensions: list[tuple[x509.ExtensionType, bool]]) -> None:
    source = authority()
    issued = source.x509_svid("/agent", through=[signer(source, *extensions)])
    assert fault(issued.chain, source) is Fault.UNTRUSTED


@pytest.mark.parametrize(
    "extensions",
    [
        [AUTHORITY, SIGNS],
        [AUTHORITY, SIGNS, (uri_names("spiffe://example.org"), False)],
        [AUTHORITY, SIGNS, (uri_names("https://example.org/authority"), False)],
    ],
)
def test_who_may_sign(extensions: list[tuple[x509.ExtensionType, bool]]) -> None:
    source = authority()
    issued = source.x509_svid("/agent", through=[signer(source, *extensions)])
    assert str(verify(issued.chain, source).id) == ID


def test_a_workload_cannot_sign_for_another() -> None:
    source = authority()
    key = new_key()
    workload = Signer(source.certify("/agent", key, source.x509[-1], uris=(ID,)), key)
    assert fault(source.x509_svid("/other", through=[workload]).chain, source) is Fault.UNTRUSTED


def test_the_length_of_a_path_is_kept() -> None:
    source = authority()
    short = signer(source, (x509.BasicConstraints(ca=True, path_length=0), True), SIGNS)
    key = new_key()
    below = Signer(source.certify("below", key, short, authority=True), key)
    assert verify(source.x509_svid("/agent", through=[short]).chain, source)
    assert fault(source.x509_svid("/agent", through=[short, below]).chain, source) is Fault.UNTRUSTED


def test_a_leaf_that_is_in_the_bundle_is_no_workload() -> None:
    source = authority()
    chain = source.x509_svid("/agent").chain
    inside = X509Authorities("example.org", (x509.load_der_x509_certificate(chain[0]),))

    class Wrong:
        def x509(self, trust_domain: str, now: int) -> X509Authorities:
            return inside

        def jwt(self, trust_domain: str, now: int) -> JwtAuthorities:
            raise NotImplementedError

    with pytest.raises(InvalidProof) as refused:
        verify_x509_svid(chain, Wrong(), trust_domains=DOMAINS, now=NOW)
    assert refused.value.fault is Fault.UNTRUSTED


def test_a_list_revokes_what_its_own_issuer_signed_alone() -> None:
    source, other = authority(), authority()
    good, bad = source.x509_svid("/good").chain, source.x509_svid("/bad").chain
    forged = other.revocations([good[0]])  # the same issuer's name, another's signature
    lists = (source.revocations([bad[0]]), forged)

    class Listed(Held):
        def x509(self, trust_domain: str, now: int) -> X509Authorities:
            return parse_x509_bundle(source.x509_bundle(), trust_domain, lists)

    assert verify_x509_svid(good, Listed(source), trust_domains=DOMAINS, now=NOW)
    with pytest.raises(InvalidProof) as refused:
        verify_x509_svid(bad, Listed(source), trust_domains=DOMAINS, now=NOW)
    assert refused.value.fault is Fault.REVOKED


def test_a_chain_that_is_no_chain_is_refused() -> None:
    source = authority()
    chain = source.x509_svid("/agent").chain
    assert fault([], source) is Fault.MALFORMED
    assert fault([b""], source) is Fault.MALFORMED
    assert fault([chain[0] + b"\x00"], source) is Fault.MALFORMED
    assert fault([chain[0], b"\x30\x00"], source) is Fault.MALFORMED
    assert fault([b"\x30" * (MAX_CERTIFICATE + 1)], source) is Fault.TOO_LARGE
    assert fault([chain[0]] * (MAX_CHAIN + 1), source) is Fault.TOO_LARGE


def test_a_certificate_whose_form_is_off_is_refused() -> None:
    source = authority()
    good = source.x509_svid("/agent").chain[0]
    version = good.index(b"\xa0\x03\x02\x01\x02") + 4
    assert fault([good[:version] + b"\x03" + good[version + 1 :]], source) is Fault.MALFORMED
    signature = x509.load_der_x509_certificate(good).signature
    unused = len(good) - len(signature) - 1
    for bits in range(1, 8):
        assert fault([good[:unused] + bytes([bits]) + good[unused + 1 :]], source) is Fault.MALFORMED


# -- JWT


def verify_jwt(token: str | bytes, *sources: Authority, now: int = NOW, skew_ms: int = 0) -> JwtSvid:
    bundles = Held(*sources)
    return verify_jwt_svid(token, bundles, audience=AUDIENCE, trust_domains=DOMAINS, now=now, skew_ms=skew_ms)


def jwt_fault(token: str | bytes, *sources: Authority, now: int = NOW, skew_ms: int = 0) -> Fault:
    with pytest.raises(InvalidProof) as refused:
        verify_jwt(token, *sources, now=now, skew_ms=skew_ms)
    words = token.decode() if isinstance(token, bytes) else token
    assert not any(len(part) > 8 and part in str(refused.value) for part in words.split("."))
    return refused.value.fault


def test_a_jwt_svid_names_its_workload() -> None:
    source = authority()
    token = source.jwt_svid("/agent", [AUDIENCE], extra="kept")
    for form in (token, token.encode()):
        svid = verify_jwt(form, source)
        assert str(svid.id) == ID
        assert svid.audiences == (AUDIENCE,)
        assert svid.expires_at == NOW + 300_000
        assert svid.claims["extra"] == "kept"
        assert "kept" not in repr(svid)


def test_ours_is_among_its_audiences() -> None:
    source = authority()
    assert verify_jwt(source.jwt_svid("/agent", ["other", AUDIENCE]), source).audiences == ("other", AUDIENCE)
    assert verify_jwt(source.jwt_svid("/agent", [], aud=AUDIENCE), source).audiences == (AUDIENCE,)
    assert jwt_fault(source.jwt_svid("/agent", ["other"]), source) is Fault.WRONG_AUDIENCE
    assert jwt_fault(source.jwt_svid("/agent", [AUDIENCE + "/"]), source) is Fault.WRONG_AUDIENCE
    assert jwt_fault(source.jwt_svid("/agent", []), source) is Fault.MALFORMED


def test_it_ends() -> None:
    source = authority()
    token = source.jwt_svid("/agent", [AUDIENCE])
    assert verify_jwt(token, source, now=NOW + 299_999)
    assert jwt_fault(token, source, now=NOW + 300_000) is Fault.EXPIRED
    assert verify_jwt(token, source, now=NOW + 300_000, skew_ms=1000)
    assert jwt_fault(source.jwt_svid("/agent", [AUDIENCE], exp=None), source) is Fault.MALFORMED
    assert jwt_fault(source.jwt_svid("/agent", [AUDIENCE], nbf=NOW // 1000 + 1), source) is Fault.NOT_YET_VALID
    assert jwt_fault(source.jwt_svid("/agent", [AUDIENCE], iat=NOW // 1000 + 1), source) is Fault.CLOCK
    kid, key = next(iter(source.jwt.items()))
    endless = compact({"alg": "ES256", "kid": kid}, {"sub": ID, "aud": AUDIENCE}, key)
    assert jwt_fault(endless, source) is Fault.MALFORMED


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        (None, Fault.MALFORMED),
        (7, Fault.MALFORMED),
        ("", Fault.MALFORMED),
        ("agent", Fault.MALFORMED),
        ("spiffe://example.org", Fault.MALFORMED),
        ("spiffe://example.org/", Fault.MALFORMED),
        ("spiffe://Example.org/agent", Fault.MALFORMED),
        ("spiffe://stranger.example/agent", Fault.WRONG_TRUST_DOMAIN),
        ("spiffe://partner.example/agent", Fault.NO_BUNDLE),
    ],
)
def test_its_subject_is_a_workload_of_an_accepted_trust_domain(subject: Any, expected: Fault) -> None:
    source = authority()
    assert jwt_fault(source.jwt_svid("/agent", [AUDIENCE], sub=subject), source) is expected


def test_only_its_own_trust_domains_keys_count() -> None:
    source, partner = authority(), authority("partner.example")
    claimed = source.jwt_svid("/agent", [AUDIENCE], sub="spiffe://partner.example/agent")
    assert jwt_fault(claimed, source, partner) is Fault.BAD_SIGNATURE  # both call their key jwt-1
    partner.jwt = {"another": new_key()}
    assert jwt_fault(claimed, source, partner) is Fault.UNKNOWN_KEY
    assert verify_jwt(source.jwt_svid("/agent", [AUDIENCE]), source, partner)


def test_an_authority_of_certificates_signs_no_tokens() -> None:
    source = authority()
    claims = {"sub": ID, "aud": AUDIENCE, "exp": NOW // 1000 + 60}
    token = compact({"alg": "ES256", "kid": "jwt-1"}, claims, source.x509[-1].key)
    assert jwt_fault(token, source) is Fault.BAD_SIGNATURE


def test_revoked_and_retired_keys_count_for_nothing() -> None:
    source = authority()
    token = source.jwt_svid("/agent", [AUDIENCE])
    source.rotate()
    assert verify_jwt(token, source)
    source.retire()
    assert jwt_fault(token, source) is Fault.UNKNOWN_KEY
    source.revoke_all()
    assert jwt_fault(token, source) is Fault.UNKNOWN_KEY


def test_without_a_key_id_there_has_to_be_one_key() -> None:
    source = authority()
    claims = {"sub": ID, "aud": AUDIENCE, "exp": NOW // 1000 + 60}
    token = compact({"alg": "ES256"}, claims, source.jwt["jwt-1"])
    assert verify_jwt(token, source)
    source.rotate()
    assert jwt_fault(token, source) is Fault.UNKNOWN_KEY


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ({"typ": "JWT"}, None),
        ({"typ": "JOSE"}, None),
        ({}, None),
        ({"typ": "at+jwt"}, Fault.WRONG_TYPE),
        ({"typ": "wit+jwt"}, Fault.WRONG_TYPE),
        ({"typ": 7}, Fault.MALFORMED),
        ({"alg": "none"}, Fault.UNSIGNED),
        ({"alg": "HS256"}, Fault.ALGORITHM),
        ({"alg": "EdDSA"}, Fault.ALGORITHM),
        ({"alg": "ES256K"}, Fault.ALGORITHM),
        ({"alg": "RS256"}, Fault.ALGORITHM),
        ({"alg": "ES384"}, Fault.ALGORITHM),
        ({"jwk": {}}, Fault.EMBEDDED_KEY),
        ({"jku": "https://example.org"}, Fault.EMBEDDED_KEY),
        ({"x5c": []}, Fault.EMBEDDED_KEY),
        ({"cty": "JWT"}, Fault.UNKNOWN_HEADER),
        ({"crit": ["exp"]}, Fault.UNKNOWN_HEADER),
        ({"kid": "another"}, Fault.UNKNOWN_KEY),
    ],
)
def test_its_header_is_closed(header: dict[str, Any], expected: Fault | None) -> None:
    source = authority()
    claims = {"sub": ID, "aud": AUDIENCE, "exp": NOW // 1000 + 60}
    token = compact({"alg": "ES256", "kid": "jwt-1", **header}, claims, source.jwt["jwt-1"])
    if expected is None:
        assert verify_jwt(token, source)
    else:
        assert jwt_fault(token, source) is expected


def test_a_changed_token_is_refused() -> None:
    source = authority()
    head, body, tail = source.jwt_svid("/agent", [AUDIENCE]).split(".")
    other = source.jwt_svid("/admin", [AUDIENCE]).split(".")[1]
    assert jwt_fault(f"{head}.{other}.{tail}", source) is Fault.BAD_SIGNATURE
    assert jwt_fault(f"{head}.{body}.", source) is Fault.BAD_SIGNATURE
    assert jwt_fault(f"{head}.{body}", source) is Fault.MALFORMED
    assert jwt_fault(f"{head}.{body}.{tail}.", source) is Fault.MALFORMED
    assert jwt_fault(f"{head}.W10.{tail}", source) is Fault.MALFORMED
    assert jwt_fault(f"{head}.{body}=.{tail}", source) is Fault.MALFORMED
