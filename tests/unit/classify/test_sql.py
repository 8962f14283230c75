"""What a statement touches, as the server would read it; what cannot be read surely is refused."""

from __future__ import annotations

import logging

import pytest

from forestall.classify.sql import MAX_STATEMENT, read_statement
from forestall.core.errors import InvalidInput


def shown(text: str) -> dict[str, str]:
    return {
        f"{each.schema or '-'}.{each.table}": " ".join(
            f"{operation}({','.join(sorted(columns))})" for operation, columns in sorted(each.columns.items())
        )
        for each in read_statement(text)
    }


READ = {
    "SELECT id FROM shop.orders": {"shop.orders": "select(id)"},
    "SELECT * FROM t": {"-.t": "select(*)"},
    "TABLE t": {"-.t": "select(*)"},
    "SELECT count(*) FROM t": {"-.t": "select()"},
    "SELECT 1": {},
    "VALUES (1), (2)": {},
    'SELECT ID, "Id" FROM ORDERS': {"-.orders": "select(Id,id)"},
    "SELECT o FROM t o": {"-.t": "select(*)"},
    "SELECT o.* FROM t o JOIN u USING (id)": {"-.t": "select(*,id)", "-.u": "select(id)"},
    "SELECT a.x FROM t a JOIN t b ON b.y = a.y": {"-.t": "select(x,y)"},
    "SELECT x FROM t WHERE y = (SELECT max(z) FROM u)": {"-.t": "select(x,y)", "-.u": "select(z)"},
    "SELECT x FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.i = t.i)": {"-.t": "select(i,x)", "-.u": "select(i)"},
    "SELECT x AS n FROM t ORDER BY n": {"-.t": "select(x)"},
    "SELECT x, count(*) AS n FROM t GROUP BY x HAVING count(y) > 1 ORDER BY n LIMIT 3": {"-.t": "select(x,y)"},
    "SELECT x FROM a UNION ALL SELECT y FROM b": {"-.a": "select(x)", "-.b": "select(y)"},
    "WITH q AS (SELECT x FROM t) SELECT x FROM q": {"-.t": "select(x)"},
    "WITH t AS (SELECT x FROM shop.t) SELECT * FROM t": {"shop.t": "select(x)"},
    "WITH q AS (SELECT 1) SELECT * FROM s.q": {"s.q": "select(*)"},
    "WITH RECURSIVE q AS (SELECT i FROM t UNION SELECT t.j FROM t JOIN q ON q.i = t.i) SELECT * FROM q": {
        "-.t": "select(i,j)"
    },
    "SELECT q.id FROM (SELECT id FROM t) q": {"-.t": "select(id)"},
    "SELECT t.x, z.y FROM t, LATERAL (SELECT u.y FROM u WHERE u.i = t.i) z": {
        "-.t": "select(i,x)",
        "-.u": "select(i,y)",
    },
    "SELECT g FROM generate_series(1, 3) g": {},
    "SELECT row_number() OVER (PARTITION BY a ORDER BY b) FROM t": {"-.t": "select(a,b)"},
    "SELECT sum(x) FILTER (WHERE y > 0) FROM t": {"-.t": "select(x,y)"},
    "SELECT x -- , secret\nFROM t /* , u */": {"-.t": "select(x)"},
    "SELECT x FROM t;": {"-.t": "select(x)"},
    "SELECT 'FROM secrets' FROM t": {"-.t": "select()"},
    "SELECT $q$;DROP TABLE x$q$ FROM t": {"-.t": "select()"},
    "INSERT INTO t (a, b) VALUES (1, 2)": {"-.t": "insert(a,b)"},
    "INSERT INTO t VALUES (1)": {"-.t": "insert(*)"},
    "INSERT INTO t DEFAULT VALUES": {"-.t": "insert(*)"},
    "INSERT INTO t (a) SELECT b FROM u RETURNING id": {"-.t": "insert(a) select(id)", "-.u": "select(b)"},
    "INSERT INTO t (a) VALUES (1) ON CONFLICT DO NOTHING": {"-.t": "insert(a)"},
    "INSERT INTO t (a) VALUES (1) ON CONFLICT (k) DO NOTHING": {"-.t": "insert(a) select(k)"},
    "UPDATE t SET a = 1": {"-.t": "update(a)"},
    "UPDATE t SET a = b + 1, (c, d) = (1, 2) WHERE e = 3": {"-.t": "select(b,e) update(a,c,d)"},
    "UPDATE t SET a = u.x FROM u WHERE u.i = t.i RETURNING t.*": {"-.t": "select(*,i) update(a)", "-.u": "select(i,x)"},
    "DELETE FROM t": {"-.t": "delete()"},
    "DELETE FROM t USING u WHERE u.i = t.i RETURNING t.j": {"-.t": "delete() select(i,j)", "-.u": "select(i)"},
}


@pytest.mark.parametrize("text", READ)
def test_it_touches(text: str) -> None:
    assert shown(text) == READ[text]


REFUSED = {
    "": "Only SELECT",
    ";": "Only SELECT",
    "SELECT 1; SELECT 2": "2 statements",
    "SELECT x FROM t; DROP TABLE t": "",
    "DROP TABLE t": "Only SELECT",
    "TRUNCATE t": "Only SELECT",
    "COPY t TO PROGRAM 'id'": "Only SELECT",
    "EXPLAIN ANALYZE DELETE FROM t": "Only SELECT",
    "DO $$ BEGIN END $$": "Only SELECT",
    "SET ROLE admin": "Only SELECT",
    "MERGE INTO t USING u ON t.i = u.i WHEN MATCHED THEN DELETE": "Only SELECT",
    "WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x": "none of the last three inside another",
    "SELECT * INTO x FROM t": "not read (into)",
    "SELECT * FROM t FOR UPDATE": "not read (locks)",
    "SELECT x FROM a.b.c": "not read (catalog)",
    "SELECT x FROM t NATURAL JOIN u": "NATURAL JOIN",
    "SELECT x FROM t JOIN u ON t.i = u.i": "Whose column is `x`",
    "SELECT z.x FROM t": "`z` is no table",
    "SELECT t.x FROM t, t": "stands for two things",
    "SELECT q.x FROM t, (SELECT t.x FROM u) q": "`t` is no table",
    "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = 2": "only DO NOTHING",
    "UPDATE t SET a[1] = 2": "What SET changes",
    "UPDATE t SET t.a = 2": "What SET changes",
    "SELECT ünïcode FROM t": "not ASCII",
    "SELECT FROM WHERE": "",
    "SELECT (1": "cannot be read",
    "SELECT " + "(" * 100 + "1" + ")" * 100: "nests too deeply",
    "SELECT '" + "x" * MAX_STATEMENT + "'": "longer than",
    "SELECT " + "1," * 4000 + "1": "too many words",
}


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:60])
def test_it_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_statement(text)
    assert REFUSED[text] in str(caught.value)


def test_what_cannot_be_read_is_not_logged(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    caplog.set_level(logging.DEBUG)
    for text in ("EXPLAIN SELECT 'hunter2'", "WITH x AS (EXPLAIN SELECT 'hunter2') SELECT 1", "SELECT 'hunter2' FROM"):
        with pytest.raises(InvalidInput) as caught:
            read_statement(text)
        assert "hunter2" not in str(caught.value)
    assert "hunter2" not in caplog.text + "".join(capfd.readouterr())
