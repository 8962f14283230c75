"""GitHub App installation tokens: one for each lease, for the repositories and permissions that it needs.

A token lives one hour, and has no name: only who has it can end it. So it is its own handle, and where an answer is
lost nothing is said to be over before that hour is.

GitHub's REST API: "Create an installation access token for an app", "Revoke an installation access token".
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.http import Answer, Ask, Unsent, Web, path, unavailable
from forestall.adapter.credential.key_pem import KeyPem
from forestall.adapter.credential.need import Template, effects_of, require_name
from forestall.core.ask import CannotDo
from forestall.core.canonical import canonical
from forestall.core.effects import Effect
from forestall.core.errors import SetupError
from forestall.core.model import Action, Grant, Json, Lease, Permit, Secret
from forestall.core.reason import Reason
from forestall.port import Traits
from forestall.proof.jws import sign_with

LIFE_MS = 3_600_000
"""Of every installation token."""

SKEW_MS = 300_000
"""How far GitHub's clock and ours may be apart."""

ASSERTION_S, BACKDATED_S = 300, 60
"""How long the app's assertion is good; GitHub takes ten minutes at most, and none from its future."""

MAX_REPOSITORIES = 100
"""Of one credential. GitHub takes 500, and nothing that needs so many is little."""

MAX_TOKEN = 4096
"""Characters. Those of 2026 on have several hundred."""

MAX_REMEMBERED = 4096
"""Leases of which this process knows that GitHub made no token, or how to end the one that it made."""

LEVELS = ("read", "write", "admin")
WRITE_ONLY = frozenset({"workflows"})
"""Permissions that cannot be had for reading."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,100}")
_VALUE = re.compile(r"[A-Za-z0-9._/-]{1,140}")
_TOKEN = re.compile(r"[\x21-\x7e]+")
_COUNT = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Settings:
    api: str
    app: str
    """The app's client id, or its number."""
    key_file: Path
    installation: int
    account: str
    """Whose installation it is; all repositories are its."""
    repositories: tuple[Template, ...]
    permissions: Mapping[str, str]
    """The most that the class gives."""


