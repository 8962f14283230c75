"""What one SQL statement touches: which columns of which tables, with which operation, as PostgreSQL would read it.

It is there to ask for few rights, not to keep anybody from anything: the server does that, by the rights that are asked
for here. Where this reads a statement otherwise than the server, the server refuses the statement. What cannot be read
surely is refused all the same, so that nobody wonders why.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NoReturn

from forestall.core.errors import InvalidInput, SetupError

try:
    import sqlglot
    from sqlglot import exp
    from sqlglot.errors import SqlglotError
except ImportError as _missing:  # pragma: no cover - the extra is there wherever tests run
    raise SetupError("Reading SQL needs a library: pip install 'forestall[postgresql]'.") from _missing

MAX_STATEMENT = 16_384
"""Bytes. Statements of people and models are shorter."""
MAX_DEPTH = 64
"""Brackets inside brackets, and CASEs: parsing recurs."""
MAX_TOKENS = 6_000

WHOLE: Literal["*"] = "*"
"""Every column."""

_BEGINS = frozenset({"SELECT", "WITH", "INSERT", "UPDATE", "DELETE", "VALUES", "TABLE", "("})
_SELECT = frozenset(
    {"with_", "expressions", "distinct", "from_", "joins", "laterals", "where", "group", "having", "windows", "order"}
    | {"limit", "offset"}
)
_INSERT = frozenset({"with_", "this", "expression", "returning", "conflict", "default"})
_UPDATE = frozenset({"with_", "this", "expressions", "from_", "where", "returning"})
_DELETE = frozenset({"with_", "this", "using", "where", "returning"})
_TABLE = frozenset({"this", "db", "alias", "only", "joins", "sample", "rows_from", "ordinality"})
_JOIN = frozenset({"this", "on", "using", "side", "kind", "method"})

logging.getLogger("sqlglot").addFilter(lambda _: False)  # it would log a statement that it does not know, word for word


class Operation(StrEnum):
    SELECT = "select"
    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


@dataclass(slots=True)
class Touched:
    """A table, and what is done to it. Of an operation, the columns, `*` among them for all of them; of a `select` with
    none, any column will do (`count(*)`). Names are as the server has them.
    """

    schema: str | None
    """None where the statement does not say."""
    table: str
    columns: dict[Operation, set[str]] = field(default_factory=dict)

    def add(self, operation: Operation, *columns: str) -> None:
        self.columns.setdefault(operation, set()).update(columns)


def read_statement(text: str) -> tuple[Touched, ...]:
    """Of exactly one SELECT, INSERT, UPDATE or DELETE. Raises InvalidInput, with a sentence that quotes names alone."""
    if len(text.encode(errors="replace")) > MAX_STATEMENT:
        raise InvalidInput(f"The statement is longer than {MAX_STATEMENT} bytes.")
    try:
        _require_plain(text)
        statements = [each for each in sqlglot.parse(text, read="postgres") if each is not None]
        if len(statements) != 1:
            raise InvalidInput(f"There are {len(statements)} statements; send exactly one.")
        reader = _Reader()
        reader.statement(statements[0])
    except (SqlglotError, RecursionError):
        raise InvalidInput("The statement cannot be read; write one plain SELECT, INSERT, UPDATE or DELETE.") from None
    return tuple(reader.touched.values())


def _require_plain(text: str) -> None:
    """What a parser could be made to labour at, or does not know, is refused before it is parsed."""
    tokens = sqlglot.tokenize(text, read="postgres")
    if not tokens or tokens[0].text.upper() not in _BEGINS:
        raise InvalidInput("Only SELECT, INSERT, UPDATE and DELETE are read.")
    if len(tokens) > MAX_TOKENS:
        raise InvalidInput("The statement has too many words.")
    depth = 0
    for token in tokens:
        depth += token.text.upper() in {"(", "[", "CASE"}
        depth -= token.text.upper() in {")", "]", "END"}
        if depth > MAX_DEPTH:
            raise InvalidInput("The statement nests too deeply.")


_Frame = dict[str, Touched | None]
"""What a name before a dot means; None is something that was computed here, which needs no rights."""


@dataclass(frozen=True, slots=True)
class _Scope:
    frames: tuple[_Frame, ...] = ()
    """Innermost first."""
    with_names: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()
    """Names that need nobody said whose they are: joined by USING, or given to a result here."""

    def inside(self, frame: _Frame) -> _Scope:
        return _Scope((frame, *self.frames), self.with_names)

    def knowing(self, names: Iterable[str]) -> _Scope:
        return _Scope(self.frames, self.with_names, self.shared | frozenset(names))


class _Reader:
    def __init__(self) -> None:
        self.touched: dict[tuple[str | None, str], Touched] = {}

    def statement(self, node: object) -> None:
        match node:
            case exp.Insert():
                self._insert(node)
            case exp.Update():
                self._update(node)
            case exp.Delete():
                self._delete(node)
            case _:
                self._query(node, _Scope())

    # -- the four statements

    def _query(self, node: object, scope: _Scope) -> None:
        match node:
            case exp.Select():
                self._select(node, scope)
            case exp.SetOperation():
                inner = self._with(node, scope)
                self._query(node.this, inner)
                self._query(node.expression, inner)
            case exp.Subquery():
                self._query(node.this, self._with(node, scope))
            case exp.Values():
                self._expressions(node.expressions, scope)
            case _:
                _refuse("Only SELECT, INSERT, UPDATE and DELETE are read, and none of the last three inside another.")

    def _select(self, node: exp.Select, scope: _Scope) -> None:
        _require_known(node, _SELECT)
        scope = self._with(node, scope)
        frame: _Frame = {}
        inside = scope.inside(frame)
        joined = self._sources(node, frame, inside)
        inside = inside.knowing(joined)
        aliases = {_name(each.args["alias"]) for each in node.expressions if isinstance(each, exp.Alias)}
        for each in node.expressions:
            self._projection(each, frame, inside)
        for key in ("distinct", "where", "having", "windows", "limit", "offset"):
            self._expressions(_listed(node.args.get(key)), inside)
        for key in ("group", "order"):
            self._expressions(_listed(node.args.get(key)), inside.knowing(aliases))

    def _insert(self, node: exp.Insert) -> None:
        _require_known(node, _INSERT)
        scope = self._with(node, _Scope())
        into = node.this
        named = into.this if isinstance(into, exp.Schema) else into
        target = self._target(named)
        columns = [_name(each) for each in into.expressions] if isinstance(into, exp.Schema) else [WHOLE]
        target.add(Operation.INSERT, *columns)
        if node.expression is not None:
            self._query(node.expression, scope)
        conflict = node.args.get("conflict")
        if conflict is not None:
            if str(conflict.args.get("action")).upper() != "DO NOTHING" or conflict.args.get("constraint"):
                _refuse("Of ON CONFLICT, only DO NOTHING is read.")
            if keys := _listed(conflict.args.get("conflict_keys")):
                target.add(Operation.SELECT, *map(_name, keys))
        self._returning(node, {_alias(named): target}, scope)

    def _update(self, node: exp.Update) -> None:
        _require_known(node, _UPDATE)
        scope = self._with(node, _Scope())
        target = self._target(node.this)
        frame: _Frame = {_alias(node.this): target}
        inside = scope.inside(frame)
        inside = inside.knowing(self._sources(node, frame, inside))
        for each in node.expressions:
            if not isinstance(each, exp.EQ):
                _refuse("Each SET is `column = value`.")
            for column in _assigned(each.this):
                target.add(Operation.UPDATE, column)
            self._expressions([each.expression], inside)
        self._expressions(_listed(node.args.get("where")), inside)
        self._returning(node, frame, scope)

    def _delete(self, node: exp.Delete) -> None:
        _require_known(node, _DELETE)
        scope = self._with(node, _Scope())
        target = self._target(node.this)
        target.add(Operation.DELETE)
        frame: _Frame = {_alias(node.this): target}
        inside = scope.inside(frame)
        for each in _listed(node.args.get("using")):
            self._source(each, frame, inside)
        self._expressions(_listed(node.args.get("where")), inside)
        self._returning(node, frame, scope)

    def _returning(self, node: exp.Expression, frame: _Frame, scope: _Scope) -> None:
        returning = node.args.get("returning")
        for each in returning.expressions if returning is not None else ():
            self._projection(each, frame, scope.inside(frame))

    # -- where rows come from

    def _with(self, node: exp.Expression, scope: _Scope) -> _Scope:
        found = node.args.get("with_")
        if found is None:
            return scope
        for each in found.expressions:
            name = frozenset({_name(each.args["alias"].this)})
            after = _Scope(scope.frames, scope.with_names | name)
            self._query(each.this, after if found.args.get("recursive") else scope)
            scope = after
        return scope

    def _sources(self, node: exp.Expression, frame: _Frame, inside: _Scope) -> frozenset[str]:
        """Puts them into `frame`. Answers the names that USING joins."""
        first = node.args.get("from_")
        joins = [*_listed(node.args.get("joins")), *_listed(node.args.get("laterals"))]
        using: list[str] = []
        if first is not None:
            using += self._source(first.this, frame, inside)
        for join in joins:
            using += (
                self._join(join, frame, inside) if isinstance(join, exp.Join) else self._source(join, frame, inside)
            )
        for join in joins:
            self._expressions(_listed(join.args.get("on")), inside.knowing(using))
        return frozenset(using)

    def _join(self, join: exp.Join, frame: _Frame, inside: _Scope) -> list[str]:
        _require_known(join, _JOIN)
        if join.args.get("method"):
            _refuse("A NATURAL JOIN does not say which columns it goes by; write USING or ON.")
        names = [_name(each) for each in _listed(join.args.get("using"))]
        nested = self._source(join.this, frame, inside)
        for source in frame.values():
            if source is not None and names:
                source.add(Operation.SELECT, *names)
        return [*names, *nested]

    def _source(self, node: object, frame: _Frame, inside: _Scope) -> list[str]:
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            return self._table(node, frame, inside)
        if not isinstance(node, exp.Table | exp.Unnest | exp.Values | exp.Lateral | exp.Subquery):
            _refuse("Something in FROM is not read; name tables, subqueries and functions.")
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
            _refuse("A join in brackets is not read; write it without them.")
        self._enter(frame, _alias(node) or f"\0{len(frame)}", None)
        beside = isinstance(node, exp.Lateral)
        inner = node.this if beside else node
        if isinstance(inner, exp.Subquery | exp.Values):
            self._query(inner, inside if beside else _outer(inside))
        else:
            self._expressions(_children(inner, but=("alias",)), inside)
        return []

    def _table(self, node: exp.Table, frame: _Frame, inside: _Scope) -> list[str]:
        _require_known(node, _TABLE)
        name = _name(node.this)
        computed = node.args.get("db") is None and name in inside.with_names
        source = None if computed else self._touch(node)
        if source is not None:
            source.add(Operation.SELECT)
        self._enter(frame, _alias(node), source)
        using: list[str] = []
        for join in _listed(node.args.get("joins")):
            using += self._join(join, frame, inside)
            self._expressions(_listed(join.args.get("on")), inside.knowing(using))
        return using

    def _enter(self, frame: _Frame, name: str, source: Touched | None) -> None:
        if name in frame:
            _refuse(f"`{name:.63}` stands for two things; give them aliases.")
        frame[name] = source

    def _target(self, node: object) -> Touched:
        if not isinstance(node, exp.Table) or not isinstance(node.this, exp.Identifier):
            _refuse("Which table is changed cannot be read.")
        _require_known(node, _TABLE - {"joins", "sample", "rows_from"})
        return self._touch(node)

    def _touch(self, node: exp.Table) -> Touched:
        schema = _name(node.args["db"]) if node.args.get("db") is not None else None
        key = (schema, _name(node.this))
        return self.touched.setdefault(key, Touched(*key))

    # -- where columns are named

    def _projection(self, node: exp.Expression, frame: _Frame, scope: _Scope) -> None:
        if isinstance(node, exp.Star):
            for source in frame.values():
                if source is not None:
                    source.add(Operation.SELECT, WHOLE)
            self._expressions(_children(node), scope)
        else:
            self._expressions([node], scope)

    def _expressions(self, nodes: Iterable[object], scope: _Scope) -> None:
        for node in nodes:
            match node:
                case exp.Column():
                    self._column(node, scope)
                case exp.Count() if isinstance(node.this, exp.Star):
                    continue
                case exp.Select() | exp.SetOperation() | exp.Subquery():
                    self._query(node, scope)
                case exp.Table() | exp.Insert() | exp.Update() | exp.Delete() | exp.Command():
                    _refuse("A part of the statement cannot be read.")
                case exp.Expression():
                    self._expressions(_children(node), scope)
                case _:
                    continue

    def _column(self, node: exp.Column, scope: _Scope) -> None:
        whole = isinstance(node.this, exp.Star)
        name = WHOLE if whole else _name(node.this)
        if node.args.get("table") is not None:
            self._read(_lookup(_name(node.args["table"]), scope), name)
            return
        if name in scope.shared:
            return
        frame = next((each for each in scope.frames if each), {})
        if any(name in each for each in scope.frames):  # a table's name alone is its whole row
            self._read(_lookup(name, scope), WHOLE)
            return
        if len(frame) > 1:
            _refuse(f"Whose column is `{name:.63}`? Write TABLE.{name:.63}.")
        for source in frame.values():
            self._read(source, name)

    def _read(self, source: Touched | None, column: str) -> None:
        if source is not None:
            source.add(Operation.SELECT, column)


def _outer(scope: _Scope) -> _Scope:
    """What a subquery in FROM sees: nothing of what stands beside it."""
    return _Scope(scope.frames[1:], scope.with_names)


def _lookup(name: str, scope: _Scope) -> Touched | None:
    found = next((frame for frame in scope.frames if name in frame), None)
    if found is None:
        _refuse(f"`{name:.63}` is no table of this statement.")
    return found[name]


def _assigned(node: object) -> Iterator[str]:
    match node:
        case exp.Column() if node.args.get("table") is None and isinstance(node.this, exp.Identifier):
            yield _name(node.this)
        case exp.Tuple():
            for each in node.expressions:
                yield from _assigned(each)
        case exp.Paren():
            yield from _assigned(node.this)
        case _:
            _refuse("What SET changes is the name of a column, without the table's.")


def _name(node: object) -> str:
    """As the server has it: folded, unless it was quoted (PostgreSQL, 4.1.1)."""
    if isinstance(node, exp.Column | exp.Ordered | exp.TableAlias):
        return _name(node.this)
    if not isinstance(node, exp.Identifier) or not node.name:
        _refuse("A name cannot be read.")
    if not node.args.get("quoted") and not node.name.isascii():
        _refuse("Write a name that is not ASCII in double quotes.")
    return node.name if node.args.get("quoted") else node.name.lower()


def _alias(node: exp.Expression) -> str:
    alias = node.args.get("alias")
    if alias is not None and alias.this is not None:
        return _name(alias.this)
    return _name(node.this) if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier) else ""


def _listed(value: Any) -> list[Any]:
    if value is None or value is False:
        return []
    return value if isinstance(value, list) else [value]


def _children(node: exp.Expression, but: tuple[str, ...] = ()) -> Iterator[object]:
    arguments: Mapping[str, Any] = node.args
    for key, value in arguments.items():
        if key not in but:
            yield from _listed(value)


def _require_known(node: exp.Expression, known: frozenset[str]) -> None:
    for key, value in node.args.items():
        if value not in (None, False, []) and key not in known:
            _refuse(f"A part of the statement is not read ({key.strip('_')}); leave it out.")


def _refuse(sentence: str) -> NoReturn:
    raise InvalidInput(sentence)
