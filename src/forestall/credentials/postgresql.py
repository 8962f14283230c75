"""`backend = "postgresql"`: a role for each lease. Reads its own keys of a class of `credentials.toml`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.postgresql import PostgresqlBroker
from forestall.adapter.credential.postgresql_rights import UNNAMED_SCHEMA, Allow, Limits, Rules
from forestall.adapter.credential.postgresql_server import Address
from forestall.adapter.credential.postgresql_session import parse_dsn
from forestall.adapter.credential.postgresql_setup import identifier, policy_name
from forestall.adapter.credential.source import FileSource
from forestall.classify.sql import WHOLE, Operation
from forestall.core.errors import InvalidInput
from forestall.core.model import Scope
from forestall.port import Broker
from forestall.table import Table

KEYS = ("dsn", "database", "password_file", "statement", "allow", "limits")
LIMITS = ("connections", "temporary_mb", "statement_ms", "idle_ms", "scram_iterations")
ALLOW = ("table", "operations", "columns", "rows")
DSN = frozenset({"host", "hostaddr", "port", "user", "sslmode", "sslrootcert", "sslcert", "sslkey"})
VERIFIED = frozenset({"verify-full", "verify-ca"})
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
DAY_MS = 86_400_000

_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")


def open_broker(table: Table, context: Context) -> Broker:
    """Asks nobody anything. Raises SetupError."""
    table.require_known(*KEYS, needed=("dsn", "database", "allow"))
    rules = _rules(table, context.scope)
    address = _address(table)
    return PostgresqlBroker.at(address, rules, context, _holder(address.parameters))


def _rules(table: Table, scope: Scope) -> Rules:
    if table.has("statement") and scope is Scope.TASK:
        raise table.error("statement", "a task's credential has all that the class allows; take `statement` out.")
    tables = table.tables("allow")
    allow = tuple(_allow(each) for each in tables)
    _require_one_parameter(tables, allow)
    if not allow:
        raise table.error("allow", "nothing is allowed, so no credential would be good for anything.")
    statement = table.text("statement") if table.has("statement") else ""
    limits = _limits(table.table("limits")) if table.has("limits") else Limits()
    return Rules(_named(table, "database"), scope, allow, statement, limits)


def _limits(table: Table) -> Limits:
    table.require_known(*LIMITS)
    usual = Limits()
    return Limits(
        table.whole("connections", 1, 100, usual.connections),
        table.whole("temporary_mb", 0, 1_048_576, usual.temporary_mb),
        table.whole("statement_ms", 1, DAY_MS, usual.statement_ms),
        table.whole("idle_ms", 1, DAY_MS, usual.idle_ms),
        table.whole("scram_iterations", 1, 1_000_000, usual.scram_iterations),
    )


def _allow(table: Table) -> Allow:
    table.require_known(*ALLOW, needed=("table", "operations"))
    operations = frozenset(_operation(table, each) for each in table.texts("operations"))
    if not operations:
        raise table.error("operations", f"`operations` are some of {', '.join(Operation)}.")
    columns = frozenset(table.texts("columns"))
    if table.has("columns") and not columns:
        raise table.error("columns", "no columns are named; take `columns` out to allow all.")
    for column in columns:
        table.attempt("columns", lambda column=column: _require_name(column))  # type: ignore[misc]
    if columns and Operation.DELETE in operations:
        raise table.error("columns", "whole rows are deleted: allow `delete` in an [[...allow]] without `columns`.")
    return Allow(_table_name(table), operations, columns or WHOLE, _rows(table))


def _require_one_parameter(tables: Sequence[Table], allow: Sequence[Allow]) -> None:
    """The rows of a table are chosen once for all that is allowed on it: a column has the value of one parameter."""
    chosen: dict[tuple[str, str, str], tuple[str, str]] = {}
    for table, one in zip(tables, allow, strict=True):
        for column, parameter in one.rows.items():
            before, at = chosen.setdefault((*one.table, column), (parameter, table.at("rows")))
            if before != parameter:
                sentence = (
                    f"the rows of {'.'.join(one.table)} have `{column}` of `{parameter}` here, and of `{before}` at "
                    f"{at}; a row has one value there: name one parameter, or write two classes."
                )
                raise table.error("rows", sentence)


def _operation(table: Table, name: str) -> Operation:
    if name not in tuple(Operation):
        raise table.error("operations", f"`{name:.80}` is none of {', '.join(Operation)}.")
    return Operation(name)


def _table_name(table: Table) -> tuple[str, str]:
    schema, dot, name = table.text("table").rpartition(".")
    if "." in schema:
        raise table.error("table", "`table` is TABLE or SCHEMA.TABLE, as the database has them.")
    found = (schema if dot else UNNAMED_SCHEMA, name)
    for each in found:
        table.attempt("table", lambda each=each: _require_name(each))  # type: ignore[misc]
    return found


def _rows(table: Table) -> Mapping[str, str]:
    if not table.has("rows"):
        return MappingProxyType({})
    values: Mapping[str, Any] = table.table("rows").values
    for column, parameter in values.items():
        if not isinstance(parameter, str) or not _PARAMETER.fullmatch(parameter):
            raise table.error("rows", f"`{column:.63}` is given the name of a parameter of the task's mandate.")
        table.attempt("rows", lambda c=column, p=parameter: _require(lambda: policy_name(c, p)))  # type: ignore[misc]
    return MappingProxyType(dict(values))


def _address(table: Table) -> Address:
    found = table.attempt("dsn", lambda: parse_dsn(table.text("dsn")))
    for key in found:
        if key == "password":
            raise table.error("dsn", "a password does not stand in `dsn`; keep it in a file: `password_file = ...`.")
        if key == "dbname":
            raise table.error("dsn", "which database it is says `database`; take it out of `dsn`.")
        if key not in DSN:
            raise table.error("dsn", f"`{key}` is not taken in `dsn`; known are {', '.join(sorted(DSN))}.")
    for key in ("host", "user"):
        if not found.get(key):
            raise table.error("dsn", f"`dsn` has no `{key}`.")
    if "," in found["host"] or "," in found.get("port", ""):
        raise table.error("dsn", "a lease is in one server: name one host.")
    parameters = {"port": "5432", **found, "dbname": _named(table, "database"), **_tls(table, found)}
    file = table.path("password_file")
    return Address(MappingProxyType(parameters), None if file is None else FileSource(file))


def _tls(table: Table, found: Mapping[str, str]) -> dict[str, str]:
    """Beyond this machine the server is verified."""
    if found["host"].startswith("/") or found["host"] in LOOPBACK:
        return {"sslmode": found.get("sslmode", "disable")}
    mode = found.get("sslmode", "verify-full")
    if mode not in VERIFIED:
        raise table.error("dsn", "a server elsewhere is verified: `sslmode` is verify-full or verify-ca.")
    return {"sslmode": mode}


def _holder(parameters: Mapping[str, str]) -> dict[str, str]:
    """What the holder of a lease connects with; Forestall's own certificate is not its."""
    return {key: parameters[key] for key in ("host", "port", "sslmode", "sslrootcert") if key in parameters}


def _named(table: Table, key: str) -> str:
    name = table.text(key)
    table.attempt(key, lambda: _require_name(name))
    return name


def _require_name(name: str) -> None:
    _require(lambda: identifier(name))


def _require(make: Any) -> None:
    try:
        make()
    except InvalidInput as error:
        raise ValueError(str(error).rstrip(".")) from None
