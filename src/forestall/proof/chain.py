"""X.509 certificates as SPIFFE uses them: reading them strictly, and the path to a trust domain's authorities.

RFC 5280 path validation is cryptography's, at a time that the caller gives. What X509-SVID.md asks of signing
certificates (sections 3.2, 4.1 and 4.3) is added to it here; what it asks of a leaf is in `svid.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.x509.verification import (
    Criticality,
    ExtensionPolicy,
    Policy,
    PolicyBuilder,
    Store,
    VerificationError,
)

from forestall.proof.algorithm import CURVES
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import MAX_RSA, MIN_RSA
from forestall.proof.spiffe_id import parse_trust_domain_id

MAX_CERTIFICATE = 16_384
"""Bytes of one certificate. SPIRE's are under 1,000; a leaf with an RSA 4096 key and many names stays far below."""

MAX_CHAIN = 8
"""Certificates that a peer may present. SPIRE nests two or three deep; path building costs grow with each."""

_SEQUENCE = 0x30
Kind = TypeVar("Kind", bound=x509.ExtensionType)

UNREADABLE = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
"""What cryptography raises for a certificate that it cannot read, whole or in part."""


def parse_certificate(der: bytes) -> x509.Certificate:
    """One DER certificate, with extensions that can be read and a public key of a kind and a size that count.

    Raises:
        InvalidProof: `too_large`, `malformed`, or `algorithm` for the key.
    """
    if len(der) > MAX_CERTIFICATE:
        raise InvalidProof(Fault.TOO_LARGE, f"a certificate has at most {MAX_CERTIFICATE} bytes")
    try:
        certificate = x509.load_der_x509_certificate(der)
        # each is read when first asked for, and has to be readable now
        _ = certificate.extensions, certificate.subject, certificate.issuer
        key = certificate.public_key()
    except UNREADABLE:
        raise InvalidProof(Fault.MALFORMED, "not a certificate that can be read") from None
    if certificate.serial_number <= 0:  # RFC 5280, section 4.1.2.2
        raise InvalidProof(Fault.MALFORMED, "a certificate's number is above zero")
    if not der.endswith(b"\0" + certificate.signature):  # else bits that nobody signed or reads make it another one
        raise InvalidProof(Fault.MALFORMED, "a certificate's signature is of whole bytes")
    if not _counts(key):  # path validation asks this of who signs, and not of a leaf
        raise InvalidProof(Fault.ALGORITHM, "a key of a kind or a size that does not count")
    return certificate


def split_certificates(data: bytes, *, most: int) -> tuple[bytes, ...]:
    """The certificates in a row of them, DER, nothing between: how the Workload API sends chains and bundles.

    Raises:
        InvalidProof: `too_large`, where there are more than `most`; `malformed`.
    """
    if len(data) > most * MAX_CERTIFICATE:
        raise InvalidProof(Fault.TOO_LARGE, f"at most {most} certificates")
    found: list[bytes] = []
    start = 0
    while start < len(data):
        end = start + _length(data, start)
        if end > len(data) or len(found) == most:
            raise InvalidProof(Fault.MALFORMED, "certificates that are cut short, or too many")
        found.append(data[start:end])
        start = end
    return tuple(found)


def parse_authority(der: bytes) -> x509.Certificate:
    """A trust domain's own certificate: one that may sign others.

    Raises:
        InvalidProof: `too_large`, `malformed` or `algorithm`.
    """
    certificate = parse_certificate(der)
    try:
        require_signing(certificate)
    except ValueError as error:
        raise InvalidProof(Fault.MALFORMED, str(error)) from None
    return certificate


def require_signing(certificate: x509.Certificate) -> None:
    """X509-SVID.md, sections 3.2, 4.1, 4.3: `cA`, `keyCertSign`, and no path in a SPIFFE ID, where it has one.

    Raises:
        ValueError: which of these does not hold.
    """
    constraints = extension(certificate, x509.BasicConstraints)
    usage = extension(certificate, x509.KeyUsage)
    if constraints is None or not constraints.value.ca:
        raise ValueError("a certificate that signs others has to be a CA's")
    if usage is None or not usage.value.key_cert_sign:
        raise ValueError("a certificate that signs others has to have keyCertSign")
    names = extension(certificate, x509.SubjectAlternativeName)
    if names is not None:
        for uri in names.value.get_values_for_type(x509.UniformResourceIdentifier):
            if uri.lower().startswith("spiffe:"):
                try:
                    parse_trust_domain_id(uri)
                except InvalidProof:
                    raise ValueError("a certificate that signs others has no path in its SPIFFE ID") from None


