"""What a lease may do in a database: the least of what its class allows, its grant covers and its statement needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from forestall.adapter.credential.postgresql_scram import ITERATIONS
from forestall.classify.sql import WHOLE, Operation, Touched, read_statement
from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.errors import InvalidInput
from forestall.core.model import Action, Grant, Permit, Scope
from forestall.core.reason import Reason

NEEDS = {
    Operation.SELECT: Effect.READ,
    Operation.INSERT: Effect.WRITE,
    Operation.UPDATE: Effect.WRITE,
    Operation.DELETE: Effect.DESTRUCTIVE,
}
"""The effect that a grant has to have for an operation."""

COVERS = {
    Operation.SELECT: frozenset({Effect.READ, Effect.WRITE, Effect.DESTRUCTIVE}),
    Operation.INSERT: frozenset({Effect.WRITE, Effect.DESTRUCTIVE}),
    Operation.UPDATE: frozenset({Effect.WRITE, Effect.DESTRUCTIVE}),
    Operation.DELETE: frozenset({Effect.DESTRUCTIVE}),
}
"""The effects of a permit, any of which lets its one call do the operation: what writes may look at what it changes."""

UNNAMED_SCHEMA = "public"
"""Where a table is that is named without a schema."""

Table = tuple[str, str]
Columns = frozenset[str] | Literal["*"]


@dataclass(frozen=True, slots=True)
class Allow:
    """One `[[credentials.NAME.allow]]`."""

    table: Table
    operations: frozenset[Operation]
    columns: Columns = WHOLE
    rows: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Column to the mandate's parameter whose value it must have."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Of each role. Those in time are defaults that its holder can change; the others it cannot."""

    connections: int = 4
    temporary_mb: int = 256
    """Of temporary files, for each of its sessions: MB."""
    statement_ms: int = 30_000
    idle_ms: int = 10_000
    """In a transaction, doing nothing."""
    scram_iterations: int = ITERATIONS
    """Of its password; fewer make a role faster, for clients that take them."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a class lets its leases do."""

    database: str
    scope: Scope
    allow: tuple[Allow, ...]
    statement: str = ""
    """The argument that holds the statement; empty where nothing is read from the call."""
    limits: Limits = Limits()


@dataclass(slots=True)
class _Most:
    """All that the class allows on one table."""

    operations: dict[Operation, Columns] = field(default_factory=dict)
    rows: dict[str, str] = field(default_factory=dict)


def plan_rights(rules: Rules, permit: Permit, action: Action, grant: Grant) -> dict[str, Any]:
    """As `Broker.plan`. Raises CannotDo: out_of_scope, invalid_arguments."""
    effects = {operation for operation, effect in NEEDS.items() if effect in grant.effects}
    if rules.scope is Scope.ACTION:
        effects = {each for each in effects if COVERS[each] & permit.effects}
    most = _most(rules.allow)
    if rules.scope is Scope.ACTION and rules.statement:
        wanted = {
            table: dict(_needed(table, touched, most, effects))
            for table, touched in _touched(_statement(rules, action))
        }
    else:
        wanted = {
            table: {op: columns for op, columns in one.operations.items() if op in effects}
            for table, one in most.items()
        }
    tables = {table: operations for table, operations in wanted.items() if operations}
    if not tables and not (rules.scope is Scope.ACTION and rules.statement):
        raise _beyond("the grant's effects leave nothing of what the class allows")
    rows = {table: most[table].rows for table in tables}
    parameters = sorted({parameter for each in rows.values() for parameter in each.values()})
    for parameter in parameters:
        if parameter not in grant.parameters:
            raise _beyond(f"rows are chosen by the parameter `{parameter}`, which the task's mandate does not have")
    return {
        "database": rules.database,
        "tables": [_shown(table, operations, rows[table]) for table, operations in sorted(tables.items())],
        "parameters": {parameter: grant.parameters[parameter] for parameter in parameters},
        "connections": rules.limits.connections,
        "temporary_mb": rules.limits.temporary_mb,
        "statement_ms": rules.limits.statement_ms,
        "idle_ms": rules.limits.idle_ms,
    }


def _most(allow: Iterable[Allow]) -> dict[Table, _Most]:
    most: dict[Table, _Most] = {}
    for one in allow:
        found = most.setdefault(one.table, _Most())
        found.rows.update(one.rows)
        for operation in one.operations:
            before = found.operations.get(operation, frozenset())
            whole = WHOLE in (before, one.columns)
            found.operations[operation] = WHOLE if whole else frozenset(before) | frozenset(one.columns)
    return most


def _statement(rules: Rules, action: Action) -> tuple[Touched, ...]:
    text = action.arguments.get(rules.statement)
    if not isinstance(text, str):
        raise CannotDo(Reason.INVALID_ARGUMENTS, f"the call has no text `{rules.statement:.80}` to read rights from")
    try:
        return read_statement(text)
    except InvalidInput as error:
        raise CannotDo(Reason.INVALID_ARGUMENTS, f"`{rules.statement:.80}` cannot be read: {error}") from None


def _touched(found: tuple[Touched, ...]) -> list[tuple[Table, dict[Operation, set[str]]]]:
    """With and without its schema, a table is the same one."""
    merged: dict[Table, dict[Operation, set[str]]] = {}
    for each in found:
        under = merged.setdefault((each.schema or UNNAMED_SCHEMA, each.table), {})
        for operation, columns in each.columns.items():
            under.setdefault(operation, set()).update(columns)
    return list(merged.items())


def _needed(
    table: Table, touched: dict[Operation, set[str]], most: dict[Table, _Most], effects: set[Operation]
) -> list[tuple[Operation, Columns]]:
    name = ".".join(table)[:130]
    found = []
    for operation, columns in touched.items():
        allowed = most[table].operations.get(operation) if table in most else None
        if allowed is None:
            raise _beyond(f"the class does not allow {operation} on {name}")
        if operation not in effects:
            raise _beyond(f"the task or the tool has no effect that covers {operation} on {name}")
        found.append((operation, _narrowed(columns, allowed, f"{operation} on {name}")))
    return found


def _narrowed(columns: set[str], allowed: Columns, what: str) -> Columns:
    named = frozenset(columns - {WHOLE})
    if allowed != WHOLE and not named <= allowed:
        raise _beyond(f"the class does not allow {what} of `{min(named - allowed):.63}`")
    if WHOLE in columns or what.startswith(Operation.DELETE):
        return allowed
    if not named:  # `count(*)` needs the right to see any one column
        return WHOLE if allowed == WHOLE else frozenset({min(allowed)})
    return named


def _shown(table: Table, operations: Mapping[Operation, Columns], rows: Mapping[str, str]) -> dict[str, Any]:
    def columns(operation: Operation) -> bool | list[str]:
        chosen = operations[operation]
        return True if chosen == WHOLE or operation is Operation.DELETE else sorted(chosen)

    return {
        "schema": table[0],
        "table": table[1],
        "operations": {operation.value: columns(operation) for operation in sorted(operations)},
        "rows": dict(sorted(rows.items())),
    }


def _beyond(detail: str) -> CannotDo:
    return CannotDo(Reason.OUT_OF_SCOPE, detail)
