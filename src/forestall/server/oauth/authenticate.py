"""Who makes a request, and with which key: a workload that was verified, and what its grants are bound to.

Four ways to be somebody: an assertion of a registered client (RFC 7523), a JWT-SVID, a workload token of an issuer that
is configured, or the certificate of a mutual TLS that is an X.509-SVID. Two ways to have a key: a DPoP proof (RFC 9449)
or that certificate (RFC 8705). A request without a key gets nothing: there are no bearer tokens here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from forestall.core.entry import Use
from forestall.core.model import Assurance, Subject
from forestall.core.reason import Reason
from forestall.proof.client_assertion import ASSERTION_TYPE
from forestall.proof.encoding import digest
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.once import Once
from forestall.proof.possession import Proof, verify_proof
from forestall.server.http.message import Request
from forestall.server.oauth.form import Form
from forestall.server.oauth.refusal import Code, Refusal, malformed, refused_as
from forestall.server.oauth.service import Service, use_of

SVID_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-spiffe"
"""draft-ietf-oauth-spiffe-client-auth."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Good only after `uses` were claimed."""

    subject: Subject
    at: int
    """When the request was looked at, in milliseconds since the epoch."""
    proof: Proof | None
    certificate: bytes | None = field(repr=False)
    uses: tuple[Use, ...]


@dataclass(frozen=True, slots=True)
class _Known:
    id: str
    trust_domain: str
    assurance: Assurance
    attested: str = ""
    """What the issuer says of the one running instance."""
    once: Once | None = None


async def authenticate(service: Service, request: Request, form: Form) -> Caller:
    """Raises Refusal: invalid_client, invalid_dpop_proof, use_dpop_nonce, invalid_request."""
    at = service.now()
    with refused_as(Code.INVALID_CLIENT):
        known = await _known(service, request, form, at)
        subject = _subject(service, known)
    try:
        proof = _proof(service, request, at)
        subject = _with_key(subject, proof, request.certificate)
    except Refusal as refusal:
        refusal.subject = subject
        raise
    onces = [once for once in (known.once, proof.once if proof is not None else None) if once is not None]
    return Caller(subject, at, proof, request.certificate, tuple(use_of(once, subject) for once in onces))


async def _known(service: Service, request: Request, form: Form, at: int) -> _Known:
    if "client_secret" in form or "authorization" in request.headers:
        raise malformed("a shared secret, or a header, where there is an assertion or a certificate")
    kind, assertion = form.get("client_assertion_type"), form.get("client_assertion")
    if kind is None and assertion is None:
        known = _by_certificate(service, request, at)
    elif assertion is None:
        raise malformed("`client_assertion` is missing")
    elif kind == SVID_ASSERTION_TYPE:
        tokens = service.tokens
        found = tokens.verifiers.jwt_svid(assertion, audience=tokens.issuer, now=at)
        known = _Known(str(found.id), found.id.trust_domain, Assurance.SVID)
    elif kind == ASSERTION_TYPE:
        known = await _by_assertion(service, form, assertion, at)
    else:
        raise malformed("`client_assertion_type` is none that is taken here")
    if form.get("client_id", known.id) != known.id:
        raise InvalidProof(Fault.WRONG_SUBJECT, "`client_id` is another than who was verified")
    return known


def _by_certificate(service: Service, request: Request, at: int) -> _Known:
    if request.certificate is None:
        raise InvalidProof(Fault.NO_PROOF, "neither an assertion nor a certificate")
    found = service.tokens.verifiers.x509_svid(request.chain or (request.certificate,), at)
    return _Known(str(found.id), found.id.trust_domain, Assurance.SVID)


async def _by_assertion(service: Service, form: Form, assertion: str, at: int) -> _Known:
    """Its `iss` chooses which rule it has to satisfy, and that is all it chooses."""
    tokens = service.tokens
    verifiers = tokens.verifiers
    if verifiers.issues_workloads(assertion):
        found = await verifiers.workload(assertion, at)
        return _Known(str(found.id), found.id.trust_domain, Assurance.OIDC, verifiers.instance(found))
    found_client, trust_domain = await verifiers.client(
        form.get("client_id"), assertion, audience=tokens.issuer, now=at
    )
    return _Known(found_client.client, trust_domain, Assurance.KEY, once=found_client.once)


def _subject(service: Service, known: _Known) -> Subject:
    tenant = service.tokens.identities.tenant(known.trust_domain)
    if tenant is None:
        raise InvalidProof(Fault.WRONG_TRUST_DOMAIN, "its workloads are not accepted here")
    return Subject(
        known.id,
        known.assurance,
        instance=instance_of(known.trust_domain, known.id, known.attested),
        tenant=tenant,
        trust_domain=known.trust_domain,
    )


def instance_of(trust_domain: str, name: str, attested: str) -> str:
    """What labels stay with. Where nobody vouches for an instance, it is the workload as a whole: a key is no instance,
    since whoever makes a new one would start clean.
    """
    whole = name if name.startswith("spiffe://") else f"{trust_domain}/{name}"
    return f"{whole}#{attested}" if attested else whole


def _proof(service: Service, request: Request, at: int) -> Proof | None:
    shown = request.headers.get("dpop")
    if shown is None:
        return None
    with refused_as(Code.INVALID_PROOF):
        proof = verify_proof(shown, method=request.method, url=request.url, now=at, access_token=None, nonces=None)
    if proof.nonce is not None and proof.nonce not in service.nonces.good(at):
        raise Refusal(Code.USE_NONCE, Reason.INVALID_PROOF, Fault.NONCE.value)
    return proof


def _with_key(subject: Subject, proof: Proof | None, certificate: bytes | None) -> Subject:
    if proof is not None:
        key = f"jkt:{proof.thumbprint}"
    elif certificate is not None:
        key = f"x5t#S256:{digest(certificate)}"
    else:
        raise Refusal(Code.INVALID_PROOF, Reason.INVALID_PROOF, f"{Fault.NO_PROOF}: no DPoP proof, and no certificate")
    return Subject(
        subject.id,
        subject.assurance,
        instance=subject.instance,
        tenant=subject.tenant,
        trust_domain=subject.trust_domain,
        key=key,
    )