class GitHub:
    """A broker."""

    traits = Traits(revocable=True, by_name=False, shortest_ms=LIFE_MS, fields=frozenset({"token", "user"}))

    def __init__(self, settings: Settings, context: Context, web: Web) -> None:
        self._settings, self._context, self._web = settings, context, web
        self._key = KeyPem(settings.key_file)
        self._key.key()
        self._told = _Told()

    def plan(self, permit: Permit, action: Action, grant: Grant) -> Mapping[str, Json]:
        effects = effects_of(self._context.scope, permit, grant)
        names = [each.fill(grant, action, _VALUE) for each in self._settings.repositories]
        try:
            repositories = sorted({require_repository(name, self._settings.account) for name in names})
        except ValueError as error:
            raise CannotDo(Reason.OUT_OF_SCOPE, f"The repository that the credential is for: {error}.") from None
        permissions = least(self._settings.permissions, effects)
        if not permissions:
            raise CannotDo(Reason.OUT_OF_SCOPE, "The class has no permission that can be had for reading.")
        return {"account": self._settings.account, "repositories": repositories, "permissions": permissions}

    def issue(self, lease: Lease) -> Secret:
        name, now = require_name(lease, self._context.prefix), self._context.now()
        if lease.expires_at <= now:
            raise unavailable("The lease ran out before a token was asked for.")
        wanted = _wanted(lease.rights, self._settings)
        url = path(self._settings.api, "app", "installations", str(self._settings.installation), "access_tokens")
        assertion = self._assertion(now)
        try:
            answer = self._web.ask(Ask("POST", url, _headers(assertion), json=wanted))
        except Unsent:
            self._told.nothing(name)
            raise
        if not answer.good:
            if answer.status < 500:
                self._told.nothing(name)
            raise unavailable(_refused(answer, self._settings.installation))
        return self._accepted(name, answer.json(), wanted)

    def renew(self, lease: Lease, expires_at: int) -> int:  # noqa: ARG002 - the port's
        raise unavailable("GitHub does not renew installation tokens.")

    def revoke(self, lease: Lease) -> None:
        name = require_name(lease, self._context.prefix)
        token = self._told.token(name) if lease.secret is None else lease.secret.handle
        if token:
            self._end(token)
            self._told.nothing(name)
            return
        ends_at = lease.expires_at + LIFE_MS + SKEW_MS
        if self._told.is_nothing(name) or self._context.now() >= ends_at:
            return
        raise unavailable(
            f"GitHub may have made a token whose answer was lost, and finds none by name; it ends by {_time(ends_at)}."
        )

    def list_orphans(self, known: Collection[str]) -> Sequence[str]:  # noqa: ARG002 - the port's
        return ()

    def close(self) -> None:
        self._web.close()

    def _accepted(self, name: str, answer: Json, wanted: Mapping[str, Json]) -> Secret:
        """What GitHub gave, where it is what was asked for; else it is ended at once."""
        token = _token_of(answer)
        try:
            expires_at = _expiry(answer, self._context.now())
            require_as_asked(answer, self._settings.account, wanted)
        except ValueError as error:
            self._told.made(name, token)
            self._end(token)
            self._told.nothing(name)
            raise unavailable(f"GitHub gave a token {error}; it was revoked at once.") from None
        return Secret({"token": token, "user": "x-access-token"}, token, expires_at)

    def _end(self, token: str) -> None:
        """Ask for its end, and then whether it is good for anything. A token that is not one is answered 401."""
        until = self._web.until()
        gone = self._web.ask(
            Ask("DELETE", path(self._settings.api, "installation", "token"), _headers(token)), until=until
        )
        if gone.status not in {204, 401}:
            raise unavailable(_refused(gone, self._settings.installation))
        left = self._web.ask(Ask("GET", path(self._settings.api, "rate_limit"), _headers(token)), until=until)
        if left.status == 401:
            return
        if left.good:
            raise unavailable("GitHub said that the token is revoked, and still takes it.")
        raise unavailable(_refused(left, self._settings.installation))

    def _assertion(self, now: int) -> str:
        """RS256; `iss` is the app, `exp` at most ten minutes ahead."""
        at = now // 1000
        claims = {"iat": at - BACKDATED_S, "exp": at + ASSERTION_S, "iss": self._settings.app}
        try:
            return sign_with({"alg": "RS256", "typ": "JWT"}, canonical(claims), self._key.key())
        except SetupError as error:
            raise unavailable(str(error)) from None


