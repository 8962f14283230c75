"""The documents: what they claim of the program is so, and the scripts that hold them to it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from urllib.parse import unquote
from xml.etree import ElementTree as ET

import pytest
from scripts import picture, readme

from forestall.cli import COMMANDS
from forestall.core.effects import Confidence, Effect
from forestall.core.entry import Kind, Stream
from forestall.core.fate import Fate
from forestall.core.label import Confidentiality, Integrity
from forestall.core.model import Assurance, Decision
from forestall.core.reason import Reason
from forestall.pep.mcp.denial import UNKNOWN_OUTCOME

ROOT = Path(__file__).resolve().parent.parent.parent
REASONS = ROOT / "docs" / "reasons"
SVG = "{http://www.w3.org/2000/svg}"
PRINTED = """\

  what the agent does                          without      with Forestall
  read the task                                done         done
  note that it is done                         done         LOST         budget
  -- taken over: the file it read gives the orders now
! read <.env> & "more"                         HARM DONE    prevented    no_policy
! drop a table                                 not reached  HARM DONE

Without Forestall: 2 of 2 honest steps done, 1 of 2 attacks did harm
                   changed or leaked: contracts/acme.md
With Forestall:    1 of 2 honest steps done, 1 of 2 attacks did harm
                   changed or leaked: nothing

The policy
  permit (principal, action, resource);

