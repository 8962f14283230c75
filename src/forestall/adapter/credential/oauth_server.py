"""An authorization server that Forestall is a client of: its token, revocation and introspection endpoints.

RFC 6749 (3.2), RFC 8414 (metadata, read once), RFC 7009 (revocation), RFC 7662 (introspection), RFC 9449 (DPoP);
the client shows itself by RFC 7523 (2.2), by a secret (RFC 6749, 2.3.1), or by a certificate (RFC 8705, 2).
"""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote_plus, urlsplit

from cryptography.hazmat.primitives.serialization import load_pem_private_key

from forestall.adapter.credential.http import Answer, Ask, Trust, Unsent, Web, unavailable
from forestall.adapter.credential.source import SecretSource
from forestall.core.ask import CannotDo
from forestall.core.reason import Reason
from forestall.proof.algorithm import Algorithm, fitting
from forestall.proof.client_assertion import ASSERTION_TYPE, make_assertion
from forestall.proof.encoding import encode
from forestall.proof.fault import InvalidProof
from forestall.proof.jwk import SigningKey
from forestall.proof.possession import MAX_NONCE, make_proof
from forestall.proof.url import require_location

METADATA = ("oauth-authorization-server", "openid-configuration")
"""Well-known names of the document: RFC 8414, 3, and what older servers have (5)."""

Form = list[tuple[str, str]]

_CODE = re.compile(r"[a-z_]{1,64}")
"""RFC 6749, 5.2: what we show of an error. Its description could hold what was sent."""

_NONCE = re.compile(rf"[!#-\[\]-~]{{1,{MAX_NONCE}}}")
"""RFC 9449, 8.1."""


CERTAIN = frozenset(
    {
        *("invalid_scope", "invalid_target", "invalid_authorization_details", "access_denied"),
        *("invalid_request", "unauthorized_client", "unsupported_grant_type"),
    }
)
"""Errors that the same request always gets. Any other may be the answer to its second arrival, whose first was granted:
an assertion or a proof counts once.
"""


class Refused(CannotDo):
    """The server said no: it has made nothing."""


@dataclass(frozen=True, slots=True)
class PrivateKey:
    """A key of ours in PEM, by reference."""

    source: SecretSource = field(repr=False)
    algorithm: Algorithm | None = None
    """None: the one of the key's curve, or RS256."""
    kid: str | None = None
    """None: its thumbprint (RFC 7638)."""

    def read(self) -> SigningKey:
        """As it is now. Raises CannotDo(unavailable)."""
        try:
            private: Any = load_pem_private_key(self.source.read().encode(), password=None)
            fit = fitting(private)
            algorithm = self.algorithm or (Algorithm.RS256 if Algorithm.RS256 in fit else min(fit))
            return SigningKey.of(private, algorithm, kid=self.kid)
        except (ValueError, TypeError):
            raise unavailable(
                "A key of ours is no private key in PEM, without a password, of RSA, P-256, P-384, P-521 or Ed25519 "
                "that goes with its algorithm; make one with `openssl genpkey`."
            ) from None


@dataclass(frozen=True, slots=True)
class Client:
    """What we are there, and how we show it: by `key`, by `secret`, or else by the certificate of the connection."""

    id: str
    key: PrivateKey | None = None
    secret: SecretSource | None = field(default=None, repr=False)
    audience: str = ""
    """Of our assertions; empty: the server's issuer identifier, or else its token endpoint."""


@dataclass(frozen=True, slots=True)
class Endpoints:
    token: str
    revocation: str = ""
    introspection: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """The settings of one server."""

    client: Client
    issuer: str = ""
    endpoints: Endpoints | None = None
    """None: as the issuer's metadata has them."""
    trust: Trust = field(default_factory=Trust)

    @property
    def audience(self) -> str:
        """What the server calls itself."""
        return self.issuer or (self.endpoints.token if self.endpoints else "")


