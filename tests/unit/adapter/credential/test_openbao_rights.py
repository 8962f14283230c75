"""A lease's rights follow from the class, the grant and plain parameters, and from nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.adapter.credential.openbao_rights import Kind, Method, Wanted, fields, plan
from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.model import Scope
from forestall.core.reason import Reason
from tests.unit.adapter.credential.vault import grant, permit

ROLES = {Effect.READ: "shop-ro", Effect.WRITE: "shop-rw"}
BY_ROLE = Wanted(Kind.DATABASE, ("{role}",), "database/creds/{role}", roles=ROLES)
BY_CUSTOMER = Wanted(
    Kind.DYNAMIC, ("of-{customer}",), "pki/issue/{customer}", Method.WRITE, {"name": "{customer}.example", "ttl": 60}
)
BOTH = (Effect.READ, Effect.WRITE)


def test_a_call_gets_the_role_of_its_gravest_effect() -> None:
    read = plan(BY_ROLE, Scope.ACTION, permit(), grant(*BOTH))
    assert (read["path"], read["policies"], read["leases"]) == (
        "database/creds/shop-ro",
        ["shop-ro"],
        ["database/creds/shop-ro"],
    )
    assert plan(BY_ROLE, Scope.ACTION, permit(*BOTH), grant(*BOTH))["path"] == "database/creds/shop-rw"


def test_a_task_gets_the_role_of_the_gravest_effect_that_it_may_have_and_the_class_knows() -> None:
    assert plan(BY_ROLE, Scope.TASK, permit(), grant(*BOTH))["path"] == "database/creds/shop-rw"
    assert plan(BY_ROLE, Scope.TASK, permit(), grant())["path"] == "database/creds/shop-ro"
    wide = grant(*BOTH, Effect.EXTERNAL)
    assert plan(BY_ROLE, Scope.TASK, permit(), wide)["path"] == "database/creds/shop-rw"


@pytest.mark.parametrize("scope", Scope)
@pytest.mark.parametrize("effects", [(Effect.EXTERNAL,), (Effect.READ, Effect.DESTRUCTIVE)])
def test_an_effect_without_a_role_is_out_of_scope(scope: Scope, effects: tuple[Effect, ...]) -> None:
    with pytest.raises(CannotDo) as caught:
        plan(BY_ROLE, scope, permit(*effects), grant(*Effect))
    assert caught.value.reason is Reason.OUT_OF_SCOPE


@pytest.mark.parametrize("scope", Scope)
def test_more_than_the_grant_is_out_of_scope(scope: Scope) -> None:
    with pytest.raises(CannotDo) as caught:
        plan(BY_ROLE, scope, permit(Effect.WRITE), grant(Effect.READ))
    assert caught.value.reason is Reason.OUT_OF_SCOPE


def test_a_mandates_parameter_is_no_role() -> None:
    with pytest.raises(CannotDo, match="`role`"):
        plan(
            Wanted(Kind.DATABASE, ("p",), "database/creds/{role}"),
            Scope.ACTION,
            permit(),
            grant(parameters={"role": "rw"}),
        )
    named = grant(parameters={"role": "rw"})
    assert plan(BY_ROLE, Scope.ACTION, permit(), named)["path"] == "database/creds/shop-ro"


def test_parameters_are_filled_in_everywhere() -> None:
    assert plan(BY_CUSTOMER, Scope.ACTION, permit(), grant(parameters={"customer": "ada-1"})) == {
        "kind": "dynamic",
        "policies": ["of-ada-1"],
        "leases": ["pki/issue/ada-1"],
        "path": "pki/issue/ada-1",
        "method": "write",
        "data": {"name": "ada-1.example", "ttl": 60},
    }


def test_of_a_token_there_is_no_path() -> None:
    wanted = Wanted(Kind.TOKEN, ("{role}", "base"), roles=ROLES, leases=("database/creds/{role}",), uses=3)
    assert plan(wanted, Scope.ACTION, permit(), grant()) == {
        "kind": "token",
        "policies": ["base", "shop-ro"],
        "leases": ["database/creds/shop-ro"],
        "uses": 3,
    }


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a/b",
        "..",
        "a..b",
        ".a",
        "a%2fb",
        "{role}",
        "a b",
        "a,b",
        "a*",
        "a+",
        "a\n",
        "é",
        "a" * 129,
        "'; DROP ROLE x",
        '"',
        "a?b",
        "a#b",
    ],
)
def test_a_value_that_is_more_than_a_name_is_refused(value: str) -> None:
    with pytest.raises(CannotDo) as caught:
        plan(BY_CUSTOMER, Scope.ACTION, permit(), grant(parameters={"customer": value}))
    assert caught.value.reason is Reason.INVALID_ARGUMENTS
    assert "`customer`" in caught.value.detail


def test_a_parameter_that_the_task_does_not_have_is_told() -> None:
    with pytest.raises(CannotDo, match="needs the parameter `customer`") as caught:
        plan(BY_CUSTOMER, Scope.ACTION, permit(), grant())
    assert caught.value.reason is Reason.INVALID_ARGUMENTS


@given(st.text())
def test_whatever_the_value_is_it_stays_within_its_segment(value: str) -> None:
    try:
        found = plan(BY_CUSTOMER, Scope.ACTION, permit(), grant(parameters={"customer": value}))
    except CannotDo:
        return
    assert found["path"].split("/") == ["pki", "issue", value]
    assert value.isascii()
    assert value not in {"", ".", ".."}


@pytest.mark.parametrize("template", ["{", "}", "a{b", "{A}", "{a b}", "{{a}}", "{}", "{a}}"])
def test_a_template_that_is_none(template: str) -> None:
    with pytest.raises(ValueError, match="brace"):
        fields(template)
