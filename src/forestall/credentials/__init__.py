"""`credentials.toml`: the classes of credentials that policy can name, and the brokers that make them. Part of `wire`.

Each backend has a module of its name here, whose `open_broker(table, context)` reads what is the backend's own, asks
nobody anything, and returns the broker. Another package adds one as an entry point of the group `forestall.brokers`.

Every error is a `SetupError` of one sentence that names the file, the line where there is one, and what to write.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

from forestall.adapter.credential.context import Context
from forestall.core.errors import InvalidInput, SetupError, cure
from forestall.core.flow import PERMIT_LIFETIME_MS
from forestall.core.model import Risk, Scope
from forestall.core.place import Place, Where, fields_of
from forestall.core.toml import parse_toml
from forestall.credentials.words import Words, digest_of
from forestall.home import Home
from forestall.port import Broker
from forestall.table import Table

MAX_FILE = 1024 * 1024
"""Bytes. No settings written by a person come near it."""

MAX_LIFETIME_S = 86_400
LIFETIME_S = 300
"""Unless a class says otherwise: long enough for a call, short enough to be lost."""

UNENDING_MS = PERMIT_LIFETIME_MS
"""How long a credential that nobody can revoke may outlive its issue where it changes anything: as long as a permit may
wait to start.
"""

BACKENDS = ("aws", "github", "kubernetes", "oauth", "openbao", "postgresql", "static")
GROUP = "forestall.brokers"
"""Entry points of other packages' backends."""

COMMON = ("backend", "scope", "lifetime_s", "place", "server", "revoke_at", "reads_only")
"""Keys of a class that mean the same with every backend."""

EXPOSED = frozenset({Where.ENVIRONMENT, Where.COMMAND})
"""Where the user that the server runs as can read it, which is the agent's own unless somebody took care."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_PLACE_NAMES = {
    Where.HEADER: (re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}"), "a header's name, such as `Authorization`"),
    Where.ARGUMENT: (re.compile(r"[^\x00-\x1f]{1,256}"), "an argument of the tool"),
    Where.ENVIRONMENT: (re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}"), "a variable, such as `DATABASE_URL`"),
    Where.DESCRIPTOR: (re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}"), "the variable that holds the descriptor's number"),
    Where.COMMAND: (re.compile(r"[^\x00-\x1f]{1,256}"), "the word of the command line that is replaced"),
}


@dataclass(frozen=True, slots=True)
class CredentialClass:
    """What policy's `@credential` names."""

    name: str
    backend: str
    scope: Scope
    lifetime_ms: int
    """The most that one lives, or goes on living at a renewal."""
    broker: Broker = field(repr=False)
    place: Place | None = None
    server: str = ""
    """Whom one that is there from the start is for; empty where it is put into each call."""
    revoke_at: Risk | None = None
    """The risk of its task from which on it is ended, and none is made."""
    reads_only: bool = False
    """Only for calls that change nothing."""
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    """As they are written."""
    digest: str = ""
    """Of what they say (`credentials.words`): whoever has the same has the same broker."""

    @property
    def exposed(self) -> bool:
        """Can the agent's own user read it where it is put?"""
        return self.place is not None and self.place.where in EXPOSED


Credentials = Mapping[str, CredentialClass]
"""By name."""

NO_CREDENTIALS: Credentials = MappingProxyType({})


def owner_of(origin: str, key: bytes) -> str:
    """Which Forestall this is: 8 hex digits that follow from its ledger's origin and public key."""
    return hashlib.sha256(b"forestall credentials\0" + origin.encode() + b"\0" + key).hexdigest()[:8]


def load_credentials(home: Home, context: Context, held: Credentials = NO_CREDENTIALS) -> Credentials:
    """The classes of `credentials.toml`; none where there is no such file. One that is `held`, and is written as it
    was, keeps its broker.

    Raises:
        SetupError: the file cannot be read, or something in it is unknown, missing, or cannot be.
    """
    file = home.credentials
    text = _read(file)
    if text is None:
        return NO_CREDENTIALS
    top = Table.of_file(parse_toml(text, file), text, file)
    top.require_known("credentials")
    if not top.has("credentials"):
        return NO_CREDENTIALS
    under = top.table("credentials")
    found: dict[str, CredentialClass] = {}
    with ExitStack() as undo:
        for name in under.values:
            found[name] = made = _class(under, name, context, held.get(name))
            if made is not held.get(name):
                undo.callback(made.broker.close)
        undo.pop_all()
    return MappingProxyType(found)


def reopen(home: Home, context: Context, kept: Words, digests: Iterable[str]) -> tuple[CredentialClass, ...]:
    """The classes as they were when they made what may be alive. One that was not kept, or cannot be opened any more,
    is not among them.
    """
    found = []
    for digest in digests:
        if (words := kept.find(digest)) is not None:
            name, settings = words
            top = Table.of_file({"credentials": {name: settings}}, "", home.credentials)
            with suppress(SetupError):
                found.append(replace(_class(top.table("credentials"), name, context, None), digest=digest))
    return tuple(found)


def close_all(classes: Iterable[CredentialClass]) -> None:
    """Every broker, also where closing one fails."""
    with ExitStack() as closing:
        for one in classes:
            closing.callback(one.broker.close)


def _read(file: Path) -> str | None:
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SetupError(f"{file} cannot be read: {cure(error)}.") from None
    if len(data) > MAX_FILE:
        raise SetupError(f"{file} is larger than {MAX_FILE} bytes; take out what is not needed.")
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise SetupError(f"{file} is not UTF-8; save it as UTF-8.") from None


def _class(under: Table, name: str, context: Context, held: CredentialClass | None) -> CredentialClass:
    if not _NAME.fullmatch(name):
        raise under.error(name, f"`{name:.80}` is no name of a class: letters, digits, `_` and `-`, 64 at most.")
    table = under.table(name)
    scope = Scope(table.choice("scope", tuple(Scope), Scope.ACTION))
    place = _place(table.table("place")) if table.has("place") else None
    backend = table.text("backend", "")
    level = table.choice("revoke_at", (Risk.MEDIUM, Risk.HIGH), Risk.HIGH) if table.has("revoke_at") else None
    lifetime_ms = table.whole("lifetime_s", 1, MAX_LIFETIME_S, LIFETIME_S) * 1000
    server, reads_only = _require_fitting(table, scope, place), table.flag("reads_only")
    settings = dict(table.values)
    said = {"scope": scope, "lifetime_s": lifetime_ms // 1000, "server": server, "reads_only": reads_only}
    digest = digest_of(name, {**settings, **said})
    if held is not None and held.digest == digest:
        return held
    opened = _opener(table, backend)(_own(table), replace(context, scope=scope, place=place))
    made = CredentialClass(
        name,
        backend,
        scope,
        lifetime_ms,
        opened,
        place,
        server,
        None if level is None else Risk(level),
        reads_only,
        settings,
        digest,
    )
    try:
        _require_ending(table, made)
        _require_filled(table, made)
    except SetupError:
        opened.close()
        raise
    return made


def _own(table: Table) -> Table:
    """What is the backend's own."""
    return replace(table, values={key: value for key, value in table.values.items() if key not in COMMON})


def _place(table: Table) -> Place:
    table.require_known("where", "name", "template", needed=("where", "name", "template"))
    where = Where(table.choice("where", tuple(Where), None))
    name, template = table.text("name"), table.text("template")
    shape, what = _PLACE_NAMES[where]
    if not shape.fullmatch(name):
        raise table.error("name", f"`name` is {what}.")
    try:
        fields = fields_of(template)
    except InvalidInput as error:
        raise table.error("template", str(error)) from None
    if not fields:
        raise table.error("template", "`template` has no field, so nothing would be put there; write one, `{token}`.")
    return Place(where, name, template)


def _require_fitting(table: Table, scope: Scope, place: Place | None) -> str:
    """Whom it is for, which is said of what is there from the start and of nothing else."""
    if place is None or not place.at_start:
        if place is not None and place.where is Where.HEADER and scope is Scope.TASK and table.has("server"):
            return table.text("server")  # of every message to it, the first included
        if table.has("server"):
            raise table.error(
                "server", "`server` is for a credential that a server has from its start; a call has its own server."
            )
        return ""
    if scope is not Scope.TASK:
        sentence = f'what is put into the {place.where} is there from the server\'s start; write `scope = "task"`.'
        raise table.error("scope" if table.has("scope") else "place", sentence)
    if not table.has("server"):
        raise table.error("place", f"whose {place.where} is it? Name the server: `server = ...`.")
    return table.text("server")


def _require_ending(table: Table, made: CredentialClass) -> None:
    """What nobody can revoke is not given to what changes something, unless it is over as soon as a permit would be."""
    traits = made.broker.traits
    if traits.revocable or traits.standing or made.reads_only:
        return
    lives_ms = max(made.lifetime_ms, traits.shortest_ms)
    if lives_ms > UNENDING_MS:
        raise table.error(
            "lifetime_s" if table.has("lifetime_s") else "backend",
            f"the backend cannot revoke it, and it would live {lives_ms // 1000} s: `reads_only = true` keeps it from "
            f"calls that change anything; else `lifetime_s` is at most {UNENDING_MS // 1000}, where it makes such.",
        )


def _require_filled(table: Table, made: CredentialClass) -> None:
    """What the template names is what the backend gives out, as far as it says."""
    known = made.broker.traits.fields
    if made.place is None or known is None:
        return
    for name in sorted(fields_of(made.place.template) - known):
        has = ", ".join(f"`{{{each}}}`" for each in sorted(known))
        raise table.table("place").error("template", f"what this backend makes has no `{{{name}}}`; it has {has}.")


def _opener(table: Table, backend: str) -> Callable[[Table, Context], Broker]:
    if backend in BACKENDS:
        return cast("Callable[[Table, Context], Broker]", import_module(f"{__name__}.{backend}").open_broker)
    others = _others()
    if backend in others:
        return cast("Callable[[Table, Context], Broker]", others[backend].load())
    known = sorted({*BACKENDS, *others})
    near = get_close_matches(backend, known, 1)
    hint = f"did you mean `{near[0]}`?" if near else f"known are {', '.join(known)}."
    unknown = f"unknown backend `{backend:.80}`" if backend else "`backend` says what makes it, and is missing"
    raise table.error("backend", f"{unknown}; {hint}")


def _others() -> dict[str, EntryPoint]:
    return {one.name: one for one in entry_points(group=GROUP)}
