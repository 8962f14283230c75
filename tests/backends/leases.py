"""Settings, permits, actions and grants, as tests of brokers want them."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from forestall.adapter.credential.context import Context
from forestall.clock import Clock
from forestall.core.canonical import canonical, digest
from forestall.core.effects import Effect
from forestall.core.label import WORST
from forestall.core.model import Action, Grant, Lease, Permit, Scope
from forestall.core.toml import parse_toml
from forestall.table import Table

OWNER = "0123abcd"
EVERYTHING = frozenset(Effect)
READ = frozenset({Effect.READ})


def context(folder: Path, *, scope: Scope = Scope.ACTION, timeout_s: float = 30.0, now: Any = None) -> Context:
    return Context(OWNER, now or Clock(), secrets.token_bytes, timeout_s, folder, scope)


def table(folder: Path, text: str) -> Table:
    """The one class `under-test` of a file that holds this."""
    file = folder / "credentials.toml"
    whole = f"[credentials.under-test]\n{text}"
    file.write_text(whole)
    return Table.of_file(parse_toml(whole, file), whole, file).table("credentials").table("under-test")


def permit(effects: frozenset[Effect]) -> Permit:
    return Permit(
        id="00ff" * 8,
        task="task",
        tool="server/tool",
        pin="sha256:" + 64 * "0",
        digest="sha256:" + 64 * "0",
        effects=effects,
        output=WORST,
        policies=("policy",),
        policy_digest="sha256:" + 64 * "0",
        expires_at=2**52,
    )


def action(**arguments: Any) -> Action:
    return Action(
        id="00ff" * 8,
        task="task",
        tool="server/tool",
        pin="sha256:" + 64 * "0",
        arguments=MappingProxyType(arguments),
        canonical=canonical(arguments),
        digest=digest(arguments),
        salt=16 * b"\0",
        at=0,
        proof=None,
    )


def grant(effects: frozenset[Effect] = EVERYTHING, parameters: Mapping[str, str] = MappingProxyType({})) -> Grant:
    return Grant(
        task="task",
        holder="agent",
        purpose="a test",
        mandate="test",
        tools=("*",),
        effects=effects,
        expires_at=2**52,
        parameters=parameters,
    )


def lease(rights: Mapping[str, Any], *, number: int = 1, expires_at: int = 0) -> Lease:
    return Lease(
        name=f"forestall-{OWNER}-{number:032x}",
        credential="under-test",
        backend="under-test",
        task="task",
        permit="00ff" * 8,
        scope=Scope.ACTION,
        rights=rights,
        expires_at=expires_at or Clock()() + 60_000,
    )
