"""The least of what the class allows, the grant covers and the statement needs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.adapter.credential.postgresql_rights import Allow, Rules, plan_rights
from forestall.classify.sql import Operation
from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.model import Scope
from forestall.core.reason import Reason
from tests.postgres.shop import action, grant, permit

READ, WRITE, DESTRUCTIVE, EXTERNAL = Effect.READ, Effect.WRITE, Effect.DESTRUCTIVE, Effect.EXTERNAL
ALL = frozenset(Effect)

ALLOW = (
    Allow(("shop", "orders"), frozenset({Operation.SELECT}), frozenset({"id", "total", "status"}), {"cid": "customer"}),
    Allow(("shop", "orders"), frozenset({Operation.UPDATE}), frozenset({"status"})),
    Allow(("shop", "orders"), frozenset({Operation.DELETE})),
    Allow(("public", "log"), frozenset({Operation.INSERT, Operation.SELECT})),
)


def planned(
    sql: Any = None,
    *,
    effects: frozenset[Effect] = ALL,
    tool: frozenset[Effect] = ALL,
    parameters: dict[str, str] | None = None,
    scope: Scope = Scope.ACTION,
    statement: str = "sql",
) -> dict[str, Any]:
    rules = Rules("shop", scope, ALLOW, statement)
    asked = action() if sql is None else action(sql=sql)
    given_parameters = {"customer": "7", "other": "x"} if parameters is None else parameters
    found = plan_rights(rules, permit(tool), asked, grant(effects, given_parameters))
    return {f"{each['schema']}.{each['table']}": each["operations"] for each in found["tables"]}


@pytest.mark.parametrize(
    ("sql", "rights"),
    [
        ("SELECT id FROM shop.orders", {"shop.orders": {"select": ["id"]}}),
        ("SELECT * FROM shop.orders", {"shop.orders": {"select": ["id", "status", "total"]}}),
        ("SELECT count(*) FROM shop.orders", {"shop.orders": {"select": ["id"]}}),
        ("SELECT * FROM log", {"public.log": {"select": True}}),
        ("SELECT a FROM public.log", {"public.log": {"select": ["a"]}}),
        ("SELECT count(*) FROM log", {"public.log": {"select": True}}),
        ("INSERT INTO log (a) VALUES (1)", {"public.log": {"insert": ["a"]}}),
        (
            "SELECT a.id FROM shop.orders a JOIN log USING (id)",
            {"shop.orders": {"select": ["id"]}, "public.log": {"select": ["id"]}},
        ),
        (
            "UPDATE shop.orders SET status = 'x' WHERE id = 1",
            {"shop.orders": {"select": ["id"], "update": ["status"]}},
        ),
        ("DELETE FROM shop.orders WHERE id = 1", {"shop.orders": {"delete": True, "select": ["id"]}}),
        ("SELECT x FROM log UNION SELECT y FROM public.log", {"public.log": {"select": ["x", "y"]}}),
        ("SELECT 1", {}),
    ],
)
def test_a_statement_gets_what_it_needs(sql: str, rights: dict[str, Any]) -> None:
    assert planned(sql) == rights


@pytest.mark.parametrize(
    ("sql", "detail"),
    [
        ("SELECT secret FROM shop.orders", "select on shop.orders of `secret`"),
        ("SELECT id FROM shop.orders WHERE secret = 1", "of `secret`"),
        ("SELECT * FROM shop.salaries", "select on shop.salaries"),
        ("SELECT * FROM orders", "select on public.orders"),
        ('SELECT * FROM shop."Orders"', "select on shop.Orders"),
        ("SELECT * FROM pg_catalog.pg_authid", "pg_authid"),
        ("SELECT * FROM pg_authid", "pg_authid"),
        ("UPDATE shop.orders SET total = 1", "update on shop.orders of `total`"),
        ("INSERT INTO shop.orders (id) VALUES (1)", "insert on shop.orders"),
        ("DELETE FROM log", "delete on public.log"),
        ("UPDATE log SET a = 1", "update on public.log"),
        ("SELECT 1 FROM log WHERE EXISTS (SELECT 1 FROM shop.salaries)", "shop.salaries"),
    ],
)
def test_what_the_class_does_not_allow_is_out_of_scope(sql: str, detail: str) -> None:
    with pytest.raises(CannotDo) as caught:
        planned(sql)
    assert caught.value.reason is Reason.OUT_OF_SCOPE
    assert detail in caught.value.detail


@pytest.mark.parametrize("sql", [None, 1, ["SELECT 1"], "", "SELECT 1; SELECT 2", "DROP TABLE x", "SELECT ("])
def test_what_cannot_be_read_is_no_argument(sql: Any) -> None:
    with pytest.raises(CannotDo) as caught:
        planned(sql)
    assert caught.value.reason is Reason.INVALID_ARGUMENTS


NEEDS = {
    "SELECT id FROM shop.orders": {READ},
    "INSERT INTO log (a) VALUES (1)": {WRITE},
    "UPDATE shop.orders SET status = 'x'": {WRITE},
    "DELETE FROM shop.orders": {DESTRUCTIVE},
    "DELETE FROM shop.orders WHERE id = 1": {DESTRUCTIVE, READ},
    "UPDATE shop.orders SET status = 'x' WHERE id = 1": {WRITE, READ},
}


@given(st.sampled_from(sorted(NEEDS)), st.frozensets(st.sampled_from(Effect)))
def test_the_grant_has_an_effect_for_each_operation(sql: str, effects: frozenset[Effect]) -> None:
    if NEEDS[sql] <= effects:
        assert planned(sql, effects=effects)
        return
    with pytest.raises(CannotDo) as caught:
        planned(sql, effects=effects)
    assert caught.value.reason is Reason.OUT_OF_SCOPE


@pytest.mark.parametrize(
    ("sql", "tool", "may"),
    [
        ("SELECT id FROM shop.orders", {READ}, True),
        ("SELECT id FROM shop.orders", {WRITE}, True),
        ("SELECT id FROM shop.orders", {EXTERNAL}, False),
        ("SELECT id FROM shop.orders", set(), False),
        ("UPDATE shop.orders SET status = 'x' WHERE id = 1", {READ}, False),
        ("UPDATE shop.orders SET status = 'x' WHERE id = 1", {WRITE}, True),
        ("DELETE FROM shop.orders", {READ, WRITE}, False),
        ("DELETE FROM shop.orders", {DESTRUCTIVE, EXTERNAL}, True),
    ],
)
def test_a_tool_that_is_said_to_read_does_not_write(sql: str, tool: set[Effect], may: bool) -> None:
    if may:
        assert planned(sql, tool=frozenset(tool))
        return
    with pytest.raises(CannotDo, match="no effect that covers"):
        planned(sql, tool=frozenset(tool))


def test_a_task_gets_all_that_its_effects_leave_of_the_class() -> None:
    orders = {"delete": True, "select": ["id", "status", "total"], "update": ["status"]}
    assert planned(scope=Scope.TASK, statement="") == {
        "shop.orders": orders,
        "public.log": {"insert": True, "select": True},
    }
    assert planned(scope=Scope.TASK, statement="", effects=frozenset({READ})) == {
        "shop.orders": {"select": ["id", "status", "total"]},
        "public.log": {"select": True},
    }
    assert planned(scope=Scope.TASK, statement="", effects=frozenset({DESTRUCTIVE})) == {
        "shop.orders": {"delete": True}
    }
    with pytest.raises(CannotDo) as caught:
        planned(scope=Scope.TASK, statement="", effects=frozenset({EXTERNAL}))
    assert caught.value.reason is Reason.OUT_OF_SCOPE


def test_rows_are_chosen_by_the_tasks_own_parameters() -> None:
    rules = Rules("shop", Scope.ACTION, ALLOW, "sql")
    found = plan_rights(
        rules, permit(), action(sql="SELECT id FROM shop.orders"), grant(ALL, {"customer": "7", "x": "y"})
    )
    assert found["parameters"] == {"customer": "7"}
    assert found["tables"][0]["rows"] == {"cid": "customer"}
    found = plan_rights(rules, permit(), action(sql="SELECT a FROM log"), grant(ALL, {"customer": "7"}))
    assert found["parameters"] == {}
    with pytest.raises(CannotDo, match="parameter `customer`"):
        planned("SELECT id FROM shop.orders", parameters={})
    with pytest.raises(CannotDo, match="parameter `customer`"):
        planned("DELETE FROM shop.orders", parameters={"other": "x"})
