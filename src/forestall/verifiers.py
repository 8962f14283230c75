"""Who can be verified here: the rules of `identity.toml`, with whatever keeps their keys and bundles fresh.

Part of the composition root: it names the adapters, and nobody else does. Without an `identity.toml` nothing is
started, nothing is fetched, and nobody is verified.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding

from forestall.adapter.key_file import KeyFile
from forestall.adapter.oidc.checking import check_on_loop
from forestall.adapter.oidc.claimed import claimed_issuer
from forestall.adapter.oidc.verifier import Verifier
from forestall.adapter.oidc.web import TOTAL_S, Web
from forestall.adapter.signals.transmitters import Transmitters
from forestall.adapter.workload.bundles import BundleFeeds, ByTrustDomain, Feed
from forestall.adapter.workload.endpoint import Endpoint, Spiffe
from forestall.adapter.workload.follow import Waits
from forestall.adapter.workload.spiffe import WorkloadApi
from forestall.core.errors import SetupError
from forestall.identities import BundleSource, Identities, Transmitter, TrustDomain
from forestall.proof.bundle import Bundles
from forestall.proof.client_assertion import Authenticated, Client, verify_client
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.github import Workflows
from forestall.proof.id_jag import IdentityGrant
from forestall.proof.jwk import KeySet
from forestall.proof.kubernetes import ServiceAccounts
from forestall.proof.oidc import Workload
from forestall.proof.possession import Proof
from forestall.proof.request import UserRequest, verify_request
from forestall.proof.set import SecurityEvent
from forestall.proof.svid import JwtSvid, X509Svid, verify_jwt_svid, verify_x509_svid
from forestall.proof.user import User

ENDPOINT = "SPIFFE_ENDPOINT_SOCKET"
"""Where the Workload API is, unless `identity.toml` says (SPIFFE_Workload_Endpoint.md, 4)."""

SKEW_MS = 10_000
"""How far the clock of a JWT-SVID's issuer may be off. Its tokens live for minutes."""