class _Told:
    """What GitHub said about leases of which nobody holds a secret. Kept for as long as the process lives."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: OrderedDict[str, str] = OrderedDict()

    def made(self, name: str, token: str) -> None:
        with self._lock:
            self._tokens[name] = token
            while len(self._tokens) > MAX_REMEMBERED:
                self._tokens.popitem(last=False)

    def nothing(self, name: str) -> None:
        """There is no token for it that is good for anything."""
        self.made(name, "")

    def token(self, name: str) -> str:
        with self._lock:
            return self._tokens.get(name, "")

    def is_nothing(self, name: str) -> bool:
        with self._lock:
            return self._tokens.get(name) == ""


def require_repository(text: str, account: str) -> str:
    """The name of a repository of the account, given with it or without. Raises ValueError."""
    owner, slash, name = text.rpartition("/")
    if slash and owner.casefold() != account.casefold():
        raise ValueError(f"it is not one of {account}'s")
    if not _NAME.fullmatch(name) or name in {".", ".."}:
        raise ValueError("it is no name of a repository")
    return name


def least(most: Mapping[str, str], effects: frozenset[Effect]) -> dict[str, str]:
    """Of these permissions, what the effects need: nothing but reading for `read`, `admin` for `privilege` alone."""
    if effects == {Effect.READ}:
        return {name: "read" for name in most if name not in WRITE_ONLY}
    ceiling = LEVELS.index("admin" if Effect.PRIVILEGE in effects else "write")
    return {name: LEVELS[min(LEVELS.index(level), ceiling)] for name, level in most.items()}


def require_as_asked(answer: Any, account: str, wanted: Mapping[str, Json]) -> None:
    """Raises ValueError where the token is good for anything else; GitHub adds `metadata: read` to each by itself."""
    if answer.get("repository_selection") != "selected":
        raise ValueError("for every repository of its installation")
    given = answer.get("repositories")
    found = [each.get("full_name") for each in given if isinstance(each, dict)] if isinstance(given, list) else []
    names = [name for name in found if isinstance(name, str)]
    if not names or len(names) != len(given):
        raise ValueError("without saying for which repositories")
    if {name.casefold() for name in names} != {f"{account}/{name}".casefold() for name in wanted["repositories"]}:
        raise ValueError("for other repositories than were asked for")
    permissions = answer.get("permissions")
    if not isinstance(permissions, dict) or not permissions:
        raise ValueError("without saying what it permits")
    if {"metadata": "read", **permissions} != {"metadata": "read", **wanted["permissions"]}:
        raise ValueError("with other permissions than were asked for")


def _wanted(rights: Mapping[str, Json], settings: Settings) -> dict[str, Json]:
    """The body of the request. What it does not name GitHub gives without limits, so that each part has to be there."""
    repositories, permissions = rights.get("repositories"), rights.get("permissions")
    if rights.get("account") != settings.account or not repositories or not permissions:
        raise unavailable("The lease's rights are not those of a token of this installation; nothing was asked for.")
    return {"repositories": list(repositories), "permissions": dict(permissions)}


def _token_of(answer: Any) -> str:
    token = answer.get("token") if isinstance(answer, dict) else None
    if not isinstance(token, str) or len(token) > MAX_TOKEN or not _TOKEN.fullmatch(token):
        raise unavailable("GitHub answered without a token.")
    return token


def _expiry(answer: Any, now: int) -> int:
    """Raises ValueError where it says none, or more than an hour."""
    text = answer.get("expires_at")
    try:
        at = datetime.fromisoformat(text if isinstance(text, str) and len(text) <= 40 else "")
    except ValueError:
        raise ValueError("without an end") from None
    ends = int(at.timestamp() * 1000) if at.tzinfo is not None else 0
    if not now - SKEW_MS < ends <= now + LIFE_MS + SKEW_MS:
        raise ValueError("that does not end within the hour")
    return ends


def _headers(bearer: str) -> dict[str, str]:
    return {
        "Accept": "application/vnd.github+json",
        "Authorization": f"Bearer {bearer}",
        "User-Agent": "forestall",
        "X-GitHub-Api-Version": "2022-11-28",
    }


def _refused(answer: Answer, installation: int) -> str:
    """What to do about it: a sentence for the operator."""
    wait = answer.headers.get("retry-after", "")
    spent = answer.headers.get("x-ratelimit-remaining") == "0"
    if answer.status == 429 or (answer.status == 403 and (wait or spent)):
        again = f"it may be asked again in {wait} s" if _COUNT.fullmatch(wait) else "it may be asked again later"
        return f"GitHub limits how often it is asked; {again}."
    return _ADVICE.get(answer.status, f"GitHub answered with status {answer.status}; see that it is up.").format(
        installation=installation
    )


_ADVICE = {
    401: "GitHub does not take the app's signature; look at `app`, `private_key_file` and this machine's clock.",
    403: "GitHub refuses installation {installation}; see that it is not suspended.",
    404: "GitHub knows no installation {installation} of this app; look at `installation` and `app`.",
    422: "Installation {installation} lacks one of the repositories or permissions; look at the app's settings.",
}


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
