"""A trust domain of one's own, for tests: X.509 and JWT authorities, the SVIDs they sign, and the bundle that says so.

The time is the caller's. It shares no code with what verifies (`forestall.proof`), so that the two cannot be wrong in
the same way. Its keys live in memory and guard nothing.
"""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

HOUR_MS = 3_600_000
_COORDINATE = 32  # bytes of a P-256 coordinate


@dataclass(frozen=True, slots=True)
class Signer:
    """A certificate and the key that it is for."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


@dataclass(frozen=True, slots=True)
class Issued:
    """An X.509-SVID with its key: `chain` is DER, the leaf first, authorities left out; `key` is PKCS #8 DER."""

    id: str
    chain: tuple[bytes, ...]
    key: bytes = field(repr=False)


class Authority:
    """One trust domain. `rotate` brings in new authorities beside the old, `retire` drops the old, `revoke_all` all."""

    def __init__(self, trust_domain: str, now: Callable[[], int]) -> None:
        """`now`: milliseconds since the epoch."""
        self.trust_domain = trust_domain
        self.now = now
        self.sequence = 0
        self.refresh_hint_s = 300
        self.x509: list[Signer] = []
        self.jwt: dict[str, ec.EllipticCurvePrivateKey] = {}
        self.rotate()

    @property
    def id(self) -> str:
        return f"spiffe://{self.trust_domain}"

    def rotate(self) -> None:
        """New authorities sign from now on; what the old ones signed stays good until they are retired."""
        self.sequence += 1
        name = f"{self.trust_domain} {self.sequence}"
        key = new_key()
        self.x509.append(Signer(self.certify(name, key, None, uris=(self.id,), authority=True), key))
        self.jwt[f"jwt-{self.sequence}"] = new_key()

    def retire(self) -> None:
        """Only the newest authorities stay."""
        self.sequence += 1
        self.x509 = self.x509[-1:]
        self.jwt = dict(list(self.jwt.items())[-1:])

    def revoke_all(self) -> None:
        """`keys: []`: nothing that this trust domain ever signed is good any more."""
        self.sequence += 1
        self.x509, self.jwt = [], {}

    def subordinate(self, *, lifetime_ms: int = HOUR_MS) -> Signer:
        """An intermediate authority, signed by the newest."""
        key = new_key()
        name = f"{self.trust_domain} subordinate"
        return Signer(
            self.certify(name, key, self.x509[-1], uris=(self.id,), authority=True, lifetime_ms=lifetime_ms), key
        )

    def x509_svid(self, path: str, *, lifetime_ms: int = HOUR_MS, through: Sequence[Signer] = ()) -> Issued:
        """An X.509-SVID for `path`, signed by the last of `through` (outermost first) or by the newest authority."""
        key = new_key()
        signer = through[-1] if through else self.x509[-1]
        leaf = self.certify(path, key, signer, uris=(self.id + path,), lifetime_ms=lifetime_ms)
        chain = (leaf, *(each.certificate for each in reversed(through)))
        return Issued(self.id + path, tuple(der(each) for each in chain), pkcs8(key))

    def certify(
        self,
        name: str,
        key: Any,
        signer: Signer | None,
        *,
        uris: Sequence[str] = (),
        authority: bool = False,
        lifetime_ms: int = HOUR_MS,
        extensions: Sequence[tuple[x509.ExtensionType, bool]] | None = None,
    ) -> x509.Certificate:
        """A certificate for `key`, valid from a minute ago, signed by `signer` or, without one, by `key` itself.

        `extensions`: in place of the usual ones, each with whether it is critical.
        """
        subject = _name(name)
        usual = _usual(uris, authority, key, signer) if extensions is None else extensions
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(signer.certificate.subject if signer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(_at(self.now() - 60_000))
            .not_valid_after(_at(self.now() + lifetime_ms))
        )
        for extension, critical in usual:
            builder = builder.add_extension(extension, critical)
        return builder.sign(signer.key if signer else key, SHA256())

    def jwt_svid(self, path: str, audience: Sequence[str], *, lifetime_ms: int = 300_000, **claims: Any) -> str:
        """A JWT-SVID for `path`, signed by the newest key. `claims` are added, or replace the usual ones."""
        seconds = self.now() // 1000
        usual = {"sub": self.id + path, "aud": list(audience), "iat": seconds, "exp": seconds + lifetime_ms // 1000}
        kid, key = list(self.jwt.items())[-1]
        return compact({"alg": "ES256", "kid": kid, "typ": "JWT"}, {**usual, **claims}, key)

    def bundle(self) -> bytes:
        """The trust bundle as a bundle endpoint serves it (SPIFFE_Trust_Domain_and_Bundle.md, section 4)."""
        keys = [
            {"use": "x509-svid", **public_jwk(each.key), "x5c": [b64encode(der(each.certificate)).decode()]}
            for each in self.x509
        ] + [{"use": "jwt-svid", "kid": kid, **public_jwk(key)} for kid, key in self.jwt.items()]
        members = {"keys": keys, "spiffe_sequence": self.sequence, "spiffe_refresh_hint": self.refresh_hint_s}
        return json.dumps(members).encode()

    def x509_bundle(self) -> bytes:
        """The X.509 authorities as the Workload API sends them: DER in a row."""
        return b"".join(der(each.certificate) for each in self.x509)

    def jwt_bundle(self) -> bytes:
        """The JWT authorities as the Workload API sends them: a plain JWK Set, without `use`, as SPIRE has it."""
        return json.dumps({"keys": [{"kid": kid, **public_jwk(key)} for kid, key in self.jwt.items()]}).encode()

    def revocations(self, certificates: Sequence[bytes]) -> bytes:
        """A revocation list for these (DER), signed by the newest authority, DER."""
        signer = self.x509[-1]
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(signer.certificate.subject)
            .last_update(_at(self.now()))
            .next_update(_at(self.now() + HOUR_MS))
        )
        for each in certificates:
            serial = x509.load_der_x509_certificate(each).serial_number
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(_at(self.now()))
            builder = builder.add_revoked_certificate(entry.build())
        return builder.sign(signer.key, SHA256()).public_bytes(Encoding.DER)


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def pkcs8(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def public_jwk(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    numbers = key.public_key().public_numbers()
    return {
        "kty": "EC",
        "crv": "P-256",
        "x": _base64url(numbers.x.to_bytes(_COORDINATE, "big")),
        "y": _base64url(numbers.y.to_bytes(_COORDINATE, "big")),
    }


def compact(header: Mapping[str, Any], claims: Mapping[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    """A JWS in compact form, signed as ES256 whatever the header says (RFC 7515, section 3.1; RFC 7518, 3.4)."""
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, claims))
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(SHA256())))
    return f"{signed}.{_base64url(r.to_bytes(_COORDINATE, 'big') + s.to_bytes(_COORDINATE, 'big'))}"


def key_usage(*, authority: bool) -> x509.KeyUsage:
    """What X509-SVID.md, section 4.3, asks of an authority, or of a leaf."""
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def uri_names(*uris: str) -> x509.SubjectAlternativeName:
    return x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])


def _usual(
    uris: Sequence[str], authority: bool, key: Any, signer: Signer | None
) -> list[tuple[x509.ExtensionType, bool]]:
    issuer = (signer.key if signer else key).public_key()
    usual: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=authority, path_length=None), True),
        (key_usage(authority=authority), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer), False),
    ]
    if not authority:
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        usual.append((x509.ExtendedKeyUsage(both), False))
    if uris:
        usual.append((uri_names(*uris), False))
    return usual


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])] if text else [])


def _at(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds // 1000, UTC)


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
