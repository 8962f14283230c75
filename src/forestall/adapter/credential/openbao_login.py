"""Forestall's own token at an OpenBao or Vault server: in a file that another program keeps, or by a login."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from forestall.adapter.credential.http import Web, unavailable
from forestall.adapter.credential.openbao_api import Said, Site, ask, token_of
from forestall.core.ask import CannotDo
from forestall.core.errors import cure
from forestall.core.model import Json

MAX_FILE = 16_384
"""Bytes of a token, a secret id or an assertion."""

RENEW_AT = 0.5
"""The part of a login's life after which there is a new one."""

RETRY_MS = 10_000
"""A login younger than this is not to blame for a refusal."""

_PLAIN = re.compile(r"[!-~]+")


@dataclass(frozen=True, slots=True)
class TokenFile:
    """Kept valid by somebody else, such as the server's own agent; read again each time."""

    file: Path


@dataclass(frozen=True, slots=True)
class AppRole:
    role_id: str
    secret_id_file: Path
    mount: str = "approle"


@dataclass(frozen=True, slots=True)
class Jwt:
    """A JWT-SVID, a service account's token or an assertion, which another program writes; read at each login."""

    role: str
    file: Path
    mount: str = "jwt"


Login = TokenFile | AppRole | Jwt


class FromFile:
    """Satisfies `Keys`."""

    def __init__(self, login: TokenFile) -> None:
        self._file = login.file

    def token(self, until: float) -> str:
        del until
        return read_secret(self._file)

    def refused(self, token: str) -> bool:
        """Whoever keeps the file may have replaced it just now."""
        return read_secret(self._file) != token

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _Held:
    token: str = field(repr=False)
    at: int
    renew_at: int


class LoggedIn:
    """Satisfies `Keys`. One login for all threads, renewed by another one, and ended by `close`."""

    def __init__(self, login: AppRole | Jwt, site: Site, web: Web, now: Callable[[], int]) -> None:
        self._login, self._site, self._web, self._now = login, site, web, now
        self._lock = threading.Lock()
        self._held: _Held | None = None

    def token(self, until: float) -> str:
        with self._lock:
            at = self._now()
            if self._held is None or not self._held.at <= at < self._held.renew_at:
                self._held = self._log_in(until, at)
            return self._held.token

    def refused(self, token: str) -> bool:
        with self._lock:
            if self._held is None or self._held.token != token:
                return True
            if self._now() - self._held.at < RETRY_MS:
                return False
            self._held = None
            return True

    def close(self) -> None:
        """What was made with it lives on: those are orphans."""
        with self._lock:
            held, self._held = self._held, None
        if held is not None:
            try:
                self._ask("token/revoke-self", {}, self._web.until(), held.token)
            except CannotDo:
                return

    def _log_in(self, until: float, at: int) -> _Held:
        match self._login:
            case AppRole(role_id, file, mount):
                body = {"role_id": role_id, "secret_id": read_secret(file)}
            case Jwt(role, file, mount):
                body = {"role": role, "jwt": read_secret(file)}
        said = self._ask(f"{mount}/login", body, until, None).require("log Forestall in")
        auth = said.part("auth")
        life_ms = said.seconds(auth) * 1000
        if auth.get("token_type") != "service" or not life_ms or auth.get("num_uses") not in (None, 0):
            raise said.odd("a login that does not last; let its role give service tokens with a ttl, for any use")
        return _Held(token_of(said, auth), at, at + int(life_ms * RENEW_AT))

    def _ask(self, location: str, body: Json, until: float, token: str | None) -> Said:
        return ask(self._web, self._site, "POST", "auth", location, token=token, until=until, body=body)


def read_secret(file: Path) -> str:
    """Its one line. Raises CannotDo, which holds nothing of it."""
    try:
        with file.open("rb") as opened:
            found = opened.read(MAX_FILE + 1)
    except OSError as error:
        raise unavailable(f"{file} cannot be read: {cure(error)}.") from None
    text = found.decode("ascii", errors="replace").strip()
    if len(found) > MAX_FILE or not _PLAIN.fullmatch(text):
        raise unavailable(f"{file} does not hold one line of visible characters; write the secret there.")
    return text
