from __future__ import annotations

import json
from pathlib import Path

import pytest

from forestall import config
from forestall.core.effects import Confidence, Effect
from forestall.core.errors import PolicyInvalid
from forestall.core.label import CLEAN
from forestall.core.model import Assurance, Decision, Facts, Grant, Question, Ruling, Subject, Tool
from forestall.home import Home
from forestall.policy import bundle, cases
from forestall.policy.cedar import CedarEngine
from forestall.policy.check import check
from forestall.setup.starter import write_schema, write_starter, write_tests

SCHEMA = {
    "type": "object",
    "properties": {
        "s": {"type": "string"},
        "i": {"type": "integer", "minimum": 3},
        "b": {"type": "boolean"},
        "e": {"type": "string", "enum": ["one"]},
        "l": {"type": "array", "items": {"type": "string"}},
        "u": {"type": "string", "format": "uri"},
        "d": {"type": "string", "default": 'quo"te\U0001f600\x7f'},
    },
    "required": ["s", "i", "b", "e", "l", "u", "d"],
}


def tool(name: str, *effects: Effect, confidence: Confidence = Confidence.DECLARED) -> Tool:
    return Tool("s", name, "", frozenset(effects), confidence, input_schema=SCHEMA)


TOOLS = [
    tool("unsure", Effect.DESTRUCTIVE, Effect.EXTERNAL, confidence=Confidence.ASSUMED),
    tool("look", Effect.READ),
    *(tool(effect.value, Effect.READ, effect) for effect in Effect if effect is not Effect.READ),
]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    write_starter(home)
    return home


def ruling(home: Home, one: Tool) -> Ruling:
    engine = CedarEngine.build(bundle.read(home.policy), TOOLS)
    subject = Subject("s", Assurance.LOCAL)
    grant = Grant("t", "s", "", "default", ("*",), frozenset(Effect), 0)
    facts = Facts(CLEAN, one.effects, one.confidence, False)
    arguments = {"s": "x", "i": 3, "b": True, "e": "one", "l": [], "u": "x", "d": "x"}
    return engine.evaluate(Question(subject, grant, one, arguments, facts))


def test_the_starter_policy_is_sound(home: Home) -> None:
    report = check(home.policy, TOOLS)
    assert report.problems == ()
    assert report.engine is not None


def test_reads_are_permitted_and_everything_else_waits_for_the_owner(home: Home) -> None:
    for one in TOOLS:
        decided = ruling(home, one)
        if one.effects == {Effect.READ}:
            assert decided.decision is Decision.PERMIT
        else:
            assert decided.decision is Decision.HOLD
            assert [approval.approvers for approval in decided.approvals] == [("local",)]


def test_the_starter_mandate_is_the_default_one(home: Home) -> None:
    mandate = config.load_mandates(home)["default"]
    assert mandate.tools == ("*",)
    assert mandate.effects == set(Effect)
    assert mandate.lifetime_ms > 0


def test_what_is_there_is_kept(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.mandates.mkdir(parents=True)
    (home.policy / "mine.cedar").write_text("")
    (home.mandates / "mine.toml").write_text("")
    assert write_starter(home) == ()
    assert not (home.policy / "starter.cedar").exists()
    assert write_starter(Home(tmp_path / "other")) != ()
    assert write_starter(Home(tmp_path / "other")) == ()


def test_the_tests_that_are_written_hold(home: Home) -> None:
    path = write_tests(home, TOOLS)
    assert path is not None
    engine = CedarEngine.build(bundle.read(home.policy), TOOLS)
    found = cases.read(path.parent)
    assert len(found) == len(Effect) + 1
    assert "unsure" not in path.read_text()
    for case in found:
        assert cases.run(case, engine, {one.id: one for one in TOOLS}).problem == ""
    assert write_tests(home, TOOLS) is None


def test_tests_say_what_another_policy_decides_only_where_it_is_so(home: Home) -> None:
    (home.policy / "starter.cedar").write_text('@id("all") permit (principal, action, resource);')
    path = write_tests(home, TOOLS)
    assert path is not None
    assert cases.read(path) == []


def test_a_policy_that_is_not_sound_has_no_tests(home: Home) -> None:
    (home.policy / "starter.cedar").write_text("permit (")
    with pytest.raises(PolicyInvalid):
        write_tests(home, TOOLS)
    assert not (home.policy / "tests").exists()


def test_the_schema_speaks_of_every_tool(home: Home) -> None:
    path = write_schema(home, TOOLS)
    assert path is not None
    actions = next(iter(json.loads(path.read_text()).values()))["actions"]
    assert {one.id for one in TOOLS} <= set(actions)
    assert write_schema(home, TOOLS) is None
    assert write_schema(home, TOOLS[:1]) == path