def require_path(
    leaf: x509.Certificate, intermediates: Sequence[x509.Certificate], authorities: Sequence[x509.Certificate], now: int
) -> tuple[x509.Certificate, ...]:
    """The path from `leaf` to one of `authorities`, both included (RFC 5280, section 6), at `now`.

    Raises:
        InvalidProof: `untrusted`, where there is none.
    """
    if not authorities:
        raise InvalidProof(Fault.UNTRUSTED, "the trust domain has no X.509 authorities")
    verifier = (
        PolicyBuilder()
        .store(Store(list(authorities)))
        .time(at(now))
        .max_chain_depth(MAX_CHAIN)
        .extension_policies(ca_policy=_AUTHORITY, ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        path = tuple(verifier.verify(leaf, list(intermediates)).chain)
    except (VerificationError, *UNREADABLE):
        raise InvalidProof(Fault.UNTRUSTED, "no path to the trust domain's authorities") from None
    if len(path) < 2:
        raise InvalidProof(Fault.UNTRUSTED, "an authority is no workload")
    return path


def require_unrevoked(path: Sequence[x509.Certificate], lists: Sequence[x509.CertificateRevocationList]) -> None:
    """No certificate of `path` is in a revocation list that its issuer signed (RFC 5280, section 6.3).

    A list whose date is past still revokes: what was taken back does not come back because nobody renewed the list.

    Raises:
        InvalidProof: `revoked`.
    """
    for certificate, issuer in pairwise(path):
        for revoked in lists:
            if revoked.issuer == certificate.issuer and _signed_by(revoked, issuer) and _lists(revoked, certificate):
                raise InvalidProof(Fault.REVOKED, "a certificate is in its issuer's revocation list")


def parse_revocations(der: bytes, *, max_bytes: int) -> x509.CertificateRevocationList:
    """One DER revocation list.

    Raises:
        InvalidProof: `too_large` or `malformed`.
    """
    if len(der) > max_bytes:
        raise InvalidProof(Fault.TOO_LARGE, f"a revocation list has at most {max_bytes} bytes")
    try:
        revoked = x509.load_der_x509_crl(der)
        # each is read when first asked for, and has to be readable now
        _ = revoked.extensions, revoked.issuer, [each.extensions for each in revoked]
    except UNREADABLE:
        raise InvalidProof(Fault.MALFORMED, "not a revocation list that can be read") from None
    return revoked


def extension(certificate: x509.Certificate, kind: type[Kind]) -> x509.Extension[Kind] | None:
    """The extension of that kind, where the certificate has one."""
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


def at(now: int) -> datetime:
    """Milliseconds since the epoch, as cryptography takes a time."""
    return datetime.fromtimestamp(now / 1000, UTC)


def _length(data: bytes, start: int) -> int:
    """Bytes of the DER value at `start`, its head included (X.690, sections 8.1.3 and 10.1)."""
    head = data[start : start + 2]
    if len(head) < 2 or head[0] != _SEQUENCE:
        raise InvalidProof(Fault.MALFORMED, "not a certificate")
    if head[1] < 0x80:
        return 2 + head[1]
    count = head[1] & 0x7F
    size = data[start + 2 : start + 2 + count]
    if not 1 <= count <= 3 or len(size) < count:
        raise InvalidProof(Fault.MALFORMED, "not a certificate")
    return 2 + count + int.from_bytes(size, "big")


def _counts(key: object) -> bool:
    if isinstance(key, rsa.RSAPublicKey):
        return MIN_RSA <= key.key_size <= MAX_RSA
    if isinstance(key, ec.EllipticCurvePublicKey):
        return any(curve.curve.name == key.curve.name for curve in CURVES.values())
    return isinstance(key, Ed25519PublicKey)


def _lists(revoked: x509.CertificateRevocationList, certificate: x509.Certificate) -> bool:
    return revoked.get_revoked_certificate_by_serial_number(certificate.serial_number) is not None


def _signed_by(revoked: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    try:
        return revoked.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # another kind is a TypeError
    except UNREADABLE:
        return False


def _signing(_policy: Policy, certificate: x509.Certificate, _value: x509.BasicConstraints) -> None:
    require_signing(certificate)


_AUTHORITY = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _signing)
"""Asked of every certificate of a path but the leaf, authorities included."""
