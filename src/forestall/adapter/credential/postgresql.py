"""A role for each lease in a PostgreSQL database: made, granted exactly its rights, and dropped with its sessions.

The database's own functions do it (`postgresql.sql`), which an administrator installs: this login can call them, for
names that are its own, and nothing else. Each call is one transaction. What it asked for and was not answered may have
been done; revoking by name ends it.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.postgresql_password import Passwords, make_password
from forestall.adapter.credential.postgresql_rights import Rules, plan_rights
from forestall.adapter.credential.postgresql_server import Address, Server
from forestall.adapter.credential.postgresql_session import Lost, Refused, Session
from forestall.adapter.credential.postgresql_setup import identifier, literal
from forestall.core.ask import CannotDo
from forestall.core.model import Action, Grant, Lease, Permit, Secret
from forestall.core.reason import Reason
from forestall.port import Traits

_T = TypeVar("_T")

AUDIT_EVERY_MS = 60_000
"""How old the database's word may be that it lets nobody do what a lease must not."""
ROUNDS = 5
"""How often what a holder prepared is rolled back before it is given up, and tried again later."""

GONE = "42704"
"""SQLSTATE of what is not there: somebody else rolled it back."""

ISSUE = "SELECT forestall.issue($1, $2, $3::interval, $4::jsonb)"
RENEW = "SELECT forestall.renew($1, $2::interval)"
LOCK = "SELECT locked, array_to_json(prepared) FROM forestall.lock($1)"
FINISH = "SELECT array_to_json(forestall.finish($1, $2::interval))"
LIST = "SELECT forestall.list()"
AUDIT = "SELECT forestall.audit()"

_ADVICE = {
    "FS004": "; GRANT it to forestall_owner WITH GRANT OPTION, or allow less in credentials.toml",
    "FS006": "; see `lifetime_s`, and --longest-s of `forestall credentials postgresql-setup`",
    "42883": "; run what `forestall credentials postgresql-setup` prints in that database",
    "3F000": "; run what `forestall credentials postgresql-setup` prints in that database",
    "42501": "; run what `forestall credentials postgresql-setup` prints in that database",
    "2BP01": "; the role is locked and its sessions are gone, but something was granted to it by hand: revoke that",
}
"""What to do about what the server says (SQLSTATE)."""

TRAITS = Traits(
    revocable=True,
    by_name=True,
    renewable=True,
    fields=frozenset({"user", "password", "host", "port", "database", "url"}),
)


