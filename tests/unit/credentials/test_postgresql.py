"""`backend = "postgresql"`: its settings, and the sentence for each that cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.postgresql import PostgresqlBroker
from forestall.core.errors import SetupError
from forestall.core.model import Scope
from forestall.core.toml import parse_toml
from forestall.credentials.postgresql import open_broker
from forestall.table import Table

HEAD = 'database = "shop"\n'
DSN = 'dsn = "host=127.0.0.1 user=forestall"\n'
ALLOW = '[[x.allow]]\ntable = "shop.orders"\noperations = ["select"]\n'


def opened(tmp_path: Path, text: str, scope: Scope = Scope.ACTION) -> PostgresqlBroker:
    file = tmp_path / "credentials.toml"
    text = f"[x]\n{text}"
    table = Table.of_file(parse_toml(text, file), text, file).table("x")
    broker = open_broker(table, Context("0badf00d", lambda: 0, bytes, 1.0, tmp_path, scope))
    assert isinstance(broker, PostgresqlBroker)
    return broker


def test_what_is_written_is_what_it_has(tmp_path: Path) -> None:
    limits = "limits = { connections = 2, statement_ms = 5 }\n"
    allow = (
        ALLOW
        + 'columns = ["id"]\nrows = { customer_id = "customer" }\n[[x.allow]]\ntable = "log"\noperations = ["delete"]\n'
    )
    broker = opened(tmp_path, HEAD + DSN + 'statement = "sql"\n' + limits + allow)
    assert broker.rules.statement == "sql"
    assert (broker.rules.limits.connections, broker.rules.limits.statement_ms) == (2, 5)
    first, second = broker.rules.allow
    assert (first.table, first.columns, dict(first.rows)) == (("shop", "orders"), {"id"}, {"customer_id": "customer"})
    assert (second.table, second.columns) == (("public", "log"), "*")


CUSTOMER = 'rows = { customer_id = "customer" }\n'


@pytest.mark.parametrize(
    ("table", "operations"), [("shop.orders", '"select"'), ("shop.orders", '"update"')], ids=["same", "other operation"]
)
def test_rows_of_one_column_are_not_of_two_parameters(tmp_path: Path, table: str, operations: str) -> None:
    other = f'[[x.allow]]\ntable = "{table}"\noperations = [{operations}]\nrows = {{ customer_id = "user" }}\n'
    with pytest.raises(SetupError) as caught:
        opened(tmp_path, HEAD + DSN + ALLOW + CUSTOMER + other)
    file = tmp_path / "credentials.toml"
    assert str(caught.value).startswith(f"{file}:11: the rows of shop.orders have `customer_id` of `user` here, ")
    assert f"and of `customer` at {file}:7;" in str(caught.value)


def test_a_table_is_the_same_with_and_without_its_schema_and_where_its_rows_are_a_section(tmp_path: Path) -> None:
    text = (
        '[[x.allow]]\ntable = "log"\noperations = ["select"]\n[x.allow.rows]\nid = "a"\n'
        '[[x.allow]]\ntable = "public.log"\noperations = ["insert"]\n[x.allow.rows]\nid = "b"\n'
    )
    with pytest.raises(SetupError, match=r"toml:12: the rows of public.log have `id` of `b` here, and of `a` at .*:7;"):
        opened(tmp_path, HEAD + DSN + text)


@pytest.mark.parametrize(
    "other",
    [
        ALLOW + CUSTOMER,
        ALLOW + 'rows = { region = "user" }\n',
        ALLOW.replace("orders", "log") + 'rows = { customer_id = "user" }\n',
        ALLOW,
    ],
    ids=["the same", "another column", "another table", "no rows"],
)
def test_what_does_not_differ_about_one_column_is_taken_together(tmp_path: Path, other: str) -> None:
    assert len(opened(tmp_path, HEAD + DSN + ALLOW + CUSTOMER + other).rules.allow) == 2


@pytest.mark.parametrize(
    ("dsn", "parameters"),
    [
        ("host=db.example user=f", {"host": "db.example", "port": "5432", "sslmode": "verify-full"}),
        ("host=db.example user=f sslmode=verify-ca", {"host": "db.example", "port": "5432", "sslmode": "verify-ca"}),
        ("host=/run/postgresql user=f port=5433", {"host": "/run/postgresql", "port": "5433", "sslmode": "disable"}),
        ("postgresql://f@127.0.0.1:99", {"host": "127.0.0.1", "port": "99", "sslmode": "disable"}),
        (
            "host=db.example user=f sslcert=/c sslkey=/k sslrootcert=/r",
            {"host": "db.example", "port": "5432", "sslmode": "verify-full", "sslrootcert": "/r"},
        ),
    ],
)
def test_a_holder_is_told_where_and_how_and_not_who_forestall_is(
    tmp_path: Path, dsn: str, parameters: dict[str, str]
) -> None:
    assert dict(opened(tmp_path, f'{HEAD}dsn = "{dsn}"\n{ALLOW}').holder) == parameters


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (HEAD + ALLOW, "has no `dsn`"),
        (DSN + ALLOW, "has no `database`"),
        (HEAD + DSN, "has no `allow`"),
        (HEAD + DSN + "allow = []\n", "nothing is allowed"),
        (HEAD + DSN + 'alow = ""\n' + ALLOW, "did you mean `allow`"),
        (HEAD + 'dsn = "host=a user=b password=hunter2"\n' + ALLOW, "password does not stand in `dsn`"),
        (HEAD + 'dsn = "postgresql://b:hunter2@a"\n' + ALLOW, "password does not stand in `dsn`"),
        (HEAD + 'dsn = "host=a user=b dbname=c"\n' + ALLOW, "says `database`"),
        (HEAD + 'dsn = "host=a user=b options=-c"\n' + ALLOW, "`options` is not taken"),
        (HEAD + 'dsn = "host=a"\n' + ALLOW, "no `user`"),
        (HEAD + 'dsn = "user=a"\n' + ALLOW, "no `host`"),
        (HEAD + 'dsn = "host=a,b user=c"\n' + ALLOW, "name one host"),
        (HEAD + 'dsn = "hunter2"\n' + ALLOW, "no connection string"),
        (HEAD + 'dsn = "host=a user=b sslmode=require"\n' + ALLOW, "verify-full or verify-ca"),
        (HEAD + 'dsn = "host=a user=b sslmode=disable"\n' + ALLOW, "verify-full or verify-ca"),
        (f'database = "{"x" * 64}"\n' + DSN + ALLOW, "1 to 63 bytes"),
        (HEAD + DSN + '[[x.allow]]\ntable = "a.b.c"\noperations = ["select"]\n', "SCHEMA.TABLE"),
        (HEAD + DSN + '[[x.allow]]\ntable = ".c"\noperations = ["select"]\n', "no name"),
        (HEAD + DSN + '[[x.allow]]\ntable = "c"\noperations = []\n', "some of select"),
        (HEAD + DSN + '[[x.allow]]\ntable = "c"\noperations = ["truncate"]\n', "`truncate` is none of"),
        (HEAD + DSN + '[[x.allow]]\ntable = "c"\noperations = ["delete"]\ncolumns = ["a"]\n', "whole rows"),
        (HEAD + DSN + ALLOW + "columns = []\n", "no columns are named"),
        (HEAD + DSN + ALLOW + f'columns = ["{"x" * 64}"]\n', "1 to 63 bytes"),
        (HEAD + DSN + ALLOW + "rows = { a = 1 }\n", "name of a parameter"),
        (HEAD + DSN + ALLOW + 'rows = { a = "it\'s" }\n', "name of a parameter"),
        (HEAD + DSN + ALLOW + f'rows = {{ {"a" * 40} = "{"b" * 40}" }}\n', "1 to 63 bytes"),
        (HEAD + DSN + "limits = { connections = 0 }\n" + ALLOW, "from 1 to 100"),
        (HEAD + DSN + "limits = { memory = 1 }\n" + ALLOW, "unknown key `memory`"),
    ],
)
def test_what_cannot_be_is_an_error_that_repeats_no_secret(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SetupError) as caught:
        opened(tmp_path, text)
    assert sentence in str(caught.value)
    assert "credentials.toml:" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_a_tasks_credential_reads_no_statement(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="take `statement` out"):
        opened(tmp_path, HEAD + DSN + 'statement = "sql"\n' + ALLOW, Scope.TASK)
