"""Whatever a statement is: it is read, or refused with one sentence. Never anything else."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import example, given
from hypothesis import strategies as st

from forestall.classify.sql import read_statement
from forestall.core.errors import InvalidInput

LANGUAGE = """SELECT FROM WHERE INSERT INTO VALUES UPDATE SET DELETE USING JOIN LATERAL ON NATURAL LEFT WITH RECURSIVE
AS UNION ALL GROUP BY ORDER HAVING LIMIT RETURNING CASE WHEN THEN END EXISTS IN NOT NULL ARRAY ONLY TABLESAMPLE OVER
PARTITION CONFLICT DO NOTHING DEFAULT COPY PROGRAM EXPLAIN ROWS a b t u id * . , ( ) [ ] = + ; :: $1 'x' "Y" $$ -- /* */
E'\\' U&"x" f( count(*) t.* ::int 1"""
WORDS = LANGUAGE.split()


@given(st.lists(st.sampled_from(WORDS), max_size=40).map(" ".join))
@example("SELECT * FROM ROWS FROM (f(1))")
@example("SELECT a FROM t TABLESAMPLE SYSTEM (1)")
@example("WITH RECURSIVE t AS (VALUES (1)) TABLE t")
@example("UPDATE t SET (a) = ROW(1)")
def test_words_of_the_language_are_read_or_refused(text: str) -> None:
    with suppress(InvalidInput):
        read_statement(text)


@given(st.text(max_size=200))
@example("SELECT \ud800")
@example("SELECT \0")
@example("select '")
def test_any_text_is_read_or_refused(text: str) -> None:
    for begin in ("", "SELECT ", "WITH x AS (", "INSERT INTO "):
        with suppress(InvalidInput):
            read_statement(begin + text)
