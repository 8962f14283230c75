"""What an administrator runs in a database, once: the functions that Forestall calls there, and policies for rows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files

from forestall.core.errors import InvalidInput

MAX_NAME = 63
"""Bytes of an identifier (PostgreSQL, 4.1.1). It cuts longer ones, which would then be another's."""

_OWNER = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Setup:
    owner: str
    """8 hex digits: which Forestall it is."""
    login: str
    """The role that it logs in as."""
    database: str
    longest_s: int
    """The longest that a lease lives, whatever `credentials.toml` says: seconds."""


def identifier(name: str) -> str:
    """Quoted, so that it is that name and nothing else (PostgreSQL, 4.1.1). Raises InvalidInput where none is so."""
    if not name or "\0" in name or len(name.encode(errors="replace")) > MAX_NAME:
        raise InvalidInput(f"`{name[:80]!s}` is no name in PostgreSQL: 1 to {MAX_NAME} bytes, none of them zero.")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string constant, whatever `standard_conforming_strings` says (PostgreSQL, 4.1.2.2). Raises InvalidInput."""
    if "\0" in text:
        raise InvalidInput("A text in PostgreSQL has no zero byte.")
    return " E'" + text.replace("\\", "\\\\").replace("'", "''") + "'"


def setup_script(setup: Setup) -> str:
    """For `psql`, as a superuser. Raises InvalidInput where a name is none."""
    if not _OWNER.fullmatch(setup.owner):
        raise InvalidInput("The owner is 8 hex digits.")
    if setup.longest_s <= 0:
        raise InvalidInput("The longest life of a lease is at least a second.")
    template = files("forestall.adapter.credential").joinpath("postgresql.sql").read_text(encoding="utf-8")
    comments = {"@LOGIN@ ": f"{_one_line(identifier(setup.login))} "}
    head, begin, body = template.partition("\\set ON_ERROR_STOP on")
    for mark, value in comments.items():
        head = head.replace(mark, value)
    values = {
        "@LOGIN@": identifier(setup.login),
        "@LOGIN_TEXT@": literal(setup.login).strip(),
        "@DATABASE@": identifier(setup.database),
        "@DATABASE_TEXT@": literal(setup.database).strip(),
        "@OWNER@": setup.owner,
        "@LONGEST_S@": str(setup.longest_s),
    }
    head = head.replace("@OWNER@", setup.owner)
    return head + begin + re.sub("|".join(values), lambda found: _not_ending(values[found[0]]), body)


def policy_script(table: str, column: str, parameter: str) -> str:
    """SQL that keeps leases to the rows of `schema.table` whose `column` is the value of the mandate's `parameter`.

    Everybody else sees what they saw before: a table that had no policies gets one that lets all rows through, and the
    one for leases is restrictive. To be run by the table's owner. Raises InvalidInput where a name is none.
    """
    schema, dot, name = table.partition(".")
    if not dot or "." in name:
        raise InvalidInput(f"`{table[:80]}` is written SCHEMA.TABLE.")
    target = f"{identifier(schema)}.{identifier(name)}"
    policy = identifier(policy_name(column, parameter))
    value = f"(SELECT forestall.parameter({literal(parameter).strip()}))"
    return _POLICY.format(
        target=target,
        target_text=literal(target).strip(),
        column=identifier(column),
        column_text=literal(column).strip(),
        policy=policy,
        policy_text=literal(policy).strip(),
        value_text=literal(value).strip(),
    )


def policy_name(column: str, parameter: str) -> str:
    """By which `forestall.issue` finds it. Raises InvalidInput where PostgreSQL would cut it."""
    name = f"forestall {column} = {parameter}"
    identifier(name)
    return name


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def _not_ending(value: str) -> str:
    """Inside a `$$` block a value must not end it."""
    if "$$" in value:
        raise InvalidInput("A name with `$$` in it is not supported.")
    return value


_POLICY = """\
-- Leases see the rows of {target} whose {column} is theirs; everybody else sees what they saw before.
BEGIN;
DO $forestall$
DECLARE
  type text;
BEGIN
  IF NOT (SELECT relrowsecurity FROM pg_catalog.pg_class WHERE oid = {target_text}::regclass) THEN
    DROP POLICY IF EXISTS "forestall: as before" ON {target};
    CREATE POLICY "forestall: as before" ON {target} USING (true) WITH CHECK (true);
    ALTER TABLE {target} ENABLE ROW LEVEL SECURITY;
  END IF;
  SELECT pg_catalog.format_type(atttypid, atttypmod) INTO STRICT type FROM pg_catalog.pg_attribute
    WHERE attrelid = {target_text}::regclass AND attname = {column_text} AND NOT attisdropped;
  EXECUTE pg_catalog.format('DROP POLICY IF EXISTS %s ON %s', {policy_text}, {target_text});
  -- Both names, so that a role of a lease that is put on (SET ROLE) by somebody else sees no rows.
  EXECUTE pg_catalog.format(
    'CREATE POLICY %s ON %s AS RESTRICTIVE USING ('
    '(session_user !~ ''^forestall-'' AND current_user !~ ''^forestall-'') OR %I = CAST(%s AS %s))',
    {policy_text}, {target_text}, {column_text}, {value_text}, type
  );
END
$forestall$;
COMMIT;
"""
