"""A client of the SPIFFE Workload API: our own SVIDs, and the trust bundles of every trust domain that the agent knows.

Three streams, each followed in a thread of its own, so that a rotation needs no restart; whoever asks is answered from
memory. When a stream ends, what it said ages, and past its bound it is gone. When the agent says that it has nothing
for us (PermissionDenied) it is gone at once (SPIFFE_Workload_API.md, sections 5.2 and 6.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from cryptography.hazmat.primitives.serialization import load_der_private_key

from forestall.adapter.workload import stubs
from forestall.adapter.workload.follow import Ending, Follower, Waits
from forestall.adapter.workload.held import DEFAULT_BOUND_MS, Held
from forestall.core.errors import Unavailable
from forestall.proof.bundle import JwtAuthorities, X509Authorities, parse_jwt_bundle, parse_x509_bundle
from forestall.proof.chain import MAX_CHAIN, UNREADABLE, parse_certificate, split_certificates
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.spiffe_id import SpiffeId, parse_trust_domain_id
from forestall.proof.svid import read_leaf

CALL_S = 5.0
"""Seconds that the agent has to answer a single call. It is on this machine."""

MAX_OWN = 64
"""SVIDs of our own. One is usual."""

_OWN = "own"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class OwnSvid:
    """An X.509-SVID of ours. `chain` is DER, the leaf first; `key` is PKCS #8 DER, and secret."""

    id: SpiffeId
    chain: tuple[bytes, ...] = field(repr=False)
    key: bytes = field(repr=False)
    hint: str
    begins_at: int
    expires_at: int
    """Both in milliseconds since the epoch."""


