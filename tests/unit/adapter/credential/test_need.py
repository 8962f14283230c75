"""What a credential is needed for: templates, effects, names."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.adapter.credential.need import Template, effects_of, require_name
from forestall.core.ask import CannotDo
from forestall.core.effects import UNKNOWN, Effect
from forestall.core.model import Scope
from forestall.core.reason import Reason
from tests.backends.leases import EVERYTHING, READ, action, grant, lease, permit

WORD = re.compile(r"[a-z]{1,8}")
PREFIX = "forestall-0123abcd-"


def test_a_template_takes_the_tasks_parameters_and_the_calls_arguments() -> None:
    template = Template.parse("{parameters.account}/{arguments.repo-name}")
    asked = action(**{"repo-name": "shop", "account": "other"})
    assert template.fill(grant(parameters={"account": "acme"}), asked, WORD) == "acme/shop"
    assert template.needs_arguments
    assert not template.fixed
    assert Template.parse("plain").fixed
    assert not Template.parse("{parameters.x}").needs_arguments


@pytest.mark.parametrize(
    "text", ["{", "}", "{x}", "{{x}}", "{parameters}", "{parameters.}", "{arguments.a.b}", "{ arguments.a}"]
)
def test_a_brace_that_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="brace"):
        Template.parse(text)


@pytest.mark.parametrize("value", [None, "", "UPPER", "a b", "ok\n", 7, ["ok"], {"ok": "ok"}, True])
def test_a_value_is_a_whole_name_or_the_call_is_refused(value: object) -> None:
    with pytest.raises(CannotDo) as caught:
        Template.parse("{arguments.x}").fill(grant(), action(x=value), WORD)
    assert caught.value.reason is Reason.INVALID_ARGUMENTS
    with pytest.raises(CannotDo) as caught:
        Template.parse("{parameters.x}").fill(grant(parameters={"x": "UPPER"}), action(x="ok"), WORD)
    assert caught.value.reason is Reason.OUT_OF_SCOPE


@given(st.text())
def test_a_value_is_never_read_as_a_template(text: str) -> None:
    filled = Template.parse("<{arguments.x}>").fill(
        grant(parameters={"y": "z"}), action(x=text), re.compile(r"(?s:.*)")
    )
    assert filled == f"<{text}>"


@given(st.frozensets(st.sampled_from(Effect)), st.frozensets(st.sampled_from(Effect)))
def test_an_actions_credential_has_its_effects_and_a_tasks_all_of_them(
    mine: frozenset[Effect], allowed: frozenset[Effect]
) -> None:
    if not (mine or UNKNOWN) <= allowed:
        with pytest.raises(CannotDo) as caught:
            effects_of(Scope.ACTION, permit(mine), grant(allowed))
        assert caught.value.reason is Reason.OUT_OF_SCOPE
        return
    assert effects_of(Scope.ACTION, permit(mine), grant(allowed)) == (mine or UNKNOWN)
    assert effects_of(Scope.TASK, permit(mine), grant(allowed)) == allowed


def test_a_call_that_only_reads_is_for_reading() -> None:
    assert effects_of(Scope.ACTION, permit(READ), grant(EVERYTHING)) == READ


@pytest.mark.parametrize(
    "name", ["forestall-0123abcd-" + 32 * "f", "forestall-0123abcd-action-2", "forestall-0123abcd-1"]
)
def test_our_own_names_pass(name: str) -> None:
    assert require_name(replace(lease({}), name=name), PREFIX) == name


@given(st.text(alphabet="forestall-0123abcd/\\.\n\"'*{}$:ABC ", max_size=40))
def test_a_name_with_anything_special_does_not(tail: str) -> None:
    name = PREFIX + tail
    if re.fullmatch(r"[a-z0-9-]{0,39}[a-z0-9]", tail):
        return
    with pytest.raises(CannotDo) as caught:
        require_name(replace(lease({}), name=name), PREFIX)
    assert not tail or name not in caught.value.detail
