from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cedarpy
import pytest

from forestall.core.errors import PolicyInvalid
from forestall.core.model import Decision, Question, Ruling
from forestall.policy import cedar, lint, shape
from forestall.policy import slice as slices
from forestall.policy.cedar import CedarEngine
from tests.unit.policy.world import PERMIT_ALL, engine

Break = Callable[[pytest.MonkeyPatch], None]


def lose_the_groups(patch: pytest.MonkeyPatch) -> None:
    """Entities built without the schema: Cedar then drops the action groups, and says nothing."""
    original = cedarpy.Entities.from_json_str
    patch.setattr(cedarpy.Entities, "from_json_str", staticmethod(lambda text, schema=None: original(text)))


def believe_allow(patch: pytest.MonkeyPatch) -> None:
    """An answer with errors in it, taken at its word."""

    def ask(request: Any, policies: Any, entities: Any, schema: Any, names: Any) -> slices.Verdict:
        answer = cedarpy.is_authorized(dict(request), policies, entities, schema)
        return slices.Verdict(answer.allowed, tuple(answer.diagnostics.reasons), None)

    patch.setattr(slices, "ask", ask)


def skip_the_lint(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cedar, "lint", lambda *_: [])


def miss_misspelt_names(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lint, "_exists", lambda *_: True)


def pass_anything(patch: pytest.MonkeyPatch) -> None:
    """Arguments as they come."""
    patch.setattr(shape.Text, "cedar", lambda _, value, at: value)


def pass_undeclared(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(shape.Fields, "_require_accepted", lambda *_: None)


def permit_whatever(patch: pytest.MonkeyPatch) -> None:
    def evaluate(self: CedarEngine, question: Question) -> Ruling:
        return Ruling(Decision.PERMIT, self.digest, "", policies=("x",))

    patch.setattr(CedarEngine, "evaluate", evaluate)


def deny_whatever(patch: pytest.MonkeyPatch) -> None:
    def evaluate(self: CedarEngine, question: Question) -> Ruling:
        return Ruling(Decision.DENY, self.digest, "")

    patch.setattr(CedarEngine, "evaluate", evaluate)


@pytest.mark.parametrize(
    "break_it",
    [
        lose_the_groups,
        believe_allow,
        skip_the_lint,
        miss_misspelt_names,
        pass_anything,
        pass_undeclared,
        permit_whatever,
        deny_whatever,
    ],
)
def test_a_broken_engine_does_not_start(break_it: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    built = engine(PERMIT_ALL)
    break_it(monkeypatch)
    with pytest.raises(PolicyInvalid, match="failed its self-test"):
        built.self_test()


def test_a_slice_that_lost_its_groups_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        lose_the_groups(patch)
        built = engine(PERMIT_ALL)
    with pytest.raises(PolicyInvalid, match="the groups of"):
        built.self_test()