class Verifiers:
    """Everything here raises InvalidProof where somebody is not who they should be, and Unavailable where that could
    not be found out. Times are milliseconds since the epoch.
    """

    def __init__(
        self, identities: Identities, *, now: Callable[[], int], environ: Mapping[str, str] = os.environ
    ) -> None:
        """Follows the Workload API and polls bundles from here on.

        Raises:
            SetupError: the Workload API is wanted and cannot be used.
        """
        self.identities = identities
        self.svid_domains = frozenset(each.name for each in identities.trust_domains if _has_svids(each))
        """Trust domains whose SVIDs are taken."""
        self._clients = {each.id: (each, KeyFile(each.jwks)) for each in identities.clients}
        self._front_ends = {each.issuer: (each, KeyFile(each.jwks)) for each in identities.front_ends}
        self._rules = {each.rule.issuer: each.rule.rule for each in identities.issuers}
        self._web = Web()
        self._oidc = Verifier(identities, fetch=self._web)
        self._transmitters = Transmitters(identities.transmitters, fetch=self._web)
        self._api: WorkloadApi | None = None
        self._feeds: BundleFeeds | None = None
        with ExitStack() as undo:
            undo.callback(self.close)
            self.bundles: Bundles = self._start_bundles(now, environ)
            undo.pop_all()

    def close(self) -> None:
        """Stop following, polling and fetching. May be called twice."""
        self._web.close()
        for each in (self._api, self._feeds, self._oidc, self._transmitters):
            if each is not None:
                each.close()

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, for the operator, a sentence each."""
        known = (self._api, self._feeds, self._oidc, self._transmitters)
        several = (each.problems for each in known if each is not None)
        return tuple(sentence for problems in several for sentence in problems)

    def authorities(self, now: int) -> tuple[bytes, ...]:
        """Of X.509-SVIDs, in DER. A trust domain whose bundle is not known, or too old, has none."""
        found: list[bytes] = []
        for name in sorted(self.svid_domains):
            with suppress(InvalidProof):
                found += [each.public_bytes(Encoding.DER) for each in self.bundles.x509(name, now).certificates]
        return tuple(found)

    # -- workloads

    def issues_workloads(self, assertion: str) -> bool:
        """Is it, by its own word, a workload token of an issuer that is configured? Then it has to satisfy its rule."""
        return claimed_issuer(assertion) in self._rules

    async def workload(self, token: str, now: int) -> Workload:
        return await check_on_loop(self._oidc.workload(token, now=now), wait_s=TOTAL_S)

    def instance(self, workload: Workload) -> str:
        """What the issuer says of the one running instance; empty where it tells none apart."""
        rule, facts = self._rules.get(workload.issuer), workload.facts
        if isinstance(rule, ServiceAccounts):
            return f"pod/{facts['pod_uid']}" if "pod_uid" in facts else ""
        if isinstance(rule, Workflows) and "run_id" in facts:
            return f"run/{facts['run_id']}/{facts.get('run_attempt', '1')}"
        return ""

    def jwt_svid(self, token: str, *, audience: str, now: int) -> JwtSvid:
        return verify_jwt_svid(
            token, self.bundles, audience=audience, trust_domains=self.svid_domains, now=now, skew_ms=SKEW_MS
        )

    def x509_svid(self, chain: Sequence[bytes], now: int) -> X509Svid:
        return verify_x509_svid(chain, self.bundles, trust_domains=self.svid_domains, now=now)

    async def client(self, named: str | None, assertion: str, *, audience: str, now: int) -> tuple[Authenticated, str]:
        """A registered client, and its trust domain. `named`: `client_id`; None: whoever the assertion is by."""
        client = claimed_issuer(assertion) if named is None else named
        known = self._clients.get(client)
        if known is None:
            raise InvalidProof(Fault.WRONG_ISSUER, "no such client is registered")
        registered, file = known
        keys = await _now(file)
        found = verify_client(assertion, Client(client, keys, registered.algorithms), audience=audience, now=now)
        return found, registered.trust_domain

    # -- security events

    async def event(self, token: str, now: int) -> tuple[Transmitter, SecurityEvent]:
        return await check_on_loop(self._transmitters.event(token, now=now), wait_s=TOTAL_S)

    # -- users

    async def user(self, token: str, now: int) -> User:
        check = self._oidc.user(token, now=now, nonce=None, access_token=None)
        return await check_on_loop(check, wait_s=TOTAL_S)

    async def grant(
        self, token: str, *, client: str, proof: Proof | None, certificate: bytes | None, now: int
    ) -> IdentityGrant:
        check = self._oidc.grant(token, client=client, proof=proof, certificate=certificate, now=now)
        return await check_on_loop(check, wait_s=TOTAL_S)

    async def request(self, token: str, *, audience: str, now: int) -> UserRequest:
        """What a user asked for, by a front end that is registered."""
        known = self._front_ends.get(claimed_issuer(token))
        if known is None:
            raise InvalidProof(Fault.WRONG_ISSUER, "no such front end is registered")
        front_end, file = known
        return verify_request(
            token,
            await _now(file),
            issuer=front_end.issuer,
            audience=audience,
            users=front_end.users,
            algorithms=front_end.algorithms,
            now=now,
        )

    # -- inside

    def _start_bundles(self, now: Callable[[], int], environ: Mapping[str, str]) -> Bundles:
        domains = self.identities.trust_domains
        waits = Waits(random=random.random, wait=lambda event, seconds: event.wait(seconds))
        feeds = [
            Feed(each.name, _source(each.bundle), each.bundle.bound_s * 1000)
            for each in domains
            if each.bundle is not None
        ]
        if feeds:
            self._feeds = BundleFeeds(feeds, clock=now, waits=waits).start()
        bounds = [each.bound_s * 1000 for each in domains if each.workload_api]
        if bounds:
            endpoint = self.identities.workload_api or environ.get(ENDPOINT, "")
            if not endpoint:
                raise SetupError(
                    f"identity.toml wants the Workload API; write `workload_api` at its top, or set {ENDPOINT}."
                )
            # one source, which is silent for all of them at once: the strictest rule counts
            self._api = WorkloadApi(endpoint, clock=now, waits=waits, bound_ms=min(bounds)).start()
        configured = {} if self._feeds is None else dict.fromkeys(self._feeds.trust_domains, self._feeds)
        return ByTrustDomain(configured, self._api)


async def _now(file: KeyFile) -> KeySet:
    held = file.held()
    return await asyncio.to_thread(file.keys) if held is None else held


def _has_svids(domain: TrustDomain) -> bool:
    return domain.workload_api or domain.bundle is not None


def _source(bundle: BundleSource) -> Endpoint | Path:
    if bundle.file is not None:
        return bundle.file
    assert bundle.url is not None
    if bundle.endpoint_id is None:
        return Endpoint(bundle.url)
    assert bundle.endpoint_bundle is not None
    return Endpoint(bundle.url, Spiffe(bundle.endpoint_id, bundle.endpoint_bundle))
