"""`backend = "openbao"`: OpenBao or HashiCorp Vault (docs/credentials/openbao.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.http import Trust
from forestall.adapter.credential.openbao import OpenBaoBroker, Settings
from forestall.adapter.credential.openbao_api import Site
from forestall.adapter.credential.openbao_login import AppRole, Jwt, Login, TokenFile
from forestall.adapter.credential.openbao_rights import ROLE, Kind, Method, Wanted, fields
from forestall.adapter.credential.openbao_secret import OpenBaoSecret, StandingSecret
from forestall.core.effects import Effect
from forestall.core.model import Json
from forestall.proof.url import require_location
from forestall.table import Table

SITE = ("address", "namespace", "ca_file", "certificate", "key", "login")
CLASS = ("token_role", "policies", "kind", "path", "method", "data", "roles", "leases", "uses")

MAX_USES = 100_000

_PATH = re.compile(r"[A-Za-z0-9_@-][A-Za-z0-9_@.-]*(/[A-Za-z0-9_@-][A-Za-z0-9_@.-]*)*")
_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,127}")
_POLICY = re.compile(r"[a-z0-9_-][a-z0-9_.-]{0,127}")


def open_broker(table: Table, context: Context) -> OpenBaoBroker:
    """Asks nobody. Raises SetupError."""
    table.require_known(*SITE, *CLASS, needed=("address", "login", "token_role", "policies", "kind"))
    role = _matching(table, "token_role", _NAME, "the name of a token role, in letters, digits, `_`, `.` and `-`")
    wanted = _wanted(table)
    return OpenBaoBroker(Settings(_site(table, context), _login(table, context), role, wanted), context)


def open_source(table: Table, context: Context) -> OpenBaoSecret:
    """A secret that stands in a KV engine. Asks nobody. Raises SetupError."""
    table.require_known(*SITE, "path", "field", "engine_version", needed=("address", "login", "path", "field"))
    path = _matching(table, "path", _PATH, "a path, such as `kv/data/shop`")
    version = table.whole("engine_version", 1, 2, 2)
    if version == 2 and "/data/" not in path:
        raise table.error("path", "`path` of a KV engine of version 2 has `data` in it, such as `kv/data/shop`.")
    secret = StandingSecret(path, table.text("field"), version)
    return OpenBaoSecret(_site(table, context), _login(table, context), secret, context)


def _site(table: Table, context: Context) -> Site:
    address = table.location("address", lambda url: require_location(url, loopback=True))
    if not address or "?" in address:
        raise table.error("address", "`address` is where the server is, such as `https://bao.example.org:8200`.")
    namespace = ""
    if table.has("namespace"):
        namespace = _matching(table, "namespace", _PATH, "a namespace, such as `agents/shop`")
    trust = Trust(_file(table, "ca_file", context), _file(table, "certificate", context), _file(table, "key", context))
    if trust.key is not None and trust.certificate is None:
        raise table.error("key", "`key` is that of `certificate`, which is missing.")
    return Site(address, namespace, trust)


def _login(table: Table, context: Context) -> Login:
    given = table.table("login")
    method = given.choice("method", ("approle", "jwt", "token"), None)
    known = {"approle": ("role_id", "secret_id_file"), "jwt": ("role", "file"), "token": ("file",)}[method]
    mount = () if method == "token" else ("mount",)
    given.require_known("method", *mount, *known, needed=known)
    if method == "token":
        return TokenFile(_required_file(given, "file", context))
    at = _matching(given, "mount", _PATH, f"where it is mounted, such as `{method}`") if given.has("mount") else method
    if method == "approle":
        return AppRole(given.text("role_id"), _required_file(given, "secret_id_file", context), at)
    return Jwt(given.text("role"), _required_file(given, "file", context), at)


def _wanted(table: Table) -> Wanted:
    kind = Kind(table.choice("kind", tuple(Kind), None))
    roles = _roles(table)
    policies = _templates(table, "policies", _POLICY, "the name of a policy, in small letters", roles)
    if not policies or "root" in policies:
        raise table.error(
            "policies", "`policies` are those of the token that a lease hangs on: one at least, not root."
        )
    if kind is Kind.TOKEN:
        _require_none(table, ("path", "method", "data"), "a class of tokens reads nothing; take it out.")
        leases = _templates(table, "leases", _PATH, "a path, such as `database/creds/shop`", roles)
        return Wanted(kind, policies, roles=roles, leases=leases, uses=table.whole("uses", 0, MAX_USES, 0))
    _require_none(table, ("leases", "uses"), 'this is for `kind = "token"`; take it out.')
    if not table.has("path"):
        raise table.error("path", "`path` says what is read, such as `database/creds/{role}`, and is missing.")
    (path,) = _checked(table, "path", (table.text("path"),), _PATH, "a path, such as `database/creds/{role}`", roles)
    method = Method(table.choice("method", tuple(Method), Method.READ))
    if method is Method.READ:
        _require_none(table, ("data",), 'what is read is sent nothing; write `method = "write"`, or take it out.')
    if kind is Kind.DATABASE and method is Method.WRITE:
        raise table.error("method", '`kind = "database"` reads; write `kind = "dynamic"` for another engine.')
    return Wanted(kind, policies, path, method, _data(table, roles), roles)


def _roles(table: Table) -> Mapping[Effect, str]:
    if not table.has("roles"):
        return MappingProxyType({})
    given, found = table.table("roles"), {}
    given.require_known(*Effect)
    for name in given.values:
        found[Effect(name)] = _matching(given, name, _NAME, "the name of a role, in letters, digits, `_`, `.` and `-`")
    if not found:
        raise table.error("roles", '`roles` is empty; write the role of each effect, `{ read = "shop-ro" }`.')
    return MappingProxyType(found)


def _data(table: Table, roles: Mapping[Effect, str]) -> Mapping[str, Json]:
    if not table.has("data"):
        return MappingProxyType({})
    given: dict[str, Any] = {}
    values = table.table("data")
    for name, value in values.values.items():
        if type(value) not in {str, int, bool}:
            raise values.error(name, f"`{name}` is a text, a whole number, or true or false.")
        if isinstance(value, str):
            _require_fields(values, name, value, roles)
        given[name] = value
    return MappingProxyType(given)


def _templates(
    table: Table, key: str, shape: re.Pattern[str], what: str, roles: Mapping[Effect, str]
) -> tuple[str, ...]:
    return _checked(table, key, table.texts(key), shape, what, roles)


def _checked(
    table: Table, key: str, given: tuple[str, ...], shape: re.Pattern[str], what: str, roles: Mapping[Effect, str]
) -> tuple[str, ...]:
    for each in given:
        needed = _require_fields(table, key, each, roles)
        tried = each
        for name in needed:
            tried = tried.replace(f"{{{name}}}", "x")
        if not shape.fullmatch(tried):
            raise table.error(key, f"`{each}` is not {what}.")
    return given


def _require_fields(table: Table, key: str, template: str, roles: Mapping[Effect, str]) -> frozenset[str]:
    needed = table.attempt(key, lambda: fields(template))
    if ROLE in needed and not roles:
        raise table.error(key, "`{role}` is filled in by `roles`, which is missing.")
    return needed


def _require_none(table: Table, keys: tuple[str, ...], sentence: str) -> None:
    for key in keys:
        if table.has(key):
            raise table.error(key, f"`{key}`: {sentence}")


def _matching(table: Table, key: str, shape: re.Pattern[str], what: str) -> str:
    value = table.text(key)
    if not shape.fullmatch(value):
        raise table.error(key, f"`{key}` is {what}.")
    return value


def _file(table: Table, key: str, context: Context) -> Path | None:
    return _required_file(table, key, context) if table.has(key) else None


def _required_file(table: Table, key: str, context: Context) -> Path:
    return context.folder / Path(table.text(key)).expanduser()
