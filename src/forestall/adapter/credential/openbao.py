"""Credentials made by OpenBao or HashiCorp Vault, each under a token of its own.

A lease begins with a child token: an orphan of a token role, with the class's policies and no others, an end, and the
lease's name in its metadata. What is to be lent is read with that token and with nothing else, so it hangs on it:
when the token is revoked, or runs out, the server ends every secret that was made with it. And whatever answer was
lost, the token is found by its metadata.

The server ends a token's secrets some time after the token. So a secret is ended first, by its own id, where that is
known; where it is not, the end of all that hangs is waited for. No word of the server is taken for it: what was revoked
is looked up.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.http import Web, unavailable
from forestall.adapter.credential.openbao_api import (
    MAX_BYTES,
    Keys,
    Said,
    Server,
    Site,
    lease_id_of,
    listed,
)
from forestall.adapter.credential.openbao_login import FromFile, LoggedIn, Login, TokenFile
from forestall.adapter.credential.openbao_rights import Kind, Method, Wanted, plan
from forestall.adapter.credential.openbao_tokens import LEASES, NAME, PAUSE_S, Child, Tokens, bounded, child_of
from forestall.core.ask import CannotDo
from forestall.core.model import Action, Grant, Json, Lease, Permit, Scope, Secret
from forestall.core.reason import Reason
from forestall.port import Traits

FIELDS = {Kind.TOKEN: frozenset({"token"}), Kind.DATABASE: frozenset({"username", "password"}), Kind.DYNAMIC: None}
"""What a secret of each kind consists of; of another engine's, only its answer tells."""

DRAW_USES = 2
"""Requests that a token is good for with which a secret is read. One is made; with the last one a token would be
revoked, and the secret at once with it.
"""

MAX_FIELD = 65_536
"""Characters of one part of a secret. A key with its chain of certificates has a tenth."""

_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")


@dataclass(frozen=True, slots=True)
class Settings:
    site: Site
    login: Login
    token_role: str
    wanted: Wanted


class _Own(Keys, Protocol):
    def close(self) -> None: ...


