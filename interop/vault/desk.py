"""A broker at work on the shop, as a decision point would have it, and what its administrators see."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.openbao import OpenBaoBroker
from forestall.adapter.credential.openbao_tokens import NAME
from forestall.core.effects import Effect
from forestall.core.label import WORST
from forestall.core.model import NOTHING, Action, Grant, Permit, Scope, Secret
from forestall.core.toml import parse_toml
from forestall.credentials.openbao import open_broker
from forestall.table import Table
from forestall.testing.broker import Bench
from interop.vault.shop import Shop

TIMEOUT_S = 4.0
"""Of one call of the broker."""

LIFE_MS = 600_000

SITE = """\
address = "{address}"
ca_file = "{ca}"
login = {{ method = "approle", role_id = "{role_id}", secret_id_file = "{secret_id}" }}
token_role = "forestall"
roles = {{ read = "shop-ro", write = "shop-rw" }}
policies = ["{{role}}"]
"""
DATABASE = SITE + 'kind = "database"\npath = "database/creds/{{role}}"\n'
TOKEN = SITE + 'kind = "token"\nleases = ["database/creds/{{role}}"]\n'

READ = frozenset({Effect.READ})
BOTH = frozenset({Effect.READ, Effect.WRITE})


def now() -> int:
    return time.time_ns() // 1_000_000


def opened(
    shop: Shop, owner: str, text: str = DATABASE, *, scope: Scope = Scope.ACTION, **others: Any
) -> OpenBaoBroker:
    """`others`: instead of what the shop says, by the name in `text`; and `now`."""
    words = {"address": shop.server.address, "ca": shop.ca, "role_id": shop.role_id, "secret_id": shop.secret_id}
    clock = others.pop("now", now)
    written = text.format(**{**words, **others})
    file = Path("/nowhere/credentials.toml")
    context = Context(owner, clock, secrets.token_bytes, TIMEOUT_S, file.parent, scope)
    return open_broker(Table.of_file(parse_toml(written, file), written, file), context)


@contextmanager
def bench_of(shop: Shop, text: str = DATABASE, **others: Any) -> Iterator[Bench]:
    owner = secrets.token_hex(4)
    broker = opened(shop, owner, text, **others)
    works = may_draw if text == TOKEN else may_select
    try:
        yield Bench(
            broker,
            owner,
            now,
            permit(),
            action(),
            grant(),
            works=lambda secret: works(shop, secret),
            alive=lambda: alive(shop),
            stop=shop.server.daemon.pause,
        )
    finally:
        shop.server.daemon.resume()
        broker.close()


def permit(effects: frozenset[Effect] = READ) -> Permit:
    return Permit("p" * 32, "t" * 32, "shop/read", "sha256:0", "sha256:1", effects, WORST, (), "", now() + LIFE_MS)


def grant(effects: frozenset[Effect] = BOTH, parameters: Mapping[str, str] = NOTHING) -> Grant:
    return Grant("t" * 32, "agent", "", "", ("shop/*",), effects, now() + LIFE_MS, parameters=parameters)


def action() -> Action:
    return Action("a" * 32, "t" * 32, "shop/read", "sha256:0", {}, b"{}", "sha256:1", b"", now(), None)


def connect(shop: Shop, secret: Secret) -> psycopg.Connection[tuple[Any, ...]]:
    url = shop.cluster.url(secret.fields["username"], secret.fields["password"], "shop")
    return psycopg.connect(url, autocommit=True, connect_timeout=10)


def may_select(shop: Shop, secret: Secret) -> bool:
    try:
        with connect(shop, secret) as session:
            return session.execute("SELECT what FROM orders WHERE id = 1").fetchall() == [("a chair",)]
    except psycopg.Error:
        return False


def may_draw(shop: Shop, secret: Secret) -> bool:
    return shop.server.status("GET", "database/creds/shop-ro", token=secret.fields["token"]) == 200


def roles(shop: Shop) -> set[str]:
    """Of the leases whose users the database has."""
    with shop.cluster.admin() as admin:
        found = admin.execute(r"SELECT rolname FROM pg_roles WHERE rolname LIKE 'token-forestall-%'").fetchall()
    return {name.removeprefix("token-").rpartition("-")[0] for (name,) in found}


def alive(shop: Shop) -> set[str]:
    named = {(each["meta"] or {}).get(NAME, "") for each in shop.server.tokens().values()}
    return (named - {""}) | roles(shop)