@dataclass
class PostgresqlBroker:
    rules: Rules
    context: Context
    server: Server
    holder: Mapping[str, str]
    """What the holder of a lease connects with, besides user, password and database: libpq's parameters."""
    passwords: Passwords
    traits: Traits = field(default=TRAITS, init=False)
    _audited_at: int = 0
    _guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @classmethod
    def at(cls, address: Address, rules: Rules, context: Context, holder: Mapping[str, str]) -> PostgresqlBroker:
        passwords = Passwords(lambda: make_password(context.random, rules.limits.scram_iterations))
        return cls(rules, context, Server(address, context.timeout_s), holder, passwords)

    def plan(self, permit: Permit, action: Action, grant: Grant) -> Mapping[str, Any]:
        return plan_rights(self.rules, permit, action, grant)

    def issue(self, lease: Lease) -> Secret:
        lives = self._lives(lease.expires_at)
        password = self.passwords.take()
        deadline = self.server.deadline()
        with _saying("no role was made"):
            self._require_sound(deadline)
            rights = json.dumps({**lease.rights})
            self.server.ask(ISSUE, (lease.name, password.verifier, lives, rights), deadline)
        self.passwords.prepare()
        return Secret(self._fields(lease.name, password.text), expires_at=lease.expires_at)

    def renew(self, lease: Lease, expires_at: int) -> int:
        with _saying("the role was not renewed"):
            self.server.ask(RENEW, (lease.name, self._lives(expires_at)), self.server.deadline())
        return expires_at

    def revoke(self, lease: Lease) -> None:
        deadline = self.server.deadline()
        with _saying(f"{lease.name} may be alive"):
            self._again(lambda: self._revoke(lease.name, deadline))

    def list_orphans(self, known: Collection[str]) -> Sequence[str]:
        deadline = self.server.deadline()
        with _saying("which roles there are is not known"):
            rows = self._again(lambda: self.server.ask(LIST, (), deadline))
        return [name for (name,) in rows if name is not None and name not in known]

    def close(self) -> None:
        self.passwords.close()
        self.server.close()

    def _revoke(self, name: str, deadline: float) -> None:
        with self.server.session(deadline) as session:
            for _ in range(ROUNDS):
                ((locked, prepared),) = session.ask(LOCK, (name,), deadline)
                _roll_back(session, name, prepared, deadline)
                if locked == "t":
                    break
            else:
                raise Refused("", "its holder keeps the role from being locked")
            for _ in range(ROUNDS):
                ((prepared,),) = session.ask(FINISH, (name, f"{self.context.timeout_s / 2} seconds"), deadline)
                if not _roll_back(session, name, prepared, deadline):
                    return
            raise Refused("", "what its holder prepared cannot be rolled back")

    def _require_sound(self, deadline: float) -> None:
        """The database lets nobody do what a lease must not. Raises Refused with what to run."""
        now = self.context.now()
        with self._guard:
            fresh = 0 <= now - self._audited_at < AUDIT_EVERY_MS
        if fresh:
            return
        findings = [found for (found,) in self.server.ask(AUDIT, (), deadline) if found]
        if findings:
            more = f" (and {len(findings) - 1} more; SELECT forestall.audit())" if len(findings) > 1 else ""
            raise Refused("", f"everybody in the database may do what a lease must not: run {findings[0]}{more}")
        with self._guard:
            self._audited_at = now

    def _again(self, ask: Callable[[], _T]) -> _T:
        """Once more on another session, where the answer to what may be done twice was lost."""
        try:
            return ask()
        except Lost:
            return ask()

    def _lives(self, expires_at: int) -> str:
        """From now on, since the server's clock may be another."""
        left_ms = expires_at - self.context.now()
        if left_ms <= 0:
            raise CannotDo(Reason.UNAVAILABLE, "the lease ran out before its role was made")
        return f"{left_ms} milliseconds"

    def _fields(self, user: str, password: str) -> dict[str, str]:
        database, holder = self.rules.database, dict(self.holder)
        host, port = holder.pop("host"), holder.pop("port")
        socket = host.startswith("/")
        more = {**({"host": host, "port": port} if socket else {}), **holder}
        bracketed = f"[{host}]" if ":" in host else host
        place = "" if socket else f"{bracketed}:{port}"
        query = f"?{urlencode(more, quote_via=quote)}" if more else ""
        return {
            "user": user,
            "password": password,
            "host": host,
            "port": port,
            "database": database,
            "url": f"postgresql://{user}:{password}@{place}/{quote(database, safe='')}{query}",
        }


@contextmanager
def _saying(what: str) -> Iterator[None]:
    """Makes what the server, or its silence, says into CannotDo: in words that hold no secret, and say what to do."""
    try:
        yield
    except Lost as error:
        why = str(error)
    except Refused as error:
        why = _shown(error)
    else:
        return
    raise CannotDo(Reason.UNAVAILABLE, f"PostgreSQL: {why}; {what}")


def _shown(error: Refused) -> str:
    """Its own sentence only where it is one of ours: others may quote values."""
    ours = error.state.startswith("FS") or not error.state
    return (str(error) if ours else f"the server refused it (SQLSTATE {error.state})") + _ADVICE.get(error.state, "")


def _roll_back(session: Session, role: str, prepared: str | None, deadline: float) -> bool:
    """What the holder of the role prepared, as that role. False where it is nothing."""
    ids = json.loads(prepared or "[]")
    if not ids:
        return False
    session.ask(f"SET ROLE {identifier(role)}", (), deadline)
    try:
        for each in ids:
            _forget(session, each, deadline)
    finally:  # a session that goes on as somebody else would be kept
        session.ask("RESET ROLE", (), deadline)
    return True


def _forget(session: Session, prepared: str, deadline: float) -> None:
    try:
        session.ask(f"ROLLBACK PREPARED {literal(prepared).strip()}", (), deadline)
    except Refused as error:
        if error.state != GONE:
            raise