class OpenBaoBroker:
    """`forestall.port.Broker`, for one class."""

    def __init__(self, settings: Settings, context: Context, *, pause: Callable[[float], None] = time.sleep) -> None:
        """Asks nobody.

        Raises:
            SetupError: a file of the server's certificates cannot be used.
        """
        self._settings, self._context, self._pause = settings, context, pause
        web = Web(settings.site.trust, total_s=context.timeout_s, max_bytes=MAX_BYTES)
        self._keys = open_keys(settings.login, settings.site, web, context.now)
        self._server = Server(settings.site, web, self._keys, total_s=context.timeout_s)
        self._tokens = Tokens(self._server, f"auth/token/create/{settings.token_role}", pause)

    @property
    def traits(self) -> Traits:
        return Traits(revocable=True, by_name=True, renewable=True, fields=FIELDS[self._settings.wanted.kind])

    def plan(self, permit: Permit, action: Action, grant: Grant) -> Mapping[str, Any]:
        del action  # a role has what an effect needs, whatever is called
        return plan(self._settings.wanted, self._context.scope, permit, grant)

    def issue(self, lease: Lease) -> Secret:
        until, at = self._server.until(), self._context.now()
        seconds = (lease.expires_at - at) // 1000
        if seconds < 1:
            raise CannotDo(Reason.DEADLINE, "There is not a second left for the credential to live.")
        child = self._create(lease, seconds, until)
        if lease.rights["kind"] == Kind.TOKEN:
            return Secret({"token": child.token}, child.accessor, at + child.seconds * 1000)
        drawn = self._draw(lease.rights, child, until)
        return Secret(drawn.fields, f"{child.accessor} {drawn.lease_id}", at + drawn.seconds * 1000)

    def renew(self, lease: Lease, expires_at: int) -> int:
        until, at = self._server.until(), self._context.now()
        seconds = (expires_at - at) // 1000
        accessor, lease_id = _handle(lease)
        if not accessor or seconds < 1:
            raise unavailable("A credential whose handle is lost, or that has no second to live, is not renewed.")
        body = {"accessor": accessor, "increment": seconds}
        said = self._server.ask("POST", "auth/token/renew-accessor", until=until, body=body)
        granted = [bounded(said, said.require("renew a token").part("auth"), seconds)]
        if lease_id:
            granted.append(self._set_end(lease_id, seconds, until))
        return at + min(granted) * 1000

    def revoke(self, lease: Lease) -> None:
        until = self._server.until()
        accessor, lease_id = _handle(lease)
        if lease_id:
            self._end_secret(lease_id, until)
        found = {accessor: ()} if accessor else self._tokens.named(lease.name, until)
        for each in found:
            self._tokens.end(each, until)
        if not lease_id:
            self._await_end({*_leases(lease.rights), *(path for paths in found.values() for path in paths)}, until)

    def list_orphans(self, known: Collection[str]) -> Sequence[str]:
        found = self._tokens.names(self._server.until())
        return sorted(name for name in found if name.startswith(self._context.prefix) and name not in known)

    def close(self) -> None:
        self._keys.close()
        self._server.close()

    def _create(self, lease: Lease, seconds: int, until: float) -> Child:
        rights, renewed = lease.rights, lease.scope is Scope.TASK
        body = {
            "policies": rights["policies"],
            "meta": {NAME: lease.name, LEASES: " ".join(_leases(rights))},
            "no_default_policy": True,
            "ttl": f"{seconds}s",
            "renewable": renewed,
            "num_uses": rights["uses"] if rights["kind"] == Kind.TOKEN else DRAW_USES,
            "display_name": lease.name,
            "type": "service",
        }
        if not renewed:  # of one that is renewed, the token role's counts
            body["explicit_max_ttl"] = body["ttl"]
        role = self._settings.token_role
        said = self._server.ask("POST", "auth/token/create", role, until=until, body=body)
        return child_of(said.require("make a token"), body, seconds)

    def _draw(self, rights: Mapping[str, Json], child: Child, until: float) -> _Drawn:
        write = rights["method"] == Method.WRITE
        method, body = ("POST", rights["data"]) if write else ("GET", None)
        said = self._server.ask_as(child.token, method, rights["path"], until=until, body=body)
        said.require("make a secret")
        if said.body.get("lease_id") == "":
            raise said.odd("a secret that has no lease, which nobody can end; one that stands is lent as `static`")
        lease_id, seconds = lease_id_of(said, rights["path"]), said.seconds(said.body)
        if seconds > child.seconds:
            # it ends with its token; but the database, say, has been told the later end, and may be all that is left
            seconds = self._set_end(lease_id, child.seconds, until)
        return _Drawn(_fields(said), lease_id, min(seconds, child.seconds))

    def _set_end(self, lease_id: str, seconds: int, until: float) -> int:
        body = {"lease_id": lease_id, "increment": seconds}
        said = self._server.ask("POST", "sys/leases/renew", until=until, body=body)
        return bounded(said, said.require("set the end of a secret").body, seconds)

    def _end_secret(self, lease_id: str, until: float) -> None:
        body = {"lease_id": lease_id, "sync": True}
        self._server.ask("POST", "sys/leases/revoke", until=until, body=body).require("end a secret")
        said = self._server.ask("POST", "sys/leases/lookup", until=until, body={"lease_id": lease_id})
        if not said.gone:
            said.require("look up a secret")
            raise said.odd("the secret that it said it had ended")

    def _await_end(self, locations: Iterable[str], until: float) -> None:
        """Raises CannotDo where something that was to end at these paths still has not, when the time is up."""
        for location in sorted(locations):
            while self._ending(location, until):
                if self._server.is_late(until, PAUSE_S):
                    raise unavailable(f"Secrets of {location} have not ended in time; see the server's log.")
                self._pause(PAUSE_S)

    def _ending(self, location: str, until: float) -> bool:
        """Is there a secret of this path whose time is over? It may be ours, and the server is at it."""
        said = self._server.ask("LIST", "sys/leases/lookup", location, until=until)
        for key in listed(said, "list secrets"):
            body = {"lease_id": f"{location}/{key}"}
            found = self._server.ask("POST", "sys/leases/lookup", until=until, body=body)
            if found.gone or key.endswith("/"):
                continue
            left = found.require("look up a secret").part("data").get("ttl")
            if type(left) is not int:
                raise found.odd("a secret whose end it does not tell")
            if left <= 0:
                return True
        return False


@dataclass(frozen=True, slots=True)
class _Drawn:
    fields: Mapping[str, str] = field(repr=False)
    lease_id: str
    seconds: int


def open_keys(login: Login, site: Site, web: Web, now: Callable[[], int]) -> _Own:
    return FromFile(login) if isinstance(login, TokenFile) else LoggedIn(login, site, web, now)


def _fields(said: Said) -> Mapping[str, str]:
    """What a secret consists of, as far as it is text or plain; lists and tables have no place in a template."""
    found = {}
    for name, value in said.part("data").items():
        if _FIELD.fullmatch(name) and type(value) in (str, int, bool):
            found[name] = value if isinstance(value, str) else str(value).lower()
    if not found or any(len(value) > MAX_FIELD or "\0" in value for value in found.values()):
        raise said.odd("a secret that is empty, or too large")
    return found


def _handle(lease: Lease) -> tuple[str, str]:
    """Accessor and lease id; empty where they are lost, or there is no such secret."""
    accessor, _, lease_id = (lease.secret.handle if lease.secret is not None else "").partition(" ")
    return accessor, lease_id


def _leases(rights: Mapping[str, Json]) -> tuple[str, ...]:
    found: tuple[str, ...] = ()
    with suppress(TypeError):  # of an orphan, nothing is known
        found = tuple(str(each) for each in rights.get("leases", ()))
    return found
