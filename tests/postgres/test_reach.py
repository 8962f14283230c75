"""What the holder of a lease reaches for, on a real connection as its role; each is refused by the database itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import psycopg
import pytest

from forestall.core.model import Lease
from forestall.testing.broker import secret_of
from tests.postgres.shop import LONGEST_S, Shop, issued

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgres")]

Session = psycopg.Connection[tuple[Any, ...]]

ATTRIBUTES = """\
SELECT rolsuper, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls, rolconnlimit, rolvaliduntil = expires_at,
  (SELECT count(*) FROM pg_auth_members WHERE member = r.oid)
FROM pg_roles r JOIN forestall.lease ON name = rolname WHERE rolname = %s
"""


@pytest.fixture(scope="module")
def held(kept_shop: Shop) -> Iterator[Lease]:
    """One for all: whatever one session tried, the role is the same afterwards."""
    with closing(kept_shop.broker(limits="connections = 20")) as broker:
        made = issued(broker, "held", expires_at=broker.context.now() + (LONGEST_S - 1) * 1000)
        yield made
        broker.revoke(made)
    assert kept_shop.roles() == set()


@pytest.fixture
def holder(kept_shop: Shop, held: Lease) -> Iterator[Session]:
    with kept_shop.connect(secret_of(held)) as session:
        yield session


DENIED = """\
SELECT * FROM shop.customers
SELECT * FROM shop.salaries
SELECT * FROM shop.totals
SELECT notes FROM shop.orders
SELECT * FROM shop.orders
SELECT o FROM shop.orders o
UPDATE shop.orders SET total = 0
UPDATE shop.orders SET customer_id = 2
INSERT INTO shop.orders (customer_id, total, notes) VALUES (1, 1, 'x')
INSERT INTO shop.orders (id, customer_id, total) VALUES (99, 1, 1)
INSERT INTO shop.orders (customer_id, total) VALUES (2, 1)
INSERT INTO shop.customers VALUES (3, 'eve', '4333')
TRUNCATE shop.orders
DROP TABLE shop.orders
ALTER TABLE shop.orders DISABLE ROW LEVEL SECURITY
ALTER TABLE shop.orders ADD COLUMN x int
CREATE POLICY mine ON shop.orders USING (true)
DROP POLICY "forestall customer_id = customer" ON shop.orders
CREATE INDEX ON shop.orders (total)
CREATE TRIGGER t BEFORE INSERT ON shop.orders FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()
CREATE RULE r AS ON SELECT TO shop.orders DO INSTEAD NOTHING
COPY shop.orders TO PROGRAM 'id'
COPY shop.orders (id) TO PROGRAM 'id'
COPY shop.orders (customer_id, total) FROM PROGRAM 'echo 1'
COPY (SELECT 1) TO PROGRAM 'id'
COPY (SELECT 1) TO '/tmp/forestall-test'
COPY shop.orders (id) TO '/tmp/forestall-test'
COPY shop.orders (customer_id, total) FROM '/etc/passwd'
COPY shop.customers TO STDOUT
SELECT pg_read_file('/etc/passwd')
SELECT pg_read_binary_file('/etc/passwd')
SELECT pg_stat_file('/etc/passwd')
SELECT pg_ls_dir('/')
SELECT pg_ls_logdir()
SELECT lo_import('/etc/passwd')
SELECT lo_export(1, '/tmp/forestall-test')
SELECT lo_create(0)
SELECT lo_creat(-1)
SELECT lo_from_bytea(0, 'x')
SELECT lo_put(1, 0, 'x')
SELECT pg_reload_conf()
SELECT pg_rotate_logfile()
SELECT pg_switch_wal()
SELECT pg_create_restore_point('x')
SELECT pg_logical_emit_message(true, 'x', 'y'), pg_create_physical_replication_slot('x')
SELECT pg_promote()
SELECT pg_log_backend_memory_contexts(pg_backend_pid())
SELECT * FROM pg_hba_file_rules
SELECT * FROM pg_file_settings
SELECT * FROM pg_config
SELECT * FROM pg_backend_memory_contexts
SELECT * FROM pg_shmem_allocations
SELECT rolpassword FROM pg_authid
SELECT * FROM pg_shadow
SELECT * FROM pg_user_mapping
SELECT * FROM pg_largeobject
SELECT * FROM pg_statistic
SELECT * FROM pg_subscription
SELECT * FROM forestall.lease
SELECT * FROM forestall.broker
INSERT INTO forestall.accepted VALUES ('all')
BEGIN; LOCK TABLE forestall.turn
UPDATE forestall.lease SET parameters = '{"customer": "2"}'
SELECT forestall.issue('forestall-0badf00d-mine', 'x', '1 h', '{}')
SELECT forestall.renew('forestall-0badf00d-held', '1 h')
SELECT forestall.lock('forestall-0badf00d-held')
SELECT forestall.finish('forestall-0badf00d-held', '1 s')
SELECT forestall.list()
SELECT forestall.audit()
SELECT forestall.allow('forestall-0badf00d-held', '{}')
SELECT forestall.strip(10, 'admin')
SELECT forestall.require_own('forestall-0badf00d-held')
SELECT forestall.prepared_of('forestall-0badf00d-held')
CREATE OR REPLACE FUNCTION forestall.parameter(parameter text) RETURNS text LANGUAGE sql AS 'SELECT 2::text'
SET ROLE admin
SET ROLE app
SET ROLE forestall
SET ROLE forestall_owner
SET ROLE pg_read_all_data
SET SESSION AUTHORIZATION app
SET SESSION AUTHORIZATION admin
GRANT "forestall-0badf00d-held" TO app
GRANT app TO "forestall-0badf00d-held"
GRANT forestall_owner TO "forestall-0badf00d-held"
GRANT pg_read_server_files TO "forestall-0badf00d-held"
CREATE ROLE friend LOGIN
ALTER ROLE CURRENT_USER VALID UNTIL 'infinity'
ALTER ROLE CURRENT_USER CONNECTION LIMIT -1
ALTER ROLE CURRENT_USER SUPERUSER
ALTER ROLE CURRENT_USER BYPASSRLS
ALTER ROLE CURRENT_USER CREATEROLE
ALTER ROLE CURRENT_USER CREATEDB
ALTER ROLE CURRENT_USER REPLICATION
ALTER ROLE app RENAME TO friend
ALTER ROLE CURRENT_USER SET temp_file_limit = -1
ALTER ROLE app PASSWORD 'x'
ALTER ROLE app SET search_path = x
ALTER ROLE ALL SET search_path = x
ALTER DATABASE shop SET search_path = x
ALTER SYSTEM SET log_statement = 'none'
DROP ROLE app
REASSIGN OWNED BY app TO CURRENT_USER
DROP OWNED BY app
SET temp_file_limit = -1
SET log_statement = 'none'
SET session_replication_role = replica
SET session_preload_libraries = 'x'
SET zero_damaged_pages = on
SET lo_compat_privileges = on
LOAD '/tmp/x.so'
CREATE TABLE mine (a int)
CREATE TABLE public.mine (a int)
CREATE TABLE shop.mine (a int)
CREATE TEMP TABLE mine (a int)
SELECT id INTO TEMP mine FROM shop.orders
CREATE VIEW shop.mine AS SELECT 1
CREATE TEMP VIEW mine AS SELECT 1
CREATE SEQUENCE shop.mine
CREATE TYPE shop.mine AS (a int)
CREATE SCHEMA mine
CREATE FUNCTION pg_temp.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE FUNCTION shop.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'
CREATE PROCEDURE public.mine() LANGUAGE sql AS 'SELECT 1'
CREATE EXTENSION dblink
CREATE EXTENSION file_fdw
CREATE EXTENSION pgcrypto
CREATE PUBLICATION p FOR ALL TABLES
CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1' PUBLICATION p
CREATE DATABASE mine
CREATE TABLESPACE mine LOCATION '/tmp'
CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION x()
CREATE ACCESS METHOD m TYPE INDEX HANDLER bthandler
COMMENT ON TABLE shop.orders IS 'x'
CLUSTER shop.orders
REINDEX TABLE shop.orders
CHECKPOINT
SELECT nextval('shop.orders_id_seq'), setval('shop.orders_id_seq', 1)
SELECT query_to_xml('SELECT * FROM shop.customers', true, true, '')
SELECT table_to_xml('shop.customers', true, true, '')
SELECT ts_stat('SELECT to_tsvector(card) FROM shop.customers')
DO $$ BEGIN EXECUTE 'SELECT * FROM shop.customers'; END $$
DO $$ BEGIN PERFORM set_config('role', 'app', false); END $$
PREPARE p AS SELECT * FROM shop.customers; EXECUTE p
DECLARE c CURSOR WITH HOLD FOR SELECT * FROM shop.customers
EXPLAIN ANALYZE DELETE FROM shop.customers
WITH x AS (DELETE FROM shop.customers RETURNING *) SELECT * FROM x
MERGE INTO shop.customers c USING shop.orders o ON c.id = o.id WHEN MATCHED THEN DELETE
""".splitlines()


@pytest.mark.parametrize("statement", DENIED)
def test_the_database_refuses(statement: str, holder: Session) -> None:
    with pytest.raises(psycopg.Error) as caught:
        holder.execute(statement)
    assert caught.value.sqlstate in REFUSALS, (caught.value.sqlstate, str(caught.value))


REFUSALS = {
    "42501",  # insufficient_privilege
    "22023",  # a role that it is no member of
    "0LP01",  # a grant that it may not give
    "55P02",  # a setting that it may not change
    "58P01",  # a library that is not there
}


# -- rows of others


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT total FROM shop.orders WHERE customer_id = 2",
        "SELECT total FROM shop.orders WHERE total > 100",
        "SELECT total FROM shop.orders WHERE customer_id = 2 OR true OFFSET 2",
        "UPDATE shop.orders SET status = 'gone' WHERE customer_id = 2 RETURNING 1",
        "DELETE FROM shop.orders WHERE total = 999 RETURNING 1",
        "SELECT a.total FROM shop.orders a JOIN shop.orders b ON b.id <> a.id WHERE a.customer_id = 2",
        "WITH x AS (SELECT total FROM shop.orders) SELECT * FROM x WHERE total = 999",
    ],
)
@pytest.mark.parametrize(
    "before",
    [
        "SELECT 1",
        "SET row_security = off",
        "SET search_path = public",
        "SET forestall.customer = '2'",
        "SET customer = '2'",
        "SELECT set_config('forestall.parameter', '2', false)",
        "SET session_authorization = DEFAULT",
        "RESET ALL",
        "DISCARD ALL",
    ],
)
def test_rows_of_another_customer_are_not_there(before: str, statement: str, holder: Session) -> None:
    with suppress(psycopg.Error):
        holder.execute(before)
    rows: list[Any] = []
    with suppress(psycopg.errors.InsufficientPrivilege):  # with row_security off, it is an error to be kept from rows
        rows = holder.execute(statement).fetchall()
    assert rows == []


def test_nothing_was_written_or_made(held: Lease, kept_shop: Shop) -> None:
    assert kept_shop.roles() == {held.name}
    assert kept_shop.app_works()
    with kept_shop.admin() as admin:
        assert admin.execute("SELECT count(*) FROM pg_largeobject_metadata").fetchone() == (0,)
        assert admin.execute("SELECT relname FROM pg_class WHERE relname = 'mine'").fetchall() == []
        assert admin.execute(ATTRIBUTES, (held.name,)).fetchone() == (False, False, False, False, False, 20, True, 0)
