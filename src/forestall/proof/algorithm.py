"""The signature algorithms that are ever accepted (RFC 7518, RFC 8037), each with the one kind of key it goes with.

`none` and the HMACs are not in the list, so that no key and no setting can bring them back.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature

from forestall.proof.fault import Fault, InvalidProof

Public = rsa.RSAPublicKey | ec.EllipticCurvePublicKey | Ed25519PublicKey
Private = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | Ed25519PrivateKey


class Algorithm(StrEnum):
    RS256 = "RS256"
    RS384 = "RS384"
    RS512 = "RS512"
    PS256 = "PS256"
    PS384 = "PS384"
    PS512 = "PS512"
    ES256 = "ES256"
    ES384 = "ES384"
    ES512 = "ES512"
    EDDSA = "EdDSA"  # with Ed25519 alone


RSA = frozenset(member for member in Algorithm if member.value[:2] in {"RS", "PS"})


@dataclass(frozen=True, slots=True)
class Curve:
    algorithm: Algorithm
    curve: ec.EllipticCurve
    size: int
    """Bytes of a coordinate, and of each half of a signature."""


CURVES = {
    "P-256": Curve(Algorithm.ES256, ec.SECP256R1(), 32),
    "P-384": Curve(Algorithm.ES384, ec.SECP384R1(), 48),
    "P-521": Curve(Algorithm.ES512, ec.SECP521R1(), 66),
}
"""By the name that a JWK has in `crv`."""

CURVE_OF = {curve.algorithm: curve for curve in CURVES.values()}

HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def fitting(key: Public | Private) -> frozenset[Algorithm]:
    """The algorithms that a key can be used with, as far as its kind says; none for a kind that is not known here."""
    if isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey):
        return RSA
    if isinstance(key, ec.EllipticCurvePublicKey | ec.EllipticCurvePrivateKey):
        return frozenset(each.algorithm for each in CURVES.values() if each.curve.name == key.curve.name)
    return frozenset({Algorithm.EDDSA} if isinstance(key, Ed25519PublicKey | Ed25519PrivateKey) else ())


def verify(key: Public, algorithm: Algorithm, signature: bytes, message: bytes) -> None:
    """Return only if `signature` is the key's over `message`.

    Raises:
        InvalidProof: ALGORITHM, where the algorithm is not one of the key's; BAD_SIGNATURE.
    """
    if algorithm not in fitting(key):
        raise InvalidProof(Fault.ALGORITHM, "the algorithm is not the key's")
    try:
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, message, _padding(algorithm), _hash(algorithm))
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(_to_der(signature, CURVE_OF[algorithm].size), message, ec.ECDSA(_hash(algorithm)))
        else:
            key.verify(signature, message)
    except (InvalidSignature, ValueError):
        raise InvalidProof(Fault.BAD_SIGNATURE) from None


def sign(key: Private, algorithm: Algorithm, message: bytes) -> bytes:
    """The key's signature, in the form that a JWS carries. Raises ValueError for another key's algorithm."""
    if algorithm not in fitting(key):
        raise ValueError("the algorithm is not the key's")
    if isinstance(key, rsa.RSAPrivateKey):
        return key.sign(message, _padding(algorithm), _hash(algorithm))
    if isinstance(key, ec.EllipticCurvePrivateKey):
        size = CURVE_OF[algorithm].size
        return b"".join(
            half.to_bytes(size, "big") for half in decode_dss_signature(key.sign(message, ec.ECDSA(_hash(algorithm))))
        )
    return key.sign(message)


def _hash(algorithm: Algorithm) -> hashes.HashAlgorithm:
    return HASHES[algorithm.value[2:]]


def _padding(algorithm: Algorithm) -> padding.AsymmetricPadding:
    if algorithm.value.startswith("PS"):  # RFC 7518, 3.5: MGF1 with the same hash, a salt of the hash's length
        return padding.PSS(padding.MGF1(_hash(algorithm)), padding.PSS.DIGEST_LENGTH)
    return padding.PKCS1v15()


def _to_der(signature: bytes, size: int) -> bytes:
    """RFC 7518, 3.4: two numbers of a fixed length, and nothing that is longer, shorter or DER already."""
    if len(signature) != 2 * size:
        raise InvalidProof(Fault.BAD_SIGNATURE, "the signature does not have its algorithm's length")
    return encode_dss_signature(int.from_bytes(signature[:size], "big"), int.from_bytes(signature[size:], "big"))
