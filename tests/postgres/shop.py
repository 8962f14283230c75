"""A database that somebody works with, and a Forestall that makes roles in it: what the tests and the measurements use.

Of its tables, leases may see and change some of `shop.orders`, by customer; `shop.customers` and `shop.salaries` are
there to be reached for.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.postgresql import PostgresqlBroker
from forestall.adapter.credential.postgresql_setup import Setup, policy_script, setup_script
from forestall.core.canonical import canonical
from forestall.core.effects import Effect
from forestall.core.label import WORST
from forestall.core.model import Action, Grant, Lease, Permit, Scope, Secret
from forestall.core.toml import parse_toml
from forestall.credentials.postgresql import open_broker
from forestall.table import Table
from forestall.testing.postgresql import Cluster

OWNER = "0badf00d"
LOGIN = "forestall"
OTHER_OWNER, OTHER_LOGIN = "deadbeef", "forestall2"
PASSWORD = "broker's own password"
APP_PASSWORD = "the application's password"
LONGEST_S = 3600
LIFETIME_MS = 60_000
TIMEOUT_S = 10.0
WAIT_S = 60
"""Seconds after which what has to happen has failed to; nothing waits for it to pass."""

SCHEMA = """\
CREATE ROLE app LOGIN PASSWORD '{app}';
GRANT CONNECT ON DATABASE shop TO app;
CREATE SCHEMA shop;
CREATE TABLE shop.customers (id int PRIMARY KEY, name text, card text);
CREATE TABLE shop.orders (
  id serial PRIMARY KEY, customer_id int NOT NULL, total int NOT NULL, status text NOT NULL DEFAULT 'new', notes text
);
CREATE TABLE shop.salaries (who text, pay int);
CREATE VIEW shop.totals AS SELECT customer_id, sum(total) AS total FROM shop.orders GROUP BY customer_id;
INSERT INTO shop.customers VALUES (1, 'ann', '4111'), (2, 'bob', '4222');
INSERT INTO shop.orders (customer_id, total, notes) VALUES (1, 10, 'mine'), (1, 20, 'mine'), (2, 999, 'not mine');
INSERT INTO shop.salaries VALUES ('ann', 1000);
GRANT USAGE ON SCHEMA shop TO app;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO app;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA shop TO app;
"""

CEILING = """\
GRANT USAGE ON SCHEMA shop TO forestall_owner WITH GRANT OPTION;
GRANT SELECT (id, customer_id, total, status), INSERT (customer_id, total), UPDATE (status), DELETE ON shop.orders
  TO forestall_owner WITH GRANT OPTION;
GRANT USAGE ON SEQUENCE shop.orders_id_seq TO forestall_owner WITH GRANT OPTION;
"""

SETTINGS = """\
[credentials.orders]
dsn = "host=127.0.0.1 port={port} user={login}"
database = "shop"
password_file = "{password}"
{statement}
{limits}

[[credentials.orders.allow]]
table = "shop.orders"
operations = ["select"]
columns = ["id", "customer_id", "total", "status"]
rows = {{ customer_id = "customer" }}

[[credentials.orders.allow]]
table = "shop.orders"
operations = ["insert"]
columns = ["customer_id", "total"]

[[credentials.orders.allow]]
table = "shop.orders"
operations = ["update"]
columns = ["status"]

[[credentials.orders.allow]]
table = "shop.orders"
operations = ["delete"]
"""

SETTLED = f"""\
DO $$ BEGIN WHILE EXISTS (SELECT FROM pg_stat_activity WHERE usename IN ('{LOGIN}', '{OTHER_LOGIN}')) LOOP
PERFORM pg_sleep(0.001), pg_stat_clear_snapshot();
END LOOP; END $$
"""

EFFECTS = frozenset({Effect.READ, Effect.WRITE, Effect.DESTRUCTIVE})


@dataclass
class Shop:
    cluster: Cluster
    folder: Path

    def fill(self) -> None:
        """Everything, in a cluster that has nothing yet."""
        with self.cluster.admin() as admin:
            admin.execute("CREATE DATABASE shop")
            admin.execute("REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC")
        self.cluster.run_script(SCHEMA.format(app=APP_PASSWORD.replace("'", "''")), "shop")
        for owner, login in ((OWNER, LOGIN), (OTHER_OWNER, OTHER_LOGIN)):
            self.cluster.run_script(setup_script(Setup(owner, login, "shop", LONGEST_S)), "shop")
            self.cluster.run_script(f"ALTER ROLE {login} PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'", "shop")
        self.cluster.run_script(CEILING + policy_script("shop.orders", "customer_id", "customer"), "shop")
        self.password_file.write_text(PASSWORD + "\n")
        self.password_file.chmod(0o600)

    @property
    def password_file(self) -> Path:
        return self.folder / "password"

    def admin(self) -> psycopg.Connection[tuple[Any, ...]]:
        return self.cluster.admin("shop")

    def app(self) -> psycopg.Connection[tuple[Any, ...]]:
        """The application, which has nothing to do with Forestall."""
        url = self.cluster.url("app", APP_PASSWORD.replace("'", "%27").replace(" ", "%20"), "shop")
        return psycopg.connect(url, autocommit=True)

    def app_works(self) -> bool:
        with self.app() as app:
            return app.execute("SELECT count(*) FROM shop.orders WHERE notes IS NOT NULL").fetchone() == (3,)

    def broker(
        self,
        *,
        port: int | None = None,
        login: str = LOGIN,
        owner: str = OWNER,
        scope: Scope = Scope.TASK,
        statement: str = "",
        limits: str = "",
        timeout_s: float = TIMEOUT_S,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> PostgresqlBroker:
        text = SETTINGS.format(
            port=port or self.cluster.port,
            login=login,
            password=self.password_file,
            statement=f'statement = "{statement}"' if statement else "",
            limits=f"limits = {{ {limits} }}" if limits else "",
        )
        file = self.folder / "credentials.toml"
        table = Table.of_file(parse_toml(text, file), text, file).table("credentials").table("orders")
        made = open_broker(table, Context(owner, now, os.urandom, timeout_s, self.folder, scope))
        assert isinstance(made, PostgresqlBroker)
        return made

    def roles(self) -> set[str]:
        """Of leases, whosever they are."""
        with self.admin() as admin:
            return {name for (name,) in admin.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'forestall-%'")}

    def clear(self) -> None:
        """As docs/credentials/postgresql.md tells an administrator who has no Forestall any more."""
        logins = {OWNER: LOGIN, OTHER_OWNER: OTHER_LOGIN}
        with self.admin() as admin:
            for role in self.roles():
                admin.execute(f"SET SESSION AUTHORIZATION {logins[role.split('-')[1]]}")
                admin.execute("SELECT forestall.lock(%s)", (role,))
                admin.execute("SELECT forestall.finish(%s, '5 s')", (role,))
                admin.execute("RESET SESSION AUTHORIZATION")

    def settle(self) -> None:
        """Wait until the server has carried out what Forestall asked it, also where whoever asked is gone."""
        with self.admin() as admin:
            admin.execute(f"SET statement_timeout = '{WAIT_S} s'")
            admin.execute(SETTLED)

    def sessions(self, role: str) -> int:
        """That the server has of this role."""
        with self.admin() as admin:
            found = admin.execute("SELECT count(*) FROM pg_stat_activity WHERE usename = %s", (role,)).fetchone()
            assert found is not None
            return int(found[0])

    def connect(self, secret: Secret, **more: Any) -> psycopg.Connection[tuple[Any, ...]]:
        """As the holder of a lease does."""
        return psycopg.connect(secret.fields["url"], autocommit=True, connect_timeout=10, **more)

    def lets_in(self, secret: Secret) -> bool:
        try:
            with self.connect(secret) as session:
                return session.execute("SELECT min(total) FROM shop.orders").fetchone() == (10,)
        except psycopg.OperationalError:
            return False


def grant(effects: frozenset[Effect] = EFFECTS, parameters: Mapping[str, str] | None = None) -> Grant:
    return Grant(
        task="t-1",
        holder="agent",
        purpose="orders",
        mandate="orders",
        tools=("shop/*",),
        effects=effects,
        expires_at=2**53,
        parameters={"customer": "1"} if parameters is None else parameters,
    )


def permit(effects: frozenset[Effect] = EFFECTS) -> Permit:
    return Permit("p-1", "t-1", "shop/query", "sha256:x", "sha256:y", effects, WORST, (), "sha256:z", 2**53)


def action(**arguments: Any) -> Action:
    made = canonical(arguments)
    digest = f"sha256:{hashlib.sha256(made).hexdigest()}"
    return Action("a-1", "t-1", "shop/query", "sha256:x", arguments, made, digest, bytes(16), 0, None)


def lease(broker: PostgresqlBroker, name: str, **changes: Any) -> Lease:
    """Planned and not issued, for all that the class allows."""
    made = Lease(
        name=f"forestall-{broker.context.owner}-{name}",
        credential="orders",
        backend="postgresql",
        task="t-1",
        permit="p-1",
        scope=Scope.TASK,
        rights=broker.plan(permit(), action(sql="SELECT total FROM shop.orders"), grant()),
        expires_at=broker.context.now() + LIFETIME_MS,
    )
    return replace(made, **changes)


def issued(broker: PostgresqlBroker, name: str, **changes: Any) -> Lease:
    made = lease(broker, name, **changes)
    return replace(made, secret=broker.issue(made))


@contextmanager
def open_shop(folder: Path, *, sync: bool = False) -> Iterator[Shop]:
    """On a cluster of its own."""
    with Cluster.made(sync=sync) as cluster:
        shop = Shop(cluster, folder)
        shop.fill()
        yield shop
