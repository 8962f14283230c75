"""A bundle is one trust domain's keys: what is unknown in it is ignored, what is wrong is refused, none goes back."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from typing import Any

import pytest

from forestall.proof.bundle import (
    MAX_AUTHORITIES,
    MAX_BUNDLE,
    Bundle,
    parse_bundle,
    parse_jwt_bundle,
    parse_x509_bundle,
    require_newer,
)
from forestall.proof.fault import Fault, InvalidProof
from forestall.testing.authority import der, new_key, public_jwk
from tests.unit.proof.trust import authority

DOMAIN = "example.org"


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(authority().bundle())
    change(document)
    return json.dumps(document).encode()


def fault(data: bytes) -> Fault:
    with pytest.raises(InvalidProof) as refused:
        parse_bundle(data, DOMAIN)
    return refused.value.fault


def test_a_bundle_holds_both_kinds_of_authority() -> None:
    source = authority()
    source.rotate()
    bundle = parse_bundle(source.bundle(), DOMAIN)
    assert bundle.trust_domain == DOMAIN
    assert bundle.x509.certificates == tuple(each.certificate for each in source.x509)
    assert [key.kid for key in bundle.jwt.keys.keys] == ["jwt-1", "jwt-2"]
    assert (bundle.sequence, bundle.refresh_hint_s) == (2, 300)


def test_a_bundle_without_keys_is_a_bundle() -> None:
    source = authority()
    source.revoke_all()
    bundle = parse_bundle(source.bundle(), DOMAIN)
    assert (bundle.x509.certificates, bundle.jwt.keys.keys, bundle.sequence) == ((), (), 2)


@pytest.mark.parametrize(
    ("change", "certificates", "keys"),
    [
        (lambda keys: keys[0].update(use="sig"), 0, 1),
        (lambda keys: keys[0].pop("use"), 0, 1),
        (lambda keys: keys[0].pop("x5c"), 0, 1),
        (lambda keys: keys[0].update(x5c=[]), 0, 1),
        (lambda keys: keys[0].update(x5c=[*keys[0]["x5c"], "anything"]), 1, 1),
        (lambda keys: keys[1].update(use="wit-svid"), 1, 0),
        (lambda keys: keys[1].update(use="JWT-SVID"), 1, 0),
        (lambda keys: keys[1].pop("use"), 1, 0),
        (lambda keys: keys[1].pop("kid"), 1, 0),
        (lambda keys: keys[1].update(kty="AKP"), 1, 0),
        (lambda keys: keys[0].update(kty="AKP"), 0, 1),
        (lambda keys: keys.append({"kty": "AKP", "use": "unknown"}), 1, 1),
        (lambda keys: keys[1].update(unknown={"any": "thing"}), 1, 1),
    ],
)
def test_what_is_not_known_is_ignored(change: Callable[[Any], object], certificates: int, keys: int) -> None:
    bundle = parse_bundle(changed(lambda document: change(document["keys"])), DOMAIN)
    assert (len(bundle.x509.certificates), len(bundle.jwt.keys.keys)) == (certificates, keys)


def leaf_in_place_of_the_authority(document: dict[str, Any]) -> None:
    source = authority()
    key = new_key()
    leaf = source.certify("/agent", key, source.x509[-1], uris=("spiffe://example.org/agent",))
    document["keys"][0] = {"use": "x509-svid", **public_jwk(key), "x5c": [b64encode(der(leaf)).decode()]}


def authority_with_a_path(document: dict[str, Any]) -> None:
    key = new_key()
    root = authority().certify("root", key, None, uris=("spiffe://example.org/agent",), authority=True)
    document["keys"][0] = {"use": "x509-svid", **public_jwk(key), "x5c": [b64encode(der(root)).decode()]}


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.pop("keys"),
        lambda document: document.update(keys={}),
        lambda document: document.update(keys=["key"]),
        lambda document: document["keys"][0].pop("kty"),
        lambda document: document["keys"][0].update(kid="x"),
        lambda document: document["keys"][0].update(x5c="text"),
        lambda document: document["keys"][0].update(x5c=[7]),
        lambda document: document["keys"][0].update(x5c=["not base64!"]),
        lambda document: document["keys"][0].update(x5c=["AAAA"]),
        lambda document: document["keys"][0].update(x5c=["\x80" + document["keys"][0]["x5c"][0]]),
        lambda document: document["keys"][0].update(public_jwk(new_key())),
        lambda document: document["keys"].append(document["keys"][1]),
        lambda document: document["keys"][1].update(x=document["keys"][1]["y"]),
        lambda document: document.update(spiffe_sequence="1"),
        lambda document: document.update(spiffe_sequence=-1),
        lambda document: document.update(spiffe_sequence=True),
        lambda document: document.update(spiffe_sequence=None),
        lambda document: document.update(spiffe_sequence=1.5),
        lambda document: document.update(spiffe_sequence=2**64),
        lambda document: document.update(spiffe_refresh_hint="300"),
        leaf_in_place_of_the_authority,
        authority_with_a_path,
    ],
)
def test_what_is_wrong_is_refused_whole(change: Callable[[dict[str, Any]], object]) -> None:
    assert fault(changed(change)) is Fault.MALFORMED


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"null", b'{"keys":[],"keys":[]}', b"\xff", b'{"keys":[NaN]}'])
def test_what_is_not_one_json_object_is_refused(data: bytes) -> None:
    assert fault(data) is Fault.MALFORMED


def test_a_private_or_a_symmetric_key_is_refused() -> None:
    assert fault(changed(lambda document: document["keys"][1].update(d="AA"))) is Fault.NOT_PUBLIC
    assert fault(changed(lambda document: document["keys"].append({"kty": "oct", "k": "AA"}))) is Fault.NOT_PUBLIC


def test_a_bundle_has_a_size_and_so_many_authorities() -> None:
    assert fault(b'{"keys":[]}' + b" " * MAX_BUNDLE) is Fault.TOO_LARGE
    many = changed(lambda document: document.update(keys=document["keys"][:1] * (MAX_AUTHORITIES + 1)))
    assert fault(many) is Fault.TOO_LARGE
    assert fault(changed(lambda document: document["keys"][0].update(x5c=["A" * 40_000]))) is Fault.TOO_LARGE


def test_a_bundle_is_of_a_trust_domain() -> None:
    with pytest.raises(InvalidProof):
        parse_bundle(authority().bundle(), "Example.org")


def test_a_sequence_may_need_64_bits_and_a_hint_may_be_missing() -> None:
    bundle = parse_bundle(changed(lambda document: document.update(spiffe_sequence=2**64 - 1)), DOMAIN)
    assert bundle.sequence == 2**64 - 1
    bare = parse_bundle(b'{"keys":[]}', DOMAIN)
    assert (bare.sequence, bare.refresh_hint_s) == (None, None)
    assert parse_bundle(b'{"keys":[],"spiffe_refresh_hint":0}', DOMAIN).refresh_hint_s is None


def numbered(sequence: int | None, trust_domain: str = DOMAIN) -> Bundle:
    members: dict[str, Any] = {"keys": []} if sequence is None else {"keys": [], "spiffe_sequence": sequence}
    return parse_bundle(json.dumps(members).encode(), trust_domain)


@pytest.mark.parametrize(("held", "offered"), [(None, 1), (None, None), (1, 1), (1, 2), (0, 0)])
def test_a_bundle_takes_the_place_of_one_that_is_not_ahead(held: int | None, offered: int | None) -> None:
    assert require_newer(numbered(offered), numbered(held)) == numbered(offered)


@pytest.mark.parametrize(("held", "offered"), [(2, 1), (1, 0), (1, None), (0, None)])
def test_a_bundle_never_goes_back(held: int, offered: int | None) -> None:
    with pytest.raises(InvalidProof) as refused:
        require_newer(numbered(offered), numbered(held))
    assert refused.value.fault is Fault.TOO_OLD


def test_a_bundle_never_takes_the_place_of_another_trust_domains() -> None:
    assert require_newer(numbered(1), None) == numbered(1)
    with pytest.raises(InvalidProof) as refused:
        require_newer(numbered(2, "partner.example"), numbered(1))
    assert refused.value.fault is Fault.WRONG_TRUST_DOMAIN


def test_what_the_workload_api_sends_is_read_too() -> None:
    source = authority()
    source.rotate()
    assert parse_x509_bundle(source.x509_bundle(), DOMAIN) == parse_bundle(source.bundle(), DOMAIN).x509
    assert [key.kid for key in parse_jwt_bundle(source.jwt_bundle(), DOMAIN).keys.keys] == ["jwt-1", "jwt-2"]
    assert [key.kid for key in parse_jwt_bundle(source.bundle(), DOMAIN).keys.keys] == ["jwt-1", "jwt-2"]
    assert parse_x509_bundle(b"", DOMAIN).certificates == ()


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data[:-1],
        lambda data: data + b"\x30",
        lambda data: data + b"\x00",
        lambda data: data + b"\x30\x80",
        lambda data: data + b"\x30\x84\x00\x00\x00\x01\x00",
        lambda data: b"\x31" + data[1:],
        lambda data: data + der(authority().certify("leaf", new_key(), authority().x509[-1], uris=("spiffe://a/b",))),
    ],
)
def test_a_row_of_certificates_that_is_damaged_is_refused(change: Callable[[bytes], bytes]) -> None:
    with pytest.raises(InvalidProof) as refused:
        parse_x509_bundle(change(authority().x509_bundle()), DOMAIN)
    assert refused.value.fault is Fault.MALFORMED


def test_a_row_of_certificates_has_an_end() -> None:
    data = authority().x509_bundle()
    assert len(parse_x509_bundle(data * MAX_AUTHORITIES, DOMAIN).certificates) == MAX_AUTHORITIES
    with pytest.raises(InvalidProof):
        parse_x509_bundle(data * (MAX_AUTHORITIES + 1), DOMAIN)
    with pytest.raises(InvalidProof) as refused:
        parse_x509_bundle(b"\x30" * (MAX_AUTHORITIES * 16_384 + 1), DOMAIN)
    assert refused.value.fault is Fault.TOO_LARGE


def test_a_revocation_list_is_read_or_refused() -> None:
    source = authority()
    listed = source.revocations([source.x509_svid("/agent").chain[0]])
    assert len(parse_x509_bundle(source.x509_bundle(), DOMAIN, (listed,)).revocations) == 1
    for damaged in (b"", listed[:-1], source.x509_bundle()):
        with pytest.raises(InvalidProof) as refused:
            parse_x509_bundle(source.x509_bundle(), DOMAIN, (damaged,))
        assert refused.value.fault is Fault.MALFORMED
