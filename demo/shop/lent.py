"""The credential that the shop's server is lent: what is set up for it, what lives, and what the ledger tells."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import guard
from demo.shop.database import DATABASE
from demo.world import World
from forestall.adapter.ledger import keys
from forestall.credentials import owner_of

Entry = Mapping[str, Any]

HERE = Path(__file__).resolve().parent
SECONDS = 30
LOGIN, LONGEST_S = "forestall", 600
"""Forestall's own, in the database, and the longest that it may let a role live there."""

ROWS = ("shop.tickets", "shop.orders")
"""Of which a role sees its customer's alone."""


def furnish(world: World) -> None:
    """Beside demo/guard.py: what Forestall needs in its directory for the shop, and in the database."""
    assert world.shop is not None
    for script in _scripts(world, furnish_home(world)):
        world.shop.cluster.run_script(script, DATABASE)


def furnish_home(world: World) -> str:
    """Policy, and `credentials.toml`. Answers the password of Forestall's own login."""
    shop, home = world.shop, world.forestall_home
    assert shop is not None
    shutil.copytree(HERE / "home", home, dirs_exist_ok=True)
    settings, password = home / "credentials.toml", secrets.token_urlsafe(24)
    settings.write_text(settings.read_text().replace("PORT", str(shop.cluster.port)))
    file = home / "shop.password"
    file.touch(0o600)
    file.write_text(password + "\n")
    return password


def _scripts(world: World, password: str) -> list[str]:
    """What the operator runs in the database, once."""
    pair = keys.load(world.forestall_home / "keys")
    owner = owner_of(pair.origin, pair.private.public_key().public_bytes_raw())
    setup = ("--owner", owner, "--login", LOGIN, "--database", DATABASE, "--longest-s", str(LONGEST_S))
    policies = [_run("credentials", "postgresql-policy", table, "customer", "customer") for table in ROWS]
    return [
        "REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;",
        _run("credentials", "postgresql-setup", *setup),
        f"ALTER ROLE {LOGIN} PASSWORD '{password}';",
        (HERE / "ceiling.sql").read_text(),
        *policies,
    ]


def roles(world: World) -> list[str]:
    """The database's own word on it."""
    assert world.shop is not None
    return [str(name) for (name,) in world.shop.ask("select rolname from pg_roles where rolname like 'forestall-%'")]


def shown(world: World) -> str:
    """What `forestall leases` prints."""
    return _ask(world, "leases").rstrip()


def alive(world: World) -> list[str]:
    """Names of the credentials that may be alive."""
    return [one["name"] for one in json.loads(_ask(world, "leases", "--json"))["leases"]]


def left(world: World) -> list[str]:
    """Those that are still alive once the task is over, and Forestall has had the time to see to it."""
    deadline = time.monotonic() + SECONDS
    while (names := alive(world)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return names


@dataclass(frozen=True, slots=True)
class Story:
    """What a reader of the ledger can tell of one credential."""

    name: str
    subject: str
    purpose: str
    """Of the task that it was for."""
    tool: str
    """What was permitted that brought it into being."""
    permit: str
    rights: Mapping[str, Any]
    seconds: float | None
    """From its record to that of its end; None where there is none."""
    why: str
    """It ended."""


def stories(world: World) -> list[Story]:
    """Of every credential in the ledger."""
    entries = [json.loads(line) for line in _ask(world, "log", "--json").splitlines()]
    return [_story(entry, entries) for entry in entries if entry["kind"] == "leased"]


def _story(leased: Entry, entries: Iterable[Entry]) -> Story:
    about = {entry["kind"]: entry for entry in entries if _is_about(entry, leased)}
    opened, permitted, revoked = about["opened"], about["permitted"], about.get("revoked")
    return Story(
        name=leased["id"],
        subject=opened["subject"]["id"],
        purpose=opened["purpose"],
        tool=permitted["tool"],
        permit=permitted["id"],
        rights=leased["rights"],
        seconds=(revoked["at"] - leased["at"]) / 1000 if revoked else None,
        why=revoked["why"] if revoked else "",
    )


def _is_about(entry: Entry, leased: Entry) -> bool:
    if entry["kind"] == "opened":
        return bool(entry["task"] == leased["task"])
    return bool(entry["id"] == (leased["permit"] if entry["kind"] == "permitted" else leased["id"]))


def _ask(world: World, *words: str) -> str:
    return _run(*words, "--home", str(world.forestall_home))


def _run(*words: str) -> str:
    command = [guard.program("forestall"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout
