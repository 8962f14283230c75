"""What the holder of a lease tries to have more, to stay longer, and to be somebody else; the database keeps it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from forestall.core.ask import CannotDo
from forestall.core.model import Lease
from forestall.testing.broker import secret_of
from tests.postgres.shop import LIFETIME_MS, Shop, grant, issued, lease, permit
from tests.postgres.shop import action as asked

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgres")]

Session = psycopg.Connection[tuple[Any, ...]]


@pytest.fixture
def held(shop: Shop) -> Iterator[Lease]:
    broker = shop.broker()
    made = issued(broker, "held")
    try:
        yield made
    finally:
        broker.revoke(made)
        broker.close()


@pytest.fixture
def holder(shop: Shop, held: Lease) -> Iterator[Session]:
    session = shop.connect(secret_of(held))
    yield session
    session.close()


def test_what_it_was_made_for_works(holder: Session) -> None:
    assert holder.execute("SELECT id, total FROM shop.orders ORDER BY id").fetchall() == [(1, 10), (2, 20)]
    with holder.transaction(force_rollback=True):
        holder.execute("INSERT INTO shop.orders (customer_id, total) VALUES (1, 7)")
        assert holder.execute("UPDATE shop.orders SET status = 'paid' WHERE total = 7").rowcount == 1
        assert holder.execute("DELETE FROM shop.orders WHERE total = 7").rowcount == 1


# -- rows of others


def test_a_value_that_reads_a_row_by_a_cheap_function_sees_no_row_of_others(holder: Session) -> None:
    """A function that is cheap runs before other conditions, but not before the policy's."""
    with pytest.raises(psycopg.errors.DivisionByZero):
        holder.execute("SELECT 1 FROM shop.orders WHERE 1 / (total - 10) > 0")
    holder.execute("SELECT 1 FROM shop.orders WHERE 1 / (total - 999) > 0")


def test_a_parameter_cannot_be_asked_for_another(holder: Session) -> None:
    assert holder.execute("SELECT forestall.parameter('customer'), forestall.parameter('x')").fetchone() == ("1", None)
    holder.execute("SET search_path = pg_temp, public")
    assert holder.execute("SELECT forestall.parameter('customer')").fetchone() == ("1",)


def test_a_parameter_is_a_value_and_nothing_else(shop: Shop) -> None:
    broker = shop.broker()
    for number, value in enumerate(
        ("2' OR '1'='1", "1 OR 1=1", "1); DROP TABLE shop.orders; --", "", "\\", "null", "二")
    ):
        rights = broker.plan(permit(), asked(), grant(parameters={"customer": value}))
        made = issued(broker, f"value-{number}", rights=rights)
        with shop.connect(secret_of(made)) as session, pytest.raises(psycopg.errors.InvalidTextRepresentation):
            session.execute("SELECT total FROM shop.orders")
        broker.revoke(made)
    broker.close()


def test_the_role_of_a_lease_put_on_by_somebody_else_sees_no_rows(shop: Shop, held: Lease) -> None:
    with shop.admin() as admin:
        admin.execute(f'SET ROLE "{held.name}"')
        assert admin.execute("SELECT total FROM shop.orders").fetchall() == []


# -- other sessions, and the server's


def test_it_sees_and_stops_nobody_else(shop: Shop, holder: Session) -> None:
    with shop.app() as app:
        app.execute("SELECT 'what the application does'")
        pid = app.info.backend_pid
        queries = holder.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchall()
        assert queries == [("<insufficient privilege>",)]
        for function in ("pg_cancel_backend", "pg_terminate_backend"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                holder.execute(f"SELECT {function}(%s)", (pid,))
        assert app.execute("SELECT 1").fetchone() == (1,)


def test_it_connects_to_no_other_database_and_not_as_replica(shop: Shop, held: Lease) -> None:
    fields = secret_of(held).fields
    for database in ("postgres", "template1"):
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(shop.cluster.url(fields["user"], fields["password"], database), connect_timeout=10)
    with pytest.raises(psycopg.OperationalError):
        shop.connect(secret_of(held), replication="database")


def test_it_opens_as_many_sessions_as_it_was_given(shop: Shop, held: Lease) -> None:
    with ExitStack() as open_ones:
        for _ in range(4):
            open_ones.enter_context(shop.connect(secret_of(held)))
        with pytest.raises(psycopg.OperationalError, match="too many connections"):
            shop.connect(secret_of(held))
        assert shop.app_works()


def test_it_has_temporary_files_up_to_its_limit(shop: Shop) -> None:
    broker = shop.broker(limits="temporary_mb = 1")
    made = issued(broker, "full")
    with shop.connect(secret_of(made)) as session:
        session.execute("SET work_mem = '64kB'")
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
            session.execute("SELECT count(*) FROM (SELECT g FROM generate_series(1, 300000) g ORDER BY md5(g::text)) x")
    broker.revoke(made)
    broker.close()


def test_its_timeouts_are_there_and_are_no_limits(holder: Session) -> None:
    """What docs/credentials/postgresql.md says: the holder can raise them; its end is what is kept."""
    assert holder.execute("SHOW statement_timeout").fetchone() == ("30s",)
    assert holder.execute("SHOW idle_in_transaction_session_timeout").fetchone() == ("10s",)
    holder.execute("SET statement_timeout = 0")


# -- its end


def end(shop: Shop, made: Lease) -> None:
    broker = shop.broker()
    broker.revoke(replace(made, secret=None))
    broker.close()


def assert_ended(shop: Shop, made: Lease, *sessions: Session) -> None:
    for session in sessions:
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
    assert shop.sessions(made.name) == 0
    assert made.name not in shop.roles()
    with pytest.raises(psycopg.OperationalError):
        shop.connect(secret_of(made))
    with shop.admin() as admin:
        assert admin.execute("SELECT count(*) FROM forestall.lease WHERE name = %s", (made.name,)).fetchone() == (0,)
        assert admin.execute("SELECT count(*) FROM pg_prepared_xacts").fetchone() == (0,)


def test_a_password_of_its_own_changes_nothing(shop: Shop, held: Lease, holder: Session) -> None:
    holder.execute("ALTER ROLE CURRENT_USER PASSWORD 'mine'")
    with shop.admin() as admin:
        row = admin.execute("SELECT rolvaliduntil < now() + '61 s' FROM pg_roles WHERE rolname = %s", (held.name,))
        assert row.fetchone() == (True,)
    end(shop, held)
    assert_ended(shop, held, holder)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(shop.cluster.url(held.name, "mine", "shop"), connect_timeout=10)


BUSY: dict[str, Callable[[Session], object]] = {
    "idle": lambda s: s.execute("SELECT 1"),
    "in a transaction with locks": lambda s: s.execute("BEGIN; UPDATE shop.orders SET status = 'x'; LOCK shop.orders"),
    "its own row locked": lambda s: s.execute("BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'x'"),
    "default privileges": lambda s: s.execute("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC"),
    "default privileges, not committed": lambda s: s.execute(
        "BEGIN; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC"
    ),
    "settings of its own": lambda s: s.execute("ALTER ROLE CURRENT_USER SET work_mem = '1GB'"),
    "a held cursor": lambda s: s.execute("DECLARE c CURSOR WITH HOLD FOR SELECT total FROM shop.orders"),
    "advisory locks": lambda s: s.execute("SELECT pg_advisory_lock(g) FROM generate_series(1, 100) g"),
    "listening": lambda s: s.execute("LISTEN x; NOTIFY x"),
    "prepared": lambda s: s.execute("BEGIN; UPDATE shop.orders SET status = 'x'; PREPARE TRANSACTION 'it''s \\ mine'"),
    "prepared with its own row": lambda s: s.execute(
        "BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'x'; PREPARE TRANSACTION '\"; DROP TABLE shop.orders; --'"
    ),
    "prepared with default privileges": lambda s: s.execute(
        "BEGIN; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC; PREPARE TRANSACTION 'x'"
    ),
    "many rows that nobody reads": lambda s: s.pgconn.send_query(
        b"SELECT repeat('x', 10000) FROM generate_series(1, 1000000)"
    ),
    "asleep": lambda s: s.pgconn.send_query(b"SET statement_timeout = 0; SELECT pg_sleep(3600)"),
    "a loop": lambda s: s.pgconn.send_query(b"DO $$ BEGIN LOOP NULL; END LOOP; END $$"),
    "a loop that catches": lambda s: s.pgconn.send_query(
        b"DO $$ BEGIN LOOP BEGIN PERFORM pg_sleep(1); EXCEPTION WHEN query_canceled THEN NULL; END; END LOOP; END $$"
    ),
    "copying in": lambda s: s.pgconn.send_query(b"COPY shop.orders (customer_id, total) FROM STDIN"),
}


@pytest.mark.parametrize("what", BUSY)
def test_whatever_it_is_at_it_ends(what: str, shop: Shop, held: Lease, holder: Session) -> None:
    BUSY[what](holder)
    end(shop, held)
    assert_ended(shop, held, holder)


def test_many_sessions_end_together(shop: Shop, held: Lease) -> None:
    with ExitStack() as open_ones:
        sessions = [open_ones.enter_context(shop.connect(secret_of(held))) for _ in range(4)]
        for session in sessions:
            session.execute("BEGIN; SELECT total FROM shop.orders")
        end(shop, held)
        assert_ended(shop, held, *sessions)


BEGINNING = """\
SELECT count(*) FROM pg_locks l WHERE locktype = 'object' AND classid = 'pg_database'::regclass
  AND mode = 'RowExclusiveLock' AND NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = l.pid)
"""


def test_a_session_that_is_made_to_begin_slowly_ends_too(shop: Shop) -> None:
    """It was let in before the role was locked, and is in no list yet."""
    broker = shop.broker()
    made = issued(broker, "slowly")
    let_in: list[bool] = []

    def begin() -> None:
        with suppress(psycopg.OperationalError), shop.connect(secret_of(made), options="-c post_auth_delay=50") as late:
            late.execute("SELECT 1")
            let_in.append(True)

    thread = threading.Thread(target=begin)
    thread.start()
    with shop.admin() as admin:
        until = time.monotonic() + 30
        while admin.execute(BEGINNING).fetchone() == (0,) and time.monotonic() < until:
            continue
        assert shop.sessions(made.name) == 0
        broker.revoke(made)
        assert admin.execute(BEGINNING).fetchone() == (0,)
    assert made.name not in shop.roles()
    thread.join(60)
    assert let_in == []
    broker.close()


def race(shop: Shop, made: Lease, ready: threading.Barrier, over: threading.Event, opened: list[Session]) -> None:
    """Connects as fast as it can, and keeps the role's own row."""
    ready.wait(30)
    while not over.is_set():
        with suppress(psycopg.Error):
            opened.append(shop.connect(secret_of(made)))
            opened[-1].execute("BEGIN; ALTER ROLE CURRENT_USER PASSWORD 'mine'")


def test_sessions_that_race_with_its_end_lose(shop: Shop) -> None:
    broker = shop.broker()
    for number in range(5):
        made = issued(broker, f"raced-{number}")
        ready, over = threading.Barrier(5), threading.Event()
        opened: list[list[Session]] = [[] for _ in range(4)]
        threads = [threading.Thread(target=race, args=(shop, made, ready, over, each)) for each in opened]
        for thread in threads:
            thread.start()
        ready.wait(30)
        broker.revoke(made)
        left = shop.sessions(made.name)
        over.set()
        for thread in threads:
            thread.join(30)
        assert left == 0
        sessions = [session for each in opened for session in each]
        assert_ended(shop, made, *sessions)
        for session in sessions:
            session.close()
    broker.close()


NOW = 1_795_262_400_000
"""A clock that stands still: what is left is what is said, whatever the machine is busy with."""

AT_ONCE = "SELECT expires_at = rolvaliduntil FROM forestall.lease JOIN pg_roles ON name = rolname WHERE name = %s"
"""Its rows and its password end together."""


def test_it_ends_by_itself_for_new_sessions_and_for_rows(shop: Shop) -> None:
    """An open session goes on until somebody ends it; what row policies keep, it sees no more."""
    broker = shop.broker(now=lambda: NOW)
    made = issued(broker, "short")
    with shop.connect(secret_of(made)) as session, shop.admin() as admin:
        assert session.execute("SELECT count(*) FROM shop.orders").fetchone() == (2,)
        assert admin.execute(AT_ONCE, (made.name,)).fetchone() == (True,)
        broker.renew(made, NOW + 1)
        assert admin.execute(AT_ONCE, (made.name,)).fetchone() == (True,)
        admin.execute("SELECT pg_sleep_until(expires_at) FROM forestall.lease WHERE name = %s", (made.name,))
        assert session.execute("SELECT count(*) FROM shop.orders").fetchone() == (0,)
        with pytest.raises(psycopg.OperationalError):
            shop.connect(secret_of(made))
        with pytest.raises(CannotDo, match="no such lease any more"):
            broker.renew(made, NOW + LIFETIME_MS)
        broker.revoke(made)
    broker.close()


# -- Forestall's own login


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM shop.orders",
        "SELECT * FROM forestall.lease",
        "SELECT * FROM forestall.broker",
        "INSERT INTO forestall.accepted VALUES ('x')",
        "UPDATE forestall.broker SET longest = '10 years'",
        "CREATE ROLE friend",
        "ALTER ROLE app PASSWORD 'x'",
        "SET ROLE forestall_owner",
        "SET ROLE app",
        "GRANT app TO forestall",
        "SELECT forestall.strip('app'::regrole, 'app')",
        "SELECT forestall.allow('app', '{}')",
        "SELECT forestall.prepared_of('app')",
        "SELECT forestall.lock('app')",
        "SELECT forestall.finish('app', '1 s')",
        "SELECT forestall.lock('admin')",
        "SELECT forestall.lock('forestall-deadbeef-theirs')",
        "SELECT forestall.finish('forestall-deadbeef-theirs', '1 s')",
        "SELECT forestall.renew('forestall-deadbeef-theirs', '1 s')",
        "SELECT forestall.lock(NULL)",
        "SELECT forestall.lock('')",
        "SELECT forestall.lock('forestall-0badf00d-')",
        "SELECT forestall.lock(E'forestall-0badf00d-x\\n')",
        "SELECT forestall.lock('forestall-0badf00d-x\"; DROP ROLE app; --')",
        "SELECT forestall.lock('forestall-0badf00d-X')",
        "SELECT forestall.lock('forestall-0badf00d-" + "x" * 41 + "')",
        "COPY (SELECT 1) TO PROGRAM 'id'",
        "CREATE TABLE public.x (a int)",
        "CREATE TEMP TABLE x (a int)",
    ],
)
def test_forestall_itself_can_do_no_more_than_its_functions(shop: Shop, statement: str) -> None:
    with shop.admin() as admin:
        admin.execute("SET SESSION AUTHORIZATION forestall")
        with pytest.raises(psycopg.Error) as caught:
            admin.execute(statement)
        assert caught.value.sqlstate in {"42501", "22023", "FS002"}, caught.value.sqlstate


def on(table: str, operations: dict[str, Any], schema: str = "shop", **more: Any) -> dict[str, Any]:
    return {"schema": schema, "table": table, "operations": operations, **more}


NOT_GRANTED: dict[str, Any] = {
    "a table that nobody gave it": on("customers", {"select": True}),
    "a column that nobody gave it": on("orders", {"select": ["notes"]}),
    "a whole table of which it has columns": on("orders", {"select": True}),
    "part of it": on("orders", {"select": ["id", "notes"]}),
    "another operation": on("orders", {"update": ["total"]}),
    "truncate": on("orders", {"truncate": True}),
    "an operation that is SQL": on("orders", {"select ON shop.orders TO app; --": True}),
    "a column that is SQL": on("orders", {"select": ["id) ON shop.orders TO app; --"]}),
    "a table that is SQL": on('orders" TO app; --', {"select": True}),
    "a catalogue": on("pg_authid", {"select": True}, "pg_catalog"),
    "its own tables": on("lease", {"select": True}, "forestall"),
    "no operation": on("orders", {}),
    "no columns": on("orders", {"select": []}),
    "rows without a policy": on("orders", {"delete": True}, rows={"id": "customer"}),
}


@pytest.mark.parametrize("what", NOT_GRANTED)
def test_a_lease_is_granted_nothing_beyond_the_ceiling(what: str, shop: Shop) -> None:
    broker = shop.broker()
    planned = lease(broker, "beyond")
    rights = {**planned.rights, "tables": [NOT_GRANTED[what]]}
    with pytest.raises(CannotDo, match="no role was made"):
        broker.issue(replace(planned, rights=rights))
    assert shop.roles() == set()
    broker.close()


@pytest.mark.parametrize("name", ["x'; DROP ROLE app; --", 'x"', "X", "", "x" * 41, "x\n", "../x", "é"])
def test_a_name_that_tries_to_be_something_else_names_nothing(name: str, shop: Shop) -> None:
    broker = shop.broker()
    for ask in (lambda: broker.issue(lease(broker, name)), lambda: broker.revoke(lease(broker, name))):
        with pytest.raises(CannotDo, match="no name of a lease"):
            ask()
    broker.close()


def test_a_lease_lives_no_longer_than_the_administrator_said(shop: Shop) -> None:
    broker = shop.broker()
    too_long = broker.context.now() + 4_000_000
    with pytest.raises(CannotDo, match="--longest-s"):
        broker.issue(lease(broker, "long", expires_at=too_long))
    made = issued(broker, "long")
    with pytest.raises(CannotDo, match="--longest-s"):
        broker.renew(made, too_long)
    broker.revoke(made)
    broker.close()


def test_an_open_door_keeps_roles_from_being_made_until_an_administrator_lives_with_it(shop: Shop) -> None:
    broker = shop.broker()
    with shop.admin() as admin:
        admin.execute(
            "CREATE FUNCTION shop.reset() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM shop.orders'"
        )
        with pytest.raises(CannotDo, match=r"run REVOKE EXECUTE ON FUNCTION shop.reset\(\) FROM PUBLIC"):
            issued(broker, "door")
        admin.execute("INSERT INTO forestall.accepted SELECT forestall.audit()")
        broker.revoke(issued(broker, "door"))
        admin.execute("DROP FUNCTION shop.reset(); DELETE FROM forestall.accepted")
    broker.close()


def test_a_secret_stands_nowhere_in_the_servers_log(shop: Shop) -> None:
    """Which logs every statement, with its parameters."""
    broker = shop.broker()
    made = issued(broker, "logged")
    with shop.connect(secret_of(made)) as session:
        session.execute("SELECT 1")
    broker.revoke(made)
    broker.close()
    log = shop.cluster.log.read_text()
    assert made.name in log
    assert secret_of(made).fields["password"] not in log
