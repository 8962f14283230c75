from __future__ import annotations

from pathlib import Path

import pytest

from forestall.core.errors import PolicyInvalid, SetupError
from forestall.core.label import Confidentiality, Integrity
from forestall.policy.cases import question, read, run
from tests.unit.policy.world import DELETE_FILE, TOOLS, engine

HEAD = '[[case]]\nname = "n"\ntool = "fs/delete"\nexpect = "deny"\n'
TOOL_IDS = {tool.id: tool for tool in TOOLS}


def cases(tmp_path: Path, text: str) -> list[object]:
    file = tmp_path / "t.toml"
    file.write_text(text)
    return list(read(file))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[case]]\n", r"t\.toml:1: .*`name` is missing"),
        ('[[case]]\nname = "n"\ntool = "t"\n', r"t\.toml:1: .*`expect` is missing"),
        (
            HEAD + "\n" + HEAD + "argumens = {}\n",
            r"t\.toml:6: .*`argumens` means nothing here. Did you mean `arguments`",
        ),
        (HEAD.replace("deny", "allow"), r"`expect` is never `allow`"),
        (HEAD + 'reason = "forbiden"\n', r"Did you mean `forbidden`"),
        (HEAD + "arguments = []\n", "`arguments` has a value of the wrong type"),
        (HEAD + "depth = true\n", "`depth` has a value of the wrong type"),
        ("[[cases]]\n", "holds `\\[\\[case\\]\\]` tables and nothing else"),
        ("case = 3\n", "holds `\\[\\[case\\]\\]` tables"),
        ("[case]\n", "holds `\\[\\[case\\]\\]` tables"),
        ("not toml", r"t\.toml:1:5: This is not TOML"),
    ],
)
def test_a_malformed_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(SetupError, match=words):
        cases(tmp_path, text)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ('labels = { integrity = "clean" }', "clean"),
        ('labels = { secrecy = "public" }', r"labels\.secrecy"),
        ('effects = ["explode"]', "explode"),
        ('assurance = "high"', "high"),
        ('paths = { path = "a/../b" }', r"real paths"),
        ("paths = { path = 3 }", r"real paths"),
    ],
)
def test_a_fact_that_there_is_not_is_refused(tmp_path: Path, more: str, words: str) -> None:
    (case,) = cases(tmp_path, HEAD + more)
    with pytest.raises(PolicyInvalid, match=words):
        question(case, DELETE_FILE)  # type: ignore[arg-type]


def test_what_is_not_written_is_harmless(tmp_path: Path) -> None:
    (case,) = cases(tmp_path, HEAD)
    asked = question(case, DELETE_FILE)  # type: ignore[arg-type]
    assert asked.facts.labels.integrity is Integrity.TRUSTED
    assert asked.facts.labels.confidentiality is Confidentiality.PUBLIC
    assert asked.facts.effects == DELETE_FILE.effects
    assert not asked.facts.reaches_own_files


def test_facts_are_what_the_case_says(tmp_path: Path) -> None:
    more = (
        'labels = { integrity = "untrusted", confidentiality = "secret" }\neffects = ["external"]\nown_files = true\n'
        'purpose = "p"\nmandate = "m"\ntask = "t"\ndepth = 2\n'
        'subject = "s"\nassurance = "embedded"\nasserted_name = "c"\n'
        'directory = "/d"\npaths = { path = "a", files = ["/x", "."] }\n'
    )
    (case,) = cases(tmp_path, HEAD + more)
    asked = question(case, DELETE_FILE)  # type: ignore[arg-type]
    assert asked.facts.labels.confidentiality is Confidentiality.SECRET
    assert {effect.value for effect in asked.facts.effects} == {"external", "destructive"}
    assert asked.facts.reaches_own_files
    assert (asked.grant.purpose, asked.grant.mandate, asked.grant.task, asked.facts.depth) == ("p", "m", "t", 2)
    assert (asked.subject.id, asked.subject.assurance.value, asked.subject.asserted_name) == ("s", "embedded", "c")
    assert (asked.facts.paths["path"][0].real, asked.facts.paths["path"][0].inside) == ("/d/a", "a")
    assert [path.inside for path in asked.facts.paths["files"]] == [None, ""]


@pytest.mark.parametrize(
    ("expect", "problem"),
    [
        ('expect = "permit"\npolicies = ["p"]\ncredential = "git"', ""),
        ('expect = "deny"', "wanted expect 'deny'; got permit by `p`, with the credential `git`"),
        ('expect = "permit"\nreason = "forbidden"', "wanted reason 'forbidden'; got permit"),
        ('expect = "permit"\npolicies = []', "wanted policies []; got permit"),
        ('expect = "permit"\npolicies = ["p", "q"]', "wanted policies ['p', 'q']; got permit"),
        ('expect = "permit"\napprovers = ["ann"]', "wanted approvers ['ann']; got permit"),
        ('expect = "permit"\ncredential = "mail"', "wanted credential 'mail'; got permit"),
    ],
)
def test_a_case_says_what_was_decided_instead(tmp_path: Path, expect: str, problem: str) -> None:
    built = engine('@id("p") @credential("git") permit (principal, action, resource);')
    text = f'[[case]]\nname = "n"\ntool = "fs/delete"\narguments = {{ path = "a" }}\n{expect}\n'
    (case,) = cases(tmp_path, text)
    found = run(case, built, TOOL_IDS).problem  # type: ignore[arg-type]
    assert found.startswith(problem)
    assert bool(found) == bool(problem)


def test_a_case_may_be_about_an_unknown_method(tmp_path: Path) -> None:
    (case,) = cases(tmp_path, '[[case]]\nname = "n"\ntool = "mcp/vendor/new"\nexpect = "deny"\nreason = "no_policy"')
    assert run(case, engine(), TOOL_IDS).problem == ""  # type: ignore[arg-type]


def test_what_is_permitted_and_unbound_waits_for_its_owner(tmp_path: Path) -> None:
    text = '[[case]]\nname = "n"\ntool = "fs/delete"\narguments = { path = "a" }\nunbound = ["path"]\n'
    world = engine('@id("all") permit (principal, action, resource);')
    (held,) = cases(tmp_path, text + 'expect = "hold"\nreason = "needs_approval"\napprovers = ["owner"]\n')
    assert run(held, world, TOOL_IDS).problem == ""  # type: ignore[arg-type]
    (wrong,) = cases(tmp_path, text + 'expect = "permit"\n')
    assert "waiting for owner" in run(wrong, world, TOOL_IDS).problem  # type: ignore[arg-type]