class Server:
    """Blocking, from any thread. Raises CannotDo(unavailable) everywhere, with nothing that was sent or answered."""

    def __init__(self, site: Site, *, now: Callable[[], int], random: Callable[[int], bytes], timeout_s: float) -> None:
        """Raises SetupError: a file of the site's trust cannot be used."""
        self.site = site
        self._now, self._random = now, random
        self._web = Web(site.trust, total_s=timeout_s)
        self._lock = threading.Lock()
        self._found = site.endpoints
        self._nonce: str | None = None

    def until(self) -> float:
        return self._web.until()

    def token(self, form: Form, key: SigningKey | None, until: float) -> Mapping[str, Any]:
        """What the token endpoint gives out, bound to `key` where there is one.

        Raises:
            Refused: it gave out nothing. Unsent: it was not asked. CannotDo: nobody knows.
        """
        url = self.endpoints(until).token
        answer = self._prove(url, form, key, until)
        if answer.status == HTTPStatus.BAD_REQUEST and key is not None and _code(answer) == "use_dpop_nonce":
            # it was refused for want of a nonce, which is in the answer (RFC 9449, 8): once more, and no further
            answer = self._prove(url, form, key, until)
        if HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR and (code := _code(answer)):
            said = f"{answer.host} gives no token: {code}. Look at the client's rights there."
            raise (Refused if code in CERTAIN else CannotDo)(Reason.UNAVAILABLE, said)
        if answer.status != HTTPStatus.OK:
            raise unavailable(f"{answer.host} answered a request for a token with the status {answer.status}.")
        return _object(answer)

    def revoke(self, token: str, until: float) -> None:
        """The server says that the token counts no more, or that it never did: RFC 7009, 2.2 has one answer for both.

        An error is none of these, `unsupported_token_type` (2.2.1) among them.
        """
        url = self.endpoints(until).revocation
        if not url:
            raise unavailable("The authorization server does not say where to revoke; write `revocation_endpoint`.")
        answer = self._post(url, [("token", token), ("token_type_hint", "access_token")], {}, until, idempotent=True)
        if answer.status != HTTPStatus.OK:
            raise unavailable(
                f"{answer.host} did not revoke a token: status {answer.status}, {_code(answer) or 'no reason'}."
            )

    def introspect(self, token: str, until: float) -> Mapping[str, Any]:
        url = self.endpoints(until).introspection
        if not url:
            sentence = "The authorization server does not say where to introspect; write `introspection_endpoint`."
            raise unavailable(sentence)
        answer = self._post(url, [("token", token), ("token_type_hint", "access_token")], {}, until, idempotent=True)
        if answer.status != HTTPStatus.OK:
            raise unavailable(f"{answer.host} does not tell of a token: status {answer.status}.")
        told = _object(answer)
        if not isinstance(told.get("active"), bool):
            raise unavailable(
                f"{answer.host} does not tell whether a token counts; look at its introspection endpoint."
            )
        return told

    def endpoints(self, until: float) -> Endpoints:
        """Those of the settings, or else of the metadata, which is read once. Raises Unsent."""
        with self._lock:
            if self._found is not None:
                return self._found
        try:
            found = self._discover(until)
        except CannotDo as error:
            raise Unsent(error.reason, error.detail) from None
        with self._lock:
            self._found = found
        return found

    def close(self) -> None:
        self._web.close()

    def _discover(self, until: float) -> Endpoints:
        issuer = self.site.issuer
        for name in METADATA:
            answer = self._web.ask(Ask("GET", metadata_url(issuer, name), idempotent=True), until=until)
            if answer.status != HTTPStatus.NOT_FOUND:
                break
        if answer.status != HTTPStatus.OK:
            raise unavailable(f"{answer.host} has no metadata: status {answer.status}; write `token_endpoint` instead.")
        document = _object(answer)
        if document.get("issuer") != issuer:
            raise unavailable(f"{answer.host} has the metadata of another issuer; look at how `issuer` is written.")
        names = ("token_endpoint", "revocation_endpoint", "introspection_endpoint")
        token, revocation, introspection = (_location(document, name, issuer) for name in names)
        if not token:
            raise unavailable(f"{answer.host} has metadata without a token endpoint; write `token_endpoint` instead.")
        return Endpoints(token, revocation, introspection)

    def _prove(self, url: str, form: Form, key: SigningKey | None, until: float) -> Answer:
        if key is None:
            return self._post(url, form, {}, until)
        with self._lock:
            nonce = self._nonce
        proof = make_proof(
            key, method="POST", url=url, now=self._now(), jti=self._fresh(), access_token=None, nonce=nonce
        )
        answer = self._post(url, form, {"DPoP": proof}, until)
        given = answer.headers.get("dpop-nonce", "")
        if _NONCE.fullmatch(given):
            with self._lock:
                self._nonce = given
        return answer

    def _post(
        self, url: str, form: Form, headers: Mapping[str, str], until: float, *, idempotent: bool = False
    ) -> Answer:
        shown, more = self._show()
        ask = Ask("POST", url, {**headers, **more}, form=[*form, *shown], idempotent=idempotent)
        return self._web.ask(ask, until=until)

    def _show(self) -> tuple[Form, dict[str, str]]:
        """Who we are: in the form, or in a header."""
        client = self.site.client
        try:
            if client.secret is not None:
                pair = f"{quote_plus(client.id)}:{quote_plus(client.secret.read())}"
                return [], {"Authorization": f"Basic {base64.b64encode(pair.encode('ascii')).decode('ascii')}"}
            known = ("client_id", client.id)
            if client.key is None:
                return [known], {}
            audience = client.audience or self.site.audience
            signed = make_assertion(
                client.key.read(), client=client.id, audience=audience, now=self._now(), jti=self._fresh()
            )
        except CannotDo as error:
            raise Unsent(error.reason, error.detail) from None
        return [known, ("client_assertion_type", ASSERTION_TYPE), ("client_assertion", signed)], {}

    def _fresh(self) -> str:
        return encode(self._random(16))


def metadata_url(issuer: str, name: str) -> str:
    """Before the issuer's path, as RFC 8414, 3.1 has it; after it, as OpenID Connect Discovery 1.0, 4 has its own."""
    if name == "openid-configuration":
        return f"{issuer.removesuffix('/')}/.well-known/{name}"
    parts = urlsplit(issuer)
    return f"{parts.scheme}://{parts.netloc}/.well-known/{name}{parts.path.removesuffix('/')}"


def _location(document: Mapping[str, Any], name: str, issuer: str) -> str:
    if name not in document:
        return ""
    try:
        return require_location(str(document[name]), loopback=issuer.startswith("http:"))
    except InvalidProof:
        raise unavailable(f"The metadata of {urlsplit(issuer).hostname} has a `{name}` that is not https.") from None


def _object(answer: Answer) -> Mapping[str, Any]:
    value = answer.json()
    if not isinstance(value, dict):
        raise unavailable(f"{answer.host} answered with JSON that is not an object.")
    return value


def _code(answer: Answer) -> str:
    """The `error` of RFC 6749, 5.2; empty where there is none."""
    try:
        code = _object(answer).get("error")
    except CannotDo:
        return ""
    return code if isinstance(code, str) and _CODE.fullmatch(code) else ""