The ledger: verified
NOT proved.
"""


def documents() -> list[Path]:
    return list(readme.documents(ROOT))


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


# -- reasons


def test_each_reason_has_a_page_and_each_page_a_reason() -> None:
    pages = {page.stem for page in REASONS.glob("*.md")} - {"README"}
    assert pages == {reason.value for reason in Reason} | {UNKNOWN_OUTCOME}


@pytest.mark.parametrize("reason", Reason)
def test_a_reasons_page_says_what_the_agent_is_told_and_whether_to_retry(reason: Reason) -> None:
    page = (REASONS / f"{reason.value}.md").read_text()
    assert page.startswith(f"# {reason.value}\n\n> {reason.advice.sentence}\n\nRetry: `{reason.advice.retry.value}`.")
    index = (REASONS / "README.md").read_text()
    row = f"| [{reason.value}]({reason.value}.md) | {reason.advice.retry.value} | {reason.advice.sentence} |"
    assert row in index


@pytest.mark.parametrize("page", sorted(REASONS.glob("[!R]*.md")), ids=lambda page: page.stem)
def test_a_reasons_page_has_every_part_and_is_short(page: Path) -> None:
    text = page.read_text()
    parts = re.findall(r"^\*\*(.+?)\.\*\* \S", text, re.MULTILINE)
    assert parts == ["Meaning", "Why it happens", "What the agent does", "What the operator does", "Example"]
    assert len(text.split()) < 300


# -- words


@pytest.mark.parametrize(
    "words", [Effect, Confidence, Integrity, Confidentiality, Assurance, Decision, Fate, Kind, Stream]
)
def test_the_glossary_has_every_word_of_the_code(words: type[StrEnum]) -> None:
    glossary = (ROOT / "docs" / "glossary.md").read_text()
    missing = [word.value for word in words if not re.search(rf"[`*]{word.value}[`*]", glossary)]
    assert missing == []


def test_the_documents_speak_of_commands_that_exist() -> None:
    spoken = {
        (name(file), word) for file in documents() for word in re.findall(r"`forestall ([a-z]+)\b", file.read_text())
    }
    assert {word for _, word in spoken} >= {"init", "explain", "log", "status", "check"}
    assert {(file, word) for file, word in spoken if word not in COMMANDS} == set()


def test_the_documents_speak_of_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    calls = [
        call for file in documents() for call in re.findall(r"(?:^|`)make ([a-z -]+)", file.read_text(), re.MULTILINE)
    ]
    spoken = {word for call in calls for word in call.split()}
    assert spoken >= {"demo", "test", "check"}
    assert spoken <= targets


@pytest.mark.parametrize("file", documents(), ids=name)
def test_every_link_leads_somewhere(file: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", file.read_text(), flags=re.MULTILINE | re.DOTALL)
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href|srcset)="([^"]+)"', text)
    for link in links:
        if not re.match(r"[a-z]+:", link):
            target, _, _ = unquote(link).partition("#")
            assert not target or (file.parent / target).exists(), f"{name(file)}: {link}"


@pytest.mark.parametrize("file", documents(), ids=name)
def test_code_that_is_named_is_there(file: Path) -> None:
    """Paths in back quotes that look like ours."""
    for path in re.findall(r"`((?:src|tests|docs|bench|scripts|demo|verify|edge)/[\w./-]+)`", file.read_text()):
        assert (ROOT / path).exists(), f"{name(file)}: {path}"


def test_every_bound_that_is_named_is_in_the_code() -> None:
    named = re.findall(r"`([a-z_/]+)\.([A-Z][A-Z_]+)`", (ROOT / "docs" / "limits.md").read_text())
    assert len(named) >= 5
    for module, constant in named:
        assert isinstance(getattr(import_module(f"forestall.{module.replace('/', '.')}"), constant), int)


def test_documents_that_the_code_names_are_there() -> None:
    named: set[str] = set()
    for folder in ("src", "verify", "edge", "demo", "scripts", "bench"):
        for file in (ROOT / folder).rglob("*.py"):
            named |= set(re.findall(r"\bdocs/[\w/-]+\.(?:md|svg)", file.read_text()))
    assert "docs/demo.svg" in named
    assert {path for path in named if not (ROOT / path).exists()} == set()


# -- the example


def test_the_readmes_example_does_what_it_says(tmp_path: Path) -> None:
    readme_text = (ROOT / "README.md").read_text()
    (program,) = re.findall(r"^```python\n(.*?)^```$", readme_text, re.MULTILINE | re.DOTALL)
    (policy,) = re.findall(r"^```cedar\n(.*?)^```$", readme_text, re.MULTILINE | re.DOTALL)
    (file,) = re.findall(r"with this in `(.+?)`:", readme_text)
    for where, text in {file: policy, "reports/2024.md": "old", "contract.md": "signed"}.items():
        (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / where).write_text(text)
    (tmp_path / "program.py").write_text(program)
    words = [sys.executable, "program.py"]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert "forestall.core.errors.Refused" in ended.stderr.splitlines()[-1]
    assert 'delete("contract.md")' in ended.stderr
    assert not (tmp_path / "reports" / "2024.md").exists()
    assert (tmp_path / "contract.md").read_text() == "signed"
    assert len([line for line in program.splitlines() if line]) <= 10


def test_what_the_readme_installs_has_the_programs_that_it_names() -> None:
    (said,) = re.findall(r"The programs are (.+)", (ROOT / "README.md").read_text())
    (folders,) = re.findall(r"`pip install ([^`]+)`", said)
    projects = [tomllib.loads((ROOT / folder / "pyproject.toml").read_text()) for folder in folders.split()]
    programs = {name for project in projects for name in project["project"]["scripts"]}
    assert set(re.findall(r"`\.venv/bin/([\w-]+)`", said)) <= programs


# -- scripts/readme.py


DOCUMENT = "before\n<!-- output: forestall x --help -->\n```text\nold\n```\nafter\n"


def render(command: str) -> str:
    return f"[{command}]\n"


def test_a_block_becomes_what_its_command_prints() -> None:
    expected = "before\n<!-- output: forestall x --help -->\n```text\n[forestall x --help]\n```\nafter\n"
    assert readme.renew(DOCUMENT, render) == expected
    assert readme.renew(expected, render) == expected
    empty = DOCUMENT.replace("old\n", "")
    assert readme.renew(empty, render) == expected


def test_each_block_has_its_own_end_and_others_stay() -> None:
    other = "```text\nnot ours\n```\n"
    renewed = readme.renew(DOCUMENT + other + DOCUMENT.replace(" x ", " y "), render)
    assert renewed.count("[forestall x --help]") == renewed.count("[forestall y --help]") == 1
    assert other in renewed


def test_a_table_becomes_what_its_file_holds() -> None:
    text = "a\n<!-- table: some.json -->\n\n| old |\n| --- |\n\nb\n"
    assert (
        readme.renew(text, render, lambda file: f"| {file} |\n")
        == "a\n<!-- table: some.json -->\n\n| some.json |\n\nb\n"
    )


@pytest.mark.parametrize(
    "text",
    [
        "<!-- output: forestall --help -->\n",
        "<!-- output: forestall --help -->\n\n```text\n```\n",
        "<!-- output: forestall --help -->\ntext\n```text\n```\n",
        "<!-- output: forestall --help -->\n```text\nno end\n",
        "<!-- table: some.json -->\n| no | empty line |\n",
    ],
)
def test_a_marker_without_its_block_is_an_error(text: str) -> None:
    with pytest.raises(readme.Wrong, match="marker"):
        readme.renew(text, render, render)


@pytest.mark.parametrize(
    "command",
    ["rm -rf /", "python -c 1", "make demo", "make help; true", "./forestall --help", "../forestall", "", "forestallx"],
)
def test_nothing_but_our_own_programs_is_run(command: str) -> None:
    with pytest.raises(readme.Wrong, match="is not run"):
        readme.output(command)


def test_what_a_shell_would_do_is_not_done() -> None:
    with pytest.raises(readme.Wrong, match="ended with 2"):
        readme.output("forestall --version; echo harm")


def test_the_output_is_plain_and_eighty_columns_wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("MAKEFLAGS", "w")
    shown = readme.output("forestall --help")
    assert shown.startswith("usage: forestall ")
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert readme.output("make help").startswith("help ")


def test_documents_are_compared_word_for_word() -> None:
    assert readme.same("usage: forestall [-h]\n   [--home DIR]\n", "usage: forestall [-h] [--home DIR]\n")
    assert readme.same("  -n COUNT, --number COUNT  how many", "  -n, --number COUNT  how many")
    assert not readme.same("usage: forestall [-h]", "usage: forestall [-h] [--home DIR]")
    assert not readme.same("-n COUNT, --number SIZE", "-n, --number COUNT")


def test_the_check_passes_exactly_when_nothing_differs(tmp_path: Path) -> None:
    """On a copy: the program reads the documents beside its own folder."""
    script = tmp_path / "scripts" / "readme.py"
    script.parent.mkdir()
    script.write_bytes((ROOT / "scripts" / "readme.py").read_bytes())
    document = tmp_path / "README.md"
    document.write_text("# x\n\n<!-- output: forestall --version -->\n```text\nforestall 0\n```\n")

    def call(how: str) -> int:
        words = [sys.executable, str(script), how]
        return subprocess.run(words, capture_output=True, timeout=60, check=False).returncode

    assert call("--check") == 1
    assert call("--write") == 0
    assert "forestall 0\n" not in document.read_text()
    assert call("--check") == 0


# -- scripts/picture.py


def test_the_picture_shows_the_table_the_counts_and_the_verdict() -> None:
    lines = picture.shown(PRINTED)
    assert lines[0].strip().startswith("what the agent does")
    assert lines[-1] == "NOT proved."
    assert len([line for line in lines if "honest steps" in line]) == 2
    assert not any("policy" in line and "permit" in line for line in lines)


def test_the_picture_is_well_formed_and_says_everything_in_words() -> None:
    drawn = picture.picture(picture.shown(PRINTED))
    root = ET.fromstring(drawn)
    described = [root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")]
    assert root.get("aria-labelledby") == "title desc"
    assert all(described)
    assert "1 of 2 attacks did harm" in str(described[1])
    texts = ["".join(text.itertext()) for text in root.iter(f"{SVG}text")]
    assert 'read <.env> & "more"' in " ".join(" ".join(texts).split())
    assert "prefers-color-scheme:dark" in drawn
    assert not re.search(r"(href|url\(|@import|<script|<image)", drawn)


def test_the_picture_colours_what_the_demo_colours() -> None:
    root = ET.fromstring(picture.picture(picture.shown(PRINTED)))
    coloured = {("".join(text.itertext()), text.get("class")) for text in root.iter(f"{SVG}text")}
    assert coloured >= {
        ("HARM DONE", "bad"),
        ("!", "bad"),
        ("LOST", "bad"),
        ("prevented", "good"),
        ("done", "good"),
        ("not reached", "odd"),
        ("no_policy", "dim"),
        ("NOT proved.", "bad"),
    }
    assert ("note that it is done", None) in coloured


def test_the_picture_is_the_same_for_the_same_output() -> None:
    assert picture.picture(picture.shown(PRINTED)) == picture.picture(picture.shown(PRINTED))


@pytest.mark.slow
def test_the_picture_in_the_readme_is_what_the_demo_prints(tmp_path_factory: pytest.TempPathFactory) -> None:
    scratch = tmp_path_factory.mktemp("d") / "demo"  # short: the path of a socket below it has 107 bytes
    words = [sys.executable, "-m", "demo", "--plain", "--scratch", str(scratch)]
    ended = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    drawn = picture.picture(picture.shown(ended.stdout))
    assert drawn == (ROOT / "docs" / "demo.svg").read_text(), "run `make picture`"


@pytest.mark.parametrize("printed", ["", "nothing of the kind", PRINTED.replace("NOT proved.", ""), PRINTED + PRINTED])
def test_no_picture_is_made_of_something_else(printed: str) -> None:
    with pytest.raises(ValueError, match="not what the demo prints"):
        picture.shown(printed)


def test_the_picture_in_the_readme_shows_a_demo_that_was_proved() -> None:
    described = ET.fromstring((ROOT / "docs" / "demo.svg").read_text()).findtext(f"{SVG}desc") or ""
    assert re.search(r"With Forestall: (\d+) of \1 honest steps done, 0 of \d+ attacks did harm", described)
    assert "Proved:" in described
