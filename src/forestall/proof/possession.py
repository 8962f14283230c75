"""That the presenter of a token holds the key that the token is bound to: DPoP (RFC 9449) and mutual TLS (RFC 8705).

A proof is for one method, one URL, one token and one short while, and counts once: the caller burns `Proof.once`
before it believes it. The URL to compare with is built from configuration, never from `Host` or a forwarded header.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forestall.core.canonical import canonical
from forestall.proof.algorithm import Algorithm
from forestall.proof.claims import check_times, optional_text, text
from forestall.proof.encoding import decode, digest
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import PublicKey, SigningKey, read_key
from forestall.proof.jws import read, sign_with
from forestall.proof.once import Once, once
from forestall.proof.url import MAX_URL, normalise

TYPE = "dpop+jwt"

PROOF_ALGORITHMS = frozenset({Algorithm.ES256, Algorithm.EDDSA, Algorithm.PS256, Algorithm.RS256})
"""`dpop_signing_alg_values_supported`: those that clients have, and whose checks are cheap."""

MEMBERS = frozenset({"typ", "alg", "jwk"})

MAX_PROOF = 4096
"""Bytes. A proof with an RSA key of 4096 bits has about 2,000."""

MAX_JTI, MAX_NONCE = 256, 512
"""Characters."""

SOCKET_METHOD, SOCKET_URL = "CONNECT", "forestall:socket"
"""What a proof names that is made for a connection to the decision point's socket, with that connection's nonce."""

WINDOW_MS = 60_000
"""How old a proof may be: it is made for one request, and each is remembered for as long."""

SKEW_MS = 10_000


@dataclass(frozen=True, slots=True)
class Proof:
    """A request was made by whoever holds this key. Good only after `once` was burnt."""

    key: PublicKey
    once: Once
    issued_at: int
    nonce: str | None = None
    """The one that it was made with; looked at only where nonces were demanded."""

    @property
    def thumbprint(self) -> str:
        """To compare with `cnf.jkt`."""
        return self.key.thumbprint


@dataclass(frozen=True, slots=True)
class Binding:
    """What a token is bound to (`cnf`): exactly one of the two."""

    key: str | None = None
    """`jkt`: the RFC 7638 thumbprint of a DPoP key."""
    certificate: str | None = None
    """`x5t#S256`: the SHA-256 of a client certificate in DER."""

    def __post_init__(self) -> None:
        if (self.key is None) == (self.certificate is None):
            raise InvalidProof(Fault.NOT_BOUND)

    def to_json(self) -> dict[str, str]:
        return {"jkt": self.key} if self.key is not None else {"x5t#S256": self.certificate or ""}


def verify_proof(
    proof: str | bytes,
    *,
    method: str,
    url: str,
    now: int,
    access_token: str | None,
    nonces: frozenset[str] | None,
    algorithms: frozenset[Algorithm] = PROOF_ALGORITHMS,
    window_ms: int = WINDOW_MS,
    skew_ms: int = SKEW_MS,
) -> Proof:
    """The key that made this request (RFC 9449, 4.3).

    Args:
        proof: the one `DPoP` header; that there was only one the caller has seen to.
        method: of the request.
        url: of the request, as configured; a query does not matter.
        now: milliseconds since the epoch.
        access_token: the one that came with the request; None at the token endpoint, where there is none.
        nonces: those that may be used now; None where none is demanded.
        algorithms: those that are advertised.
        window_ms: how old the proof may be.
        skew_ms: how far the client's clock may be off.

    Raises:
        InvalidProof: what `forestall.proof.jws.read` raises; NOT_PUBLIC, ALGORITHM, BAD_SIGNATURE; OTHER_METHOD,
            OTHER_URL, CLOCK, TOO_OLD, EXPIRED, NOT_YET_VALID, OTHER_TOKEN, NONCE.
    """
    opened = read(proof, algorithms=algorithms, types=frozenset({TYPE}), members=MEMBERS, max_bytes=MAX_PROOF)
    key = read_key(opened.header.get("jwk"))
    if key is None:
        raise InvalidProof(Fault.ALGORITHM, "the proof's key is of a kind or a size that is not allowed")
    claims = opened.verify(key).claims()
    if text(claims, "htm", longest=32) != method:
        raise InvalidProof(Fault.OTHER_METHOD)
    if not _same_url(text(claims, "htu", longest=MAX_URL), url):
        raise InvalidProof(Fault.OTHER_URL)
    times = check_times(claims, now=now, skew_ms=skew_ms, required=frozenset({"iat"}), max_age_ms=window_ms)
    assert times.issued_at is not None
    _check_token(claims, access_token)
    _check_nonce(claims, nonces)
    jti = text(claims, "jti", longest=MAX_JTI)
    until = times.issued_at + window_ms + skew_ms + 1
    nonce = optional_text(claims, "nonce", longest=MAX_NONCE)
    return Proof(key, once("dpop", key.thumbprint, jti, until=until), times.issued_at, nonce)


def make_proof(
    key: SigningKey, *, method: str, url: str, now: int, jti: str, access_token: str | None, nonce: str | None
) -> str:
    """A proof of ours for one request. `jti` is 16 random bytes or more, in text."""
    htu = url if url == SOCKET_URL or url.startswith("urn:") else normalise(url)
    claims: dict[str, Any] = {"jti": jti, "htm": method, "htu": htu, "iat": now // 1000}
    if access_token is not None:
        claims["ath"] = digest(_bytes(access_token))
    if nonce is not None:
        claims["nonce"] = nonce
    header = {"typ": TYPE, "alg": key.algorithm.value, "jwk": key.public.bare()}
    return sign_with(header, canonical(claims), key)


def read_binding(claims: Mapping[str, Any]) -> Binding:
    """What a verified token is bound to.

    Raises:
        InvalidProof: NOT_BOUND, where `cnf` is missing, or names no key in a way that is known here; MALFORMED.
    """
    if "cnf" not in claims:
        raise InvalidProof(Fault.NOT_BOUND)
    cnf = claims["cnf"]
    if not isinstance(cnf, dict):
        raise InvalidProof(Fault.MALFORMED, "`cnf` is not an object")
    known = {"jkt", "x5t#S256"} & set(cnf)
    if len(known) != 1:
        raise InvalidProof(Fault.NOT_BOUND)
    if len(cnf) != 1:
        raise InvalidProof(Fault.MALFORMED, "`cnf` has a member that has no meaning here")
    (name,) = known
    value = text(cnf, name, longest=43)
    if len(decode(value)) != 32:
        raise InvalidProof(Fault.MALFORMED, "`cnf` does not hold a SHA-256")
    return Binding(key=value) if name == "jkt" else Binding(certificate=value)


def require_holder(binding: Binding, *, proof: Proof | None, certificate: bytes | None) -> Binding:
    """The presenter holds what the token is bound to.

    Args:
        binding: the token's.
        proof: the request's DPoP proof, verified; None where there was none.
        certificate: the client's, in DER, of a mutual TLS that was verified; None where there was none.

    Raises:
        InvalidProof: NO_PROOF, where the request came with nothing of the kind; OTHER_KEY.
    """
    bound, shown = binding.key, None if proof is None else proof.thumbprint
    if bound is None:
        bound, shown = binding.certificate, None if certificate is None else digest(certificate)
    if bound is None or shown is None:
        raise InvalidProof(Fault.NO_PROOF)
    if not hmac.compare_digest(bound, shown):
        raise InvalidProof(Fault.OTHER_KEY)
    return binding


def _same_url(named: str, url: str) -> bool:
    return named == url if url == SOCKET_URL else normalise(named) == normalise(url)


def _check_token(claims: Mapping[str, Any], access_token: str | None) -> None:
    """A proof for a token is good with that one; a proof for none is good where there is none."""
    ath = optional_text(claims, "ath", longest=43)
    if access_token is None and ath is None:
        return
    if access_token is None or ath is None or not _same(ath, digest(_bytes(access_token))):
        raise InvalidProof(Fault.OTHER_TOKEN)


def _check_nonce(claims: Mapping[str, Any], nonces: frozenset[str] | None) -> None:
    nonce = optional_text(claims, "nonce", longest=MAX_NONCE)
    if nonces is not None and (nonce is None or not any(_same(nonce, good) for good in nonces)):
        raise InvalidProof(Fault.NONCE)


def _same(one: str, other: str) -> bool:
    """In constant time, whatever the characters."""
    return hmac.compare_digest(_bytes(one), _bytes(other))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
