"""Kubernetes service account tokens: one for each lease, bound to a Secret of the lease's name.

The cluster takes such a token for as long as that Secret is there (TokenRequestSpec.boundObjectRef). So deleting it by
its name ends the token, whoever has it, also where the answer that held it was lost; and its label says whose it is.
The Secret is empty, and in the namespace of the service account.

The cluster's API, v1: Secrets, and TokenRequest (authentication.k8s.io/v1).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.http import Answer, Ask, Web, path, unavailable
from forestall.adapter.credential.need import gravest, require_name
from forestall.adapter.oidc.token_file import read_token
from forestall.core.canonical import parse
from forestall.core.effects import Effect
from forestall.core.errors import InvalidInput, Unavailable
from forestall.core.model import Action, Grant, Json, Lease, Permit, Secret
from forestall.port import Traits
from forestall.proof.encoding import decode
from forestall.proof.fault import InvalidProof
from forestall.proof.jws import MAX_TOKEN

SHORTEST_S = 600
"""TokenRequestSpec.expirationSeconds is at least so much."""

EXTENDED_S = 3607
"""The one number of seconds that an API server may take for a year, since kubelets ask for it
(WarnOnlyBoundTokenExpirationPeriod of its `serviceaccount` package).
"""

SKEW_MS = 60_000
"""How far the cluster's clock and ours may be apart."""

OWNER = "forestall.dev/owner"
PAGE, MAX_PAGES = 100, 100
"""Secrets of one answer, and answers: more than 10,000 leases of one Forestall are an error, and not a part of them."""

PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.5, 2.0, 2.5, 3.0)
"""Between asking whether a token is still taken. API servers remember for ten seconds that one was good."""

