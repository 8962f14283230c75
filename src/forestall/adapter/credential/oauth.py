"""Access tokens of an authorization server, one for each lease, that it revokes at the end.

A token has no name of ours: one whose answer was lost lives until it expires. So its life is bounded when it comes, and
what comes with more than was asked for (a longer life, a wider scope, another binding, a refresh token) is revoked at
once and given to nobody.

A server answers a revocation with 200 whatever it does (RFC 7009, 2.2). Where it can be asked about a token (RFC 7662),
it has to know each when it is made, and has to disown it at its end; else its word is all there is.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from forestall.adapter.credential.http import Unsent, unavailable
from forestall.adapter.credential.oauth_rights import SCOPE, Ceiling
from forestall.adapter.credential.oauth_server import Form, Refused, Server
from forestall.core.ask import CannotDo
from forestall.core.canonical import canonical
from forestall.core.errors import InvalidInput
from forestall.core.model import Action, Grant, Lease, Permit, Prove, Scope, Secret
from forestall.core.reason import Reason
from forestall.port import Traits
from forestall.proof.algorithm import Algorithm
from forestall.proof.behalf import Behalf, sign_assertion, sign_id_jag
from forestall.proof.encoding import encode
from forestall.proof.fault import InvalidProof
from forestall.proof.id_jag import GRANT_TYPE as JWT_BEARER
from forestall.proof.id_jag import TOKEN_TYPE as ID_JAG
from forestall.proof.jwk import SigningKey
from forestall.proof.possession import make_proof

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - no password
JWT = "urn:ietf:params:oauth:token-type:jwt"

MAX_LIFE_S = 86_400
"""Seconds. A server that says a token lives longer is not understood."""

_TOKEN = re.compile(r"[!-~]{1,16384}")
"""RFC 6750, 2.1 and more; as long as a header line can be."""


class Kind(StrEnum):
    """How a token is asked for."""

    CLIENT = "client_credentials"  # as ourselves (RFC 6749, 4.4)
    EXCHANGE = "token_exchange"  # for the task, by our assertion about it (RFC 8693)
    ID_JAG = "id_jag"  # for the task's user, by an identity assertion grant (RFC 7523, 2.1)


@dataclass(frozen=True, slots=True)
class Voice:
    """In whose words we say for whom a task acts."""

    issuer: str
    """What we are called where our words count."""
    key: Callable[[], SigningKey] = field(repr=False)
    """Raises CannotDo(unavailable)."""
    users_of: str = ""
    """Only for users of this issuer, by the names that they have there; empty: any user, as `ISSUER#SUBJECT`."""


@dataclass(frozen=True, slots=True)
class Settings:
    kind: Kind
    ceiling: Ceiling
    scope: Scope
    voice: Voice | None = None
    """None for `CLIENT` alone."""
    dpop: bool = False
    gives_key: bool = False
    """Of a bound token: whoever gets it makes the proofs, with the key among the fields. Else they are made here."""
    introspect: bool = False
    revocable: bool = True
    token_lifetime_ms: int = 0
    """What the server gives to every token; 0: never more than its lease."""


@dataclass(frozen=True, slots=True)
class _Left:
    """Tokens that came, were given to nobody, and could not be revoked yet."""

    tokens: tuple[str, ...] = field(repr=False)
    ends_at: int


class _Unfit(Exception):
    """A token came that is not what was asked for. The text is the end of a sentence, and holds nothing of it."""


class OAuthBroker:
    """Satisfies `forestall.port.Broker`."""

    def __init__(
        self,
        settings: Settings,
        server: Server,
        *,
        now: Callable[[], int],
        random: Callable[[int], bytes],
        identity: Server | None = None,
    ) -> None:
        """`identity`: the identity provider that makes the ID-JAG; None where that is us."""
        self._settings, self._server, self._identity = settings, server, identity
        self._now, self._random = now, random
        self._lock = threading.Lock()
        self._left: dict[str, _Left] = {}
        self._over: set[str] = set()

    @property
    def traits(self) -> Traits:
        settings = self._settings
        return Traits(
            revocable=settings.revocable,
            by_name=False,
            shortest_ms=settings.token_lifetime_ms,
            fields=frozenset({"token", *(["key"] if settings.gives_key else [])}),
        )

    def plan(self, permit: Permit, action: Action, grant: Grant) -> Mapping[str, Any]:
        settings = self._settings
        rights = settings.ceiling.plan(settings.scope, permit, action, grant)
        if settings.voice is not None:
            rights["subject"] = _subject(grant, settings.voice, needed=settings.kind is Kind.ID_JAG)
            rights["actors"] = [list(pair) for pair in grant.chain]
            rights["tree"] = grant.tree
        return {"grant": settings.kind.value, **rights}

    def issue(self, lease: Lease) -> Secret:
        until = self._server.until()
        key = SigningKey.generate(Algorithm.ES256, self._random) if self._settings.dpop else None
        asked_at = self._now()
        latest = max(lease.expires_at, asked_at + self._settings.token_lifetime_ms)
        try:
            answer = self._server.token(self._form(lease, until), key, until)
        except (Unsent, Refused):
            with self._lock:
                self._over.add(lease.name)
            raise
        try:
            expires_at = self._fit(answer, lease, key, asked_at, latest)
            token = str(answer["access_token"])
            if self._settings.introspect:
                _require_known(self._server.introspect(token, until), lease, key)
        except (_Unfit, CannotDo) as error:
            gone = self._give_back(lease, answer, asked_at, until)
            end = "It was revoked before anybody had it." if gone else "Nobody has it, and it is not revoked yet."
            raise unavailable(f"A token is not as it was asked for: {error} {end}") from None
        if key is None:
            return Secret({"token": token}, token, expires_at)
        fields = {"token": token} | ({"key": private_jwk(key)} if self._settings.gives_key else {})
        return Secret(fields, token, expires_at, self._prover(key, token))

    def _prover(self, key: SigningKey, token: str) -> Prove:
        def prove(method: str, url: str, nonce: str | None) -> str:
            jti = encode(self._random(16))
            try:
                return make_proof(
                    key, method=method, url=url, now=self._now(), jti=jti, access_token=token, nonce=nonce
                )
            except InvalidProof as error:
                raise InvalidInput(f"A proof is for the URL of a request: {error}.") from None

        return prove

    def renew(self, lease: Lease, expires_at: int) -> int:
        del lease, expires_at
        raise CannotDo(Reason.UNAVAILABLE, "A token without a refresh token is not renewed; another is made.")

    def revoke(self, lease: Lease) -> None:
        with self._lock:
            if lease.name in self._over:
                self._over.discard(lease.name)
                return
            left = self._left.get(lease.name)
        lost_at = lease.expires_at + self._settings.token_lifetime_ms
        tokens: tuple[str, ...]
        if lease.secret is not None and lease.secret.handle:
            tokens, ends_at = (lease.secret.handle,), lease.secret.expires_at or lost_at
        elif left is not None:
            tokens, ends_at = left.tokens, left.ends_at
        else:
            tokens, ends_at = (), lost_at
        try:
            self._end(tokens, self._server.until())
        except CannotDo:
            if self._now() < ends_at:
                raise
        with self._lock:
            self._left.pop(lease.name, None)

    def list_orphans(self, known: Collection[str]) -> Sequence[str]:
        del known
        return ()

    def close(self) -> None:
        self._server.close()
        if self._identity is not None:
            self._identity.close()

    # -- what is asked for

    def _form(self, lease: Lease, until: float) -> Form:
        rights, kind = lease.rights, self._settings.kind
        wanted = [("scope", " ".join(rights["scope"])), *_each("resource", rights), *_each("audience", rights)]
        if "authorization_details" in rights:
            wanted.append(("authorization_details", canonical(rights["authorization_details"]).decode()))
        if kind is Kind.CLIENT:
            return [("grant_type", "client_credentials"), *wanted]
        if kind is Kind.EXCHANGE:
            subject = self._assertion(lease, self._server)
            return [*_exchange(subject, ACCESS_TOKEN), *wanted]
        return [("grant_type", JWT_BEARER), ("assertion", self._id_jag(lease, until)), *wanted]

    def _assertion(self, lease: Lease, server: Server) -> str:
        voice = self._voice
        return _signed(
            lambda: sign_assertion(
                _behalf(lease),
                voice.key(),
                issuer=voice.issuer,
                audience=server.site.audience,
                now=self._now(),
                jti=encode(self._random(16)),
            )
        )

    def _id_jag(self, lease: Lease, until: float) -> str:
        rights, site = lease.rights, self._server.site
        if self._identity is not None:
            asked = [("audience", site.issuer), ("scope", " ".join(rights["scope"])), *_each("resource", rights)]
            form = [*_exchange(self._assertion(lease, self._identity), ID_JAG), *asked]
            return _id_jag_of(self._ask_identity(self._identity, form, until))
        voice = self._voice
        return _signed(
            lambda: sign_id_jag(
                _behalf(lease),
                voice.key(),
                issuer=voice.issuer,
                audience=site.issuer,
                client=site.client.id,
                scope=rights["scope"],
                resources=rights.get("resource", ()),
                now=self._now(),
                jti=encode(self._random(16)),
            )
        )

    @staticmethod
    def _ask_identity(identity: Server, form: Form, until: float) -> Mapping[str, Any]:
        """Whatever it answers, there is no access token yet."""
        try:
            return identity.token(form, None, until)
        except CannotDo as error:
            raise Unsent(error.reason, error.detail) from None

    @property
    def _voice(self) -> Voice:
        assert self._settings.voice is not None
        return self._settings.voice

    # -- what came

    def _fit(self, answer: Mapping[str, Any], lease: Lease, key: SigningKey | None, asked_at: int, latest: int) -> int:
        """When it ends: at the latest, counted from before it was asked for. Raises _Unfit."""
        if not isinstance(token := answer.get("access_token"), str) or not _TOKEN.fullmatch(token):
            raise _Unfit("there is none in the answer, or it is none that a header holds.")
        if "refresh_token" in answer:
            raise _Unfit("the server gave a refresh token as well; let it give this client none.")
        kind, wanted = answer.get("token_type"), "bearer" if key is None else "dpop"
        if not isinstance(kind, str) or kind.lower() != wanted:
            raise _Unfit(f"it is not of the type {wanted}; look at the client's settings there, and at `dpop`.")
        if self._settings.kind is Kind.EXCHANGE and answer.get("issued_token_type") != ACCESS_TOKEN:
            raise _Unfit("what was issued is no access token.")
        _require_narrow(answer.get("scope"), lease)
        _require_details(answer.get("authorization_details"), lease)
        life_s = answer.get("expires_in")
        if not isinstance(life_s, int) or isinstance(life_s, bool) or not 0 < life_s <= MAX_LIFE_S:
            raise _Unfit(f"the server does not say that it ends within {MAX_LIFE_S} s.")
        expires_at = asked_at + life_s * 1000
        if expires_at > latest:
            raise _Unfit(
                f"it would live for {life_s} s, {(expires_at - latest + 999) // 1000} s more than it may; shorten the "
                "lifetime that the server gives, or say it in `token_lifetime_s`."
            )
        return expires_at

    def _give_back(self, lease: Lease, answer: Mapping[str, Any], asked_at: int, until: float) -> bool:
        """Revoke what came, or keep it for `revoke` to do so. A refresh token first: it could make others."""
        came = tuple(str(value) for name in ("refresh_token", "access_token") if _is_token(value := answer.get(name)))
        life_s = answer.get("expires_in")
        told = life_s if isinstance(life_s, int) and 0 < life_s <= MAX_LIFE_S else MAX_LIFE_S
        life_ms = (MAX_LIFE_S if "refresh_token" in answer else told) * 1000
        with self._lock:
            self._left[lease.name] = _Left(came, asked_at + life_ms)
        try:
            self._end(came, until)
        except CannotDo:
            return False
        with self._lock:
            del self._left[lease.name]
            self._over.add(lease.name)
        return True

    def _end(self, tokens: Iterable[str], until: float) -> None:
        """Raises CannotDo, unless each of them counts no more: also where there is none to revoke."""
        tokens = tuple(tokens)
        if not tokens:
            raise unavailable("The answer with the token was lost; it ends when it expires.")
        if not self._settings.revocable:
            raise unavailable("The authorization server cannot revoke it; it ends when it expires.")
        for token in tokens:
            self._server.revoke(token, until)
        for token in tokens if self._settings.introspect else ():
            if self._server.introspect(token, until)["active"]:
                raise unavailable("The authorization server says that it revoked a token, and that the token counts.")


def private_jwk(key: SigningKey) -> str:
    """A P-256 key as JSON (RFC 7518, 6.2.2), for whoever makes the proofs."""
    assert isinstance(key.private, ec.EllipticCurvePrivateKey)
    number = key.private.private_numbers().private_value.to_bytes(32, "big")
    return canonical({**key.public.bare(), "alg": key.algorithm.value, "d": encode(number)}).decode()


def _subject(grant: Grant, voice: Voice, *, needed: bool) -> str:
    """The user as the server is told of them; the agent, where the task serves nobody and that will do."""
    issuer, _, subject = grant.user.partition("#")
    if voice.users_of and grant.user:
        if issuer != voice.users_of or not subject:
            raise CannotDo(Reason.OUT_OF_SCOPE, "The task's user is of another issuer than `users_of`.")
        return subject
    if needed and not grant.user:
        raise CannotDo(Reason.OUT_OF_SCOPE, "The credential is for a user's tasks, and this one serves nobody.")
    return grant.user or grant.holder


def _behalf(lease: Lease) -> Behalf:
    rights = lease.rights
    return Behalf(rights["subject"], [(domain, who) for domain, who in rights["actors"]], lease.task, rights["tree"])


def _signed(sign: Callable[[], str]) -> str:
    """Nothing was asked yet where this fails. Raises Unsent."""
    try:
        return sign()
    except CannotDo as error:
        raise Unsent(error.reason, error.detail) from None
    except InvalidProof as error:
        raise Unsent(Reason.UNAVAILABLE, f"For whom the task acts cannot be said: {error}.") from None


def _exchange(subject: str, wanted: str) -> Form:
    """RFC 8693, 2.1."""
    return [
        ("grant_type", EXCHANGE),
        ("subject_token", subject),
        ("subject_token_type", JWT),
        ("requested_token_type", wanted),
    ]


def _each(name: str, rights: Mapping[str, Any]) -> Form:
    return [(name, value) for value in rights.get(name, ())]


def _id_jag_of(answer: Mapping[str, Any]) -> str:
    token, kind = answer.get("access_token"), answer.get("token_type")
    if not _is_token(token) or answer.get("issued_token_type") != ID_JAG or str(kind).upper() != "N_A":
        raise Unsent(Reason.UNAVAILABLE, "The identity provider answered with something else than an ID-JAG.")
    return str(token)


def _is_token(value: object) -> bool:
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def _require_narrow(scope: object, lease: Lease) -> None:
    """RFC 6749, 5.1: left out where it is what was asked for. Raises _Unfit."""
    if scope is None:
        return
    words = scope.split(" ") if isinstance(scope, str) else []
    if not words or not all(SCOPE.fullmatch(word) for word in words):
        raise _Unfit("its scope is none.")
    if not set(words) <= set(lease.rights["scope"]):
        raise _Unfit("its scope is wider than what was asked for.")


def _require_details(details: object, lease: Lease) -> None:
    """RFC 9396, 7: what was granted, which is what was asked for, or some of it. Raises _Unfit."""
    asked = lease.rights.get("authorization_details")
    if asked is None and details is None:
        return
    try:
        wanted = {canonical(each) for each in asked or ()}
        if not isinstance(details, list) or not details or not {canonical(each) for each in details} <= wanted:
            raise _Unfit("its `authorization_details` are missing, or not what was asked for.")
    except InvalidInput:
        raise _Unfit("its `authorization_details` cannot be read.") from None


def _require_known(told: Mapping[str, Any], lease: Lease, key: SigningKey | None) -> None:
    """The server knows the token as what it gave out: then its word at the end means something. Raises _Unfit."""
    if not told["active"]:
        raise _Unfit("the server does not know it as one that counts, and could not say when it counts no more.")
    _require_narrow(told.get("scope"), lease)
    cnf = told.get("cnf")
    bound = cnf.get("jkt") if isinstance(cnf, dict) else None
    if key is not None and bound != key.public.thumbprint:
        raise _Unfit("it is not bound to the key that was made for it.")