class WorkloadApi:
    """Satisfies `proof.bundle.Bundles`. Between `start` and `close` it follows the agent."""

    def __init__(
        self,
        endpoint: str,
        *,
        clock: Callable[[], int],
        waits: Waits,
        bound_ms: int = DEFAULT_BOUND_MS,
        on_change: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is opened yet.

        Args:
            endpoint: as SPIFFE_ENDPOINT_SOCKET has it.
            clock: milliseconds since the epoch.
            waits: between tries.
            bound_ms: how long what a stream said counts after it ended.
            on_change: called after every message and every end of a stream, in the stream's thread.

        Raises:
            SetupError: the extra is not installed, or the endpoint is none.
        """
        self._stubs = stubs.load()
        self._target = stubs.target_of(endpoint)
        self._clock, self._on_change = clock, on_change
        self._x509: Held[X509Authorities] = Held(bound_ms)
        self._jwt: Held[JwtAuthorities] = Held(bound_ms)
        self._own: Held[tuple[OwnSvid, ...]] = Held(bound_ms)
        self._problems: dict[str, str] = {}
        messages = self._stubs.messages
        self._followers = [
            self._follow("FetchX509Bundles", messages.X509BundlesRequest(), self._x509, self._take_x509, waits),
            self._follow("FetchJWTBundles", messages.JWTBundlesRequest(), self._jwt, self._take_jwt, waits),
            self._follow("FetchX509SVID", messages.X509SVIDRequest(), self._own, self._take_own, waits),
        ]

    def start(self) -> Self:
        for each in self._followers:
            each.start()
        return self

    def close(self) -> None:
        """Hang up. What was heard ages from now on. May be called twice."""
        for each in self._followers:
            each.close()

    def x509(self, trust_domain: str, now: int) -> X509Authorities:
        return self._x509.find(trust_domain, now)

    def jwt(self, trust_domain: str, now: int) -> JwtAuthorities:
        return self._jwt.find(trust_domain, now)

    def svids(self, now: int) -> tuple[OwnSvid, ...]:
        """Ours that count at `now`; the first is the default (SPIFFE_Workload_API.md, section 5.3).

        Raises:
            Unavailable: there is none.
        """
        try:
            held = self._own.find(_OWN, now)
        except InvalidProof:
            held = ()
        good = tuple(each for each in held if each.begins_at <= now < each.expires_at)
        if not good:
            raise Unavailable("The Workload API has no identity for this process now; register it with the agent.")
        return good

    def jwt_svid(self, audience: str, spiffe_id: SpiffeId | None = None) -> str:
        """A JWT-SVID of ours for one audience, from the agent. A bearer token: whoever sees it can use it.

        An agent may give the same one again (SPIRE does for half of its life, and names none with `jti`), so that
        whoever takes it cannot ask that it comes once.

        Raises:
            Unavailable: the agent does not answer, or has no such identity for us.
        """
        name = str(spiffe_id) if spiffe_id is not None else ""
        request = self._stubs.messages.JWTSVIDRequest(audience=[audience], spiffe_id=name)
        channel = self._stubs.channel(self._target)
        try:
            stub = self._stubs.services.SpiffeWorkloadAPIStub(channel)
            answer = stub.FetchJWTSVID(request, metadata=stubs.METADATA, timeout=CALL_S)
        except self._stubs.grpc.RpcError as error:
            raise Unavailable(f"The Workload API gave no JWT-SVID ({error.code().name}); look at the agent.") from None
        finally:
            channel.close()
        tokens: list[str] = [each.svid for each in answer.svids if name in {"", each.spiffe_id}]
        if not tokens:
            raise Unavailable("The Workload API gave no JWT-SVID for that identity; register it with the agent.")
        return tokens[0]

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, for the operator: a sentence for each stream and each bundle that cannot be used."""
        return tuple(sentence for _, sentence in sorted(self._problems.copy().items()))

    @property
    def live(self) -> bool:
        """Is every stream open, and has each said something?"""
        return self._x509.live and self._jwt.live and self._own.live

    # -- in the streams' threads

    def _follow(
        self, method: str, request: object, held: Held[T], take: Callable[[Any], Mapping[str, T]], waits: Waits
    ) -> Follower:
        def taken(message: Any) -> None:
            self._forget_problems(method)
            held.replace(take(message))
            self._on_change()

        def ended(ending: Ending) -> None:
            if ending is Ending.DENIED:
                held.forget()
            else:
                held.silence(self._clock())
            if ending is not Ending.CLOSED:
                self._problems[method] = f"{method}: {_ENDINGS[ending]}"
            self._on_change()

        return Follower(self._stubs, self._target, method, request, waits=waits, take=taken, ended=ended)

    def _take_x509(self, message: Any) -> Mapping[str, X509Authorities]:
        revocations = tuple(message.crl)
        return self._each(
            "FetchX509Bundles", message.bundles, lambda data, domain: parse_x509_bundle(data, domain, revocations)
        )

    def _take_jwt(self, message: Any) -> Mapping[str, JwtAuthorities]:
        return self._each("FetchJWTBundles", message.bundles, parse_jwt_bundle)

    def _each(self, method: str, bundles: Mapping[str, bytes], parse: Callable[[bytes, str], T]) -> dict[str, T]:
        """Every bundle that can be read. One that cannot leaves its trust domain without any, and the others alone."""
        found: dict[str, T] = {}
        for number, (name, data) in enumerate(sorted(bundles.items())):
            try:
                trust_domain = parse_trust_domain_id(name)
                found[trust_domain] = parse(data, trust_domain)
            except InvalidProof as error:
                self._problems[f"{method} {number}"] = f"{method}: bundle {number + 1} cannot be used: {error}"
        return found

    def _take_own(self, message: Any) -> Mapping[str, tuple[OwnSvid, ...]]:
        if not 0 < len(message.svids) <= MAX_OWN:
            self._problems["FetchX509SVID 0"] = f"FetchX509SVID: there have to be 1 to {MAX_OWN} identities"
            return {}
        try:
            return {_OWN: _unlike_hints([_own(each) for each in message.svids])}
        except InvalidProof as error:
            self._problems["FetchX509SVID 0"] = f"FetchX509SVID: an identity cannot be used: {error}"
            return {}

    def _forget_problems(self, method: str) -> None:
        for name in list(self._problems):
            if name == method or name.startswith(f"{method} "):
                del self._problems[name]


_ENDINGS = {
    Ending.DENIED: "the agent has no identity for this process; register it",
    Ending.REFUSED: "the agent does not understand the request; it is not asked again",
    Ending.LOST: "the agent does not answer; see that it runs",
}


def _own(message: Any) -> OwnSvid:
    """Raises InvalidProof: what the agent sent is no SVID, not the one it says, or its key is another's."""
    chain = split_certificates(message.x509_svid, most=MAX_CHAIN)
    if not chain:
        raise InvalidProof(Fault.MALFORMED, "no certificate")
    leaf = parse_certificate(chain[0])
    identity = read_leaf(leaf)
    if str(identity) != message.spiffe_id:
        raise InvalidProof(Fault.WRONG_SUBJECT, "the certificate names another identity")
    try:
        key = load_der_private_key(message.x509_svid_key, password=None)
    except UNREADABLE:
        raise InvalidProof(Fault.MALFORMED, "the key cannot be read") from None
    if key.public_key() != leaf.public_key():
        raise InvalidProof(Fault.OTHER_KEY, "the key is not the certificate's")
    return OwnSvid(
        identity,
        chain,
        message.x509_svid_key,
        message.hint,
        int(leaf.not_valid_before_utc.timestamp() * 1000),
        int(leaf.not_valid_after_utc.timestamp() * 1000),
    )


def _unlike_hints(found: Sequence[OwnSvid]) -> tuple[OwnSvid, ...]:
    """SPIFFE_Workload_API.md, section 5.2.1: of several with one hint, the first counts."""
    seen: set[str] = set()
    kept: list[OwnSvid] = []
    for each in found:
        if each.hint and each.hint in seen:
            continue
        seen.add(each.hint)
        kept.append(each)
    return tuple(kept)