_TOKEN = re.compile(r"[A-Za-z0-9._-]+")
_UID = re.compile(r"[A-Za-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Settings:
    api: str
    namespace: str
    accounts: Mapping[Effect, str]
    """The service account for what has this gravest effect."""
    audiences: tuple[str, ...]
    """Whom the tokens are for; empty: the API server."""
    token_file: Path
    """Of Forestall's own service account; read again each time."""


FIELDS = frozenset({"token", "namespace", "service_account", "api"})


class Kubernetes:
    """A broker."""

    traits = Traits(revocable=True, by_name=True, shortest_ms=SHORTEST_S * 1000, fields=FIELDS)

    def __init__(
        self, settings: Settings, context: Context, web: Web, wait: Callable[[float], object] | None = None
    ) -> None:
        """`wait`: pauses for so many seconds, or for less once the broker is closed."""
        self._settings, self._context, self._web = settings, context, web
        self._closed = threading.Event()
        self._wait = self._closed.wait if wait is None else wait

    def plan(self, permit: Permit, action: Action, grant: Grant) -> Mapping[str, Json]:  # noqa: ARG002 - the port's
        settings, accounts = self._settings, self._settings.accounts
        account = accounts[gravest(self._context.scope, permit, grant, accounts)]
        return {"namespace": settings.namespace, "service_account": account, "audiences": list(settings.audiences)}

    def issue(self, lease: Lease) -> Secret:
        name, now = require_name(lease, self._context.prefix), self._context.now()
        account, audiences = self._rights(lease)
        if lease.expires_at <= now:
            raise unavailable("The lease ran out before a token was asked for.")
        until = self._web.until()
        uid = self._create(name, until)
        seconds = max(SHORTEST_S, (lease.expires_at - now) // 1000)
        spec = {
            "audiences": audiences,
            "expirationSeconds": seconds - 1 if seconds == EXTENDED_S else seconds,
            "boundObjectRef": {"apiVersion": "v1", "kind": "Secret", "name": name, "uid": uid},
        }
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = self._ask("POST", self._url("serviceaccounts", account, "token"), asked, until=until)
        if answer.status != 201:
            raise unavailable(_refused(answer, f"a token of the service account {account}"))
        status = _member(answer.json(), "status")
        return self._accepted(status, name, uid, account, ends_by=now + seconds * 1000 + SKEW_MS)

    def renew(self, lease: Lease, expires_at: int) -> int:  # noqa: ARG002 - the port's
        raise unavailable("Kubernetes does not renew a token; it makes another.")

    def revoke(self, lease: Lease) -> None:
        """The Secret is gone once the cluster says that there is none; that it was deleted is not yet that."""
        name, until = require_name(lease, self._context.prefix), self._web.until()
        url = self._url("secrets", name)
        for _ in range(2):
            gone = self._ask("DELETE", url, until=until)
            if gone.status == 404 and _member(gone.json(), "reason") == "NotFound":
                break
            if gone.status not in {200, 202}:
                raise unavailable(_refused(gone, "the deletion of a Secret"))
        else:
            raise unavailable(f"The Secret {name} was deleted and is still there; does it have a finalizer?")
        token = "" if lease.secret is None else lease.secret.fields.get("token", "")
        if token and not self._settings.audiences:
            self._require_refused(token, until)

    def list_orphans(self, known: Collection[str]) -> Sequence[str]:
        return [name for name in self._names() if name not in known and name.startswith(self._context.prefix)]

    def close(self) -> None:
        self._closed.set()
        self._web.close()

    def _rights(self, lease: Lease) -> tuple[str, list[str]]:
        settings, rights = self._settings, lease.rights
        account = rights.get("service_account")
        same = rights.get("namespace") == settings.namespace and rights.get("audiences") == list(settings.audiences)
        if not same or not isinstance(account, str) or account not in settings.accounts.values():
            raise unavailable("The lease's rights are not those of this class; nothing was asked for.")
        return account, list(settings.audiences)

    def _create(self, name: str, until: float) -> str:
        """Its uid. One that is there already is not ours to bind a token to: a name is issued once."""
        labels = {"app.kubernetes.io/managed-by": "forestall", OWNER: self._context.owner}
        metadata = {"name": name, "namespace": self._settings.namespace, "labels": labels}
        made = self._ask(
            "POST",
            self._url("secrets"),
            {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata},
            until=until,
        )
        if made.status == 409:
            raise unavailable(f"There is a Secret {name} already; it is deleted with the lease.")
        if made.status != 201:
            raise unavailable(_refused(made, "a Secret"))
        found = _member(made.json(), "metadata")
        uid = _member(found, "uid")
        if _member(found, "name") != name or not isinstance(uid, str) or not _UID.fullmatch(uid):
            raise unavailable("The cluster answered with another Secret than was asked for.")
        return uid

    def _accepted(self, status: Any, name: str, uid: str, account: str, *, ends_by: int) -> Secret:
        """The token, where it is what was asked for. One that is not bound to its Secret could not be revoked."""
        settings, token = self._settings, _member(status, "token")
        if not isinstance(token, str) or len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
            raise unavailable("The cluster answered without a token.")
        try:
            claims = _claims(token)
            _require_ours(claims, settings, account, bound={"name": name, "uid": uid})
            ends = (_time(_member(status, "expirationTimestamp")), _seconds(claims.get("exp")))
            _require_before(max(ends), ends_by)
        except ValueError as error:
            raise unavailable(f"The cluster gave a token {error}; it was thrown away.") from None
        fields = {"token": token, "namespace": settings.namespace, "service_account": account, "api": settings.api}
        return Secret(fields, "", min(ends))

    def _require_refused(self, token: str, until: float) -> None:
        """Where the cluster still takes it, because it remembers, wait for as long as there is time."""
        for pause_s in (*PAUSES_S, 0.0):
            answer = self._web.ask(Ask("GET", path(self._settings.api, "version"), _headers(token)), until=until)
            if answer.status == 401:
                return
            if pause_s:
                self._wait(pause_s)
        raise unavailable(
            "The Secret is gone, and the API server still takes the token; it remembers for some seconds."
        )

    def _names(self) -> Iterator[str]:
        """Of all Secrets that are labelled as ours."""
        until, more = self._web.until(), ""
        for _ in range(MAX_PAGES):
            query = {"labelSelector": f"{OWNER}={self._context.owner}", "limit": str(PAGE)}
            query |= {"continue": more} if more else {}
            page = self._ask("GET", f"{self._url('secrets')}?{urlencode(query)}", until=until)
            if page.status != 200:
                raise unavailable(_refused(page, "the list of Secrets"))
            listed = page.json()
            items = _member(listed, "items")
            for item in items if isinstance(items, list) else ():
                name = _member(_member(item, "metadata"), "name")
                if isinstance(name, str):
                    yield name
            more = _member(_member(listed, "metadata"), "continue") or ""
            if not isinstance(items, list) or not isinstance(more, str):
                raise unavailable("The cluster answered with something that is no list of Secrets.")
            if not more:
                return
        raise unavailable(f"There are more than {PAGE * MAX_PAGES} Secrets of ours; look at why they do not end.")

    def _ask(self, method: str, url: str, body: Json = None, *, until: float) -> Answer:
        try:
            own = read_token(self._settings.token_file)
        except Unavailable as error:
            raise unavailable(str(error)) from None
        return self._web.ask(Ask(method, url, _headers(own), json=body), until=until)

    def _url(self, *segments: str) -> str:
        return path(self._settings.api, "api", "v1", "namespaces", self._settings.namespace, *segments)


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _headers(bearer: str) -> dict[str, str]:
    return {"Accept": "application/json", "Authorization": f"Bearer {bearer}", "User-Agent": "forestall"}


def _claims(token: str) -> dict[str, Any]:
    """What it says of itself; the cluster alone can tell whether it is so. Raises ValueError."""
    parts = token.split(".")
    try:
        claims = parse(decode(parts[1]) if len(parts) == 3 else b"", max_bytes=MAX_TOKEN)
    except (InvalidProof, InvalidInput):
        claims = None
    if isinstance(claims, dict):
        return claims
    raise ValueError("that is none")


def _require_ours(claims: Mapping[str, Any], settings: Settings, account: str, *, bound: Mapping[str, str]) -> None:
    """Raises ValueError."""
    if claims.get("sub") != f"system:serviceaccount:{settings.namespace}:{account}":
        raise ValueError("of another account")
    if _member(claims.get("kubernetes.io"), "secret") != bound:
        raise ValueError("that is not bound to its Secret")
    if settings.audiences and claims.get("aud") != list(settings.audiences):
        raise ValueError("for another audience")


def _require_before(ends: int, by: int) -> None:
    """Raises ValueError."""
    if ends > by:
        raise ValueError("that lives longer than was asked for")


def _time(text: object) -> int:
    """Raises ValueError."""
    try:
        at = datetime.fromisoformat(text if isinstance(text, str) and len(text) <= 40 else "")
    except ValueError:
        raise ValueError("without an end") from None
    if at.tzinfo is None:
        raise ValueError("without an end")
    return int(at.timestamp() * 1000)


def _seconds(value: object) -> int:
    if type(value) is not int or not 0 < value < 2**40:
        raise ValueError("without an end")
    return value * 1000


def _refused(answer: Answer, what: str) -> str:
    """What to do about it: a sentence for the operator, with nothing of what the cluster wrote."""
    wait = answer.headers.get("retry-after", "")
    match answer.status:
        case 401:
            return "The cluster does not take Forestall's own token; look at `token_file`."
        case 403:
            return f"The cluster does not let Forestall have {what}; look at its role and at the namespace."
        case 404:
            return f"The cluster knows no such place for {what}; look at `namespace` and at the service account."
        case 422 | 400:
            return f"The cluster refuses {what} as it was asked for; look at `audiences`."
        case 429 | 503 if re.fullmatch(r"[0-9]{1,6}", wait):
            return f"The cluster limits how often it is asked; it may be asked again in {wait} s."
    return f"The cluster answered with status {answer.status}; see that it is up."
