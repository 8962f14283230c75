"""What every `port.Engine` promises. Each adapter of the port is a case of `build`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from forestall.core.effects import Effect
from forestall.core.model import Decision, Tool
from forestall.core.reason import Reason
from forestall.policy import bundle
from forestall.policy.cedar import CedarEngine
from forestall.port import Engine
from tests.unit.policy.world import DELETE_FILE, PERMIT_ALL, READ_FILE, TOOLS, question, tool

Build = Callable[[str, Sequence[Tool]], Engine]


def cedar(text: str, tools: Sequence[Tool] = TOOLS) -> Engine:
    return CedarEngine.build(bundle.from_texts({"a.cedar": text}), tools)


@pytest.fixture(params=[cedar], ids=["cedar"])
def build(request: pytest.FixtureRequest) -> Build:
    return request.param


READS = 'permit (principal, action in Action::"read", resource);'
ASKS = '@approvers("ann") permit (principal, action, resource) when { context has approval };'


def test_a_ruling_names_what_it_followed(build: Build) -> None:
    built = build(READS, TOOLS)
    for ruling in (
        built.evaluate(question(READ_FILE, {"path": "a"})),
        built.evaluate(question(DELETE_FILE, {"path": "a"})),
    ):
        assert ruling.policy_digest == built.digest
        assert ruling.slice_digest.startswith("sha256:")


def test_a_permit_has_policies_and_no_reason(build: Build) -> None:
    ruling = build(READS, TOOLS).evaluate(question(READ_FILE, {"path": "a"}))
    assert ruling.decision is Decision.PERMIT
    assert ruling.policies
    assert ruling.reason is None
    assert not ruling.approvals


def test_a_denial_has_a_reason(build: Build) -> None:
    ruling = build(READS, TOOLS).evaluate(question(DELETE_FILE, {"path": "a"}))
    assert (ruling.decision, ruling.reason) == (Decision.DENY, Reason.NO_POLICY)


def test_a_hold_says_whose_approval_it_waits_for(build: Build) -> None:
    ruling = build(ASKS, TOOLS).evaluate(question(DELETE_FILE, {"path": "a"}))
    assert (ruling.decision, ruling.reason) == (Decision.HOLD, Reason.NEEDS_APPROVAL)
    assert ruling.approvals
    assert all(approval.approvers for approval in ruling.approvals)


def test_the_same_question_gets_the_same_ruling(build: Build) -> None:
    asked = question(READ_FILE, {"path": "a"})
    assert (
        len({repr(engine.evaluate(asked)) for engine in (build(READS, TOOLS), build(READS, TOOLS)) for _ in range(3)})
        == 1
    )


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": None},
        {"arguments": {"path": object()}},
        {"arguments": {1: "a"}},
        {"facts": None},
        {"subject": None},
        {"grant": None},
        {"tool": None},
    ],
)
def test_whatever_goes_wrong_is_a_denial(build: Build, change: dict[str, Any]) -> None:
    asked = replace(question(READ_FILE, {"path": "a"}), **change)
    ruling = build(f'{READS} forbid (principal, action, resource) when {{ context.task.id == "x" }};', TOOLS).evaluate(
        asked
    )
    assert ruling.decision is Decision.DENY
    assert ruling.reason in (Reason.POLICY_ERROR, Reason.INVALID_ARGUMENTS)


def test_an_unknown_tool_is_a_denial(build: Build) -> None:
    built = build(PERMIT_ALL, TOOLS)
    assert built.evaluate(question(tool("nobody", server="knows"), {})).decision is Decision.DENY
    assert not built.could_permit(tool("nobody", server="knows"))


def test_a_tool_that_could_not_be_permitted_never_is(build: Build) -> None:
    built = build(READS, TOOLS)
    assert built.could_permit(READ_FILE)
    assert not built.could_permit(DELETE_FILE)
    assert built.evaluate(question(DELETE_FILE, {"path": "a"})).decision is Decision.DENY


def test_a_tool_that_an_approval_could_permit_is_shown(build: Build) -> None:
    assert build(ASKS, TOOLS).could_permit(DELETE_FILE)


def test_the_protocols_own_methods_are_asked_about_like_tools(build: Build) -> None:
    method = Tool("mcp", "vendor/method", "", frozenset({Effect.DESTRUCTIVE, Effect.EXTERNAL}))
    assert build(READS, TOOLS).evaluate(question(method, {})).decision is Decision.DENY
    assert build(PERMIT_ALL, TOOLS).evaluate(question(method, {})).decision is Decision.PERMIT
