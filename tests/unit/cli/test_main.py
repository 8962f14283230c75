"""The command line itself: what it offers, how it fails, and with which code."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from forestall import __version__, cli
from forestall.core import errors
from forestall.core.errors import ForestallError, OutcomeUnknown, SetupError, Tampered, Unavailable

Probe = Callable[[Callable[[argparse.Namespace], int]], None]


@pytest.fixture
def probe(monkeypatch: pytest.MonkeyPatch) -> Iterator[Probe]:
    """Adds a command `probe`, as a module of its own, that does what the test wants."""

    def add(run: Callable[[argparse.Namespace], int]) -> None:
        module = ModuleType("forestall.cli.probe")
        module.__dict__.update(configure=lambda parser: parser.add_argument("--word", default="none"), run=run)
        monkeypatch.setitem(sys.modules, "forestall.cli.probe", module)
        monkeypatch.setitem(cli.COMMANDS, "probe", "a command of the tests")

    return add


def exit_codes() -> set[int]:
    return {int(code) for code in re.findall(r"^  (\d+) ", cli.EXIT_CODES, re.MULTILINE)}


def subclasses(kind: type) -> set[type]:
    return {kind} | {lower for direct in kind.__subclasses__() for lower in subclasses(direct)}


def test_without_a_command_it_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    shown = capsys.readouterr().out
    for name, summary in cli.COMMANDS.items():
        assert name in shown
        assert summary in " ".join(shown.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "there is no command 'nonsense'; see forestall --help."),
        (["nonsense", "status"], "there is no command 'nonsense'; see forestall --help."),
        (["chekc"], "there is no command 'chekc'; did you mean check?"),
        (["--nonsense"], "unrecognized arguments: --nonsense; see forestall --help."),
        (["--home"], "unrecognized arguments: --home; see forestall --help."),
        (["check", "--nonsense"], "unrecognized arguments: --nonsense; see forestall check --help."),
        (["check", "--js"], "unrecognized arguments: --js; see forestall check --help."),
        (["explain"], "the following arguments are required: ID; see forestall explain --help."),
        (
            ["serve", "--idle-exit", "x"],
            "--idle-exit: seconds are a number above 0, at most 86400, a day; see forestall serve --help.",
        ),
        (["serve", "--stop", "--reload"], "--reload: not allowed with argument --stop; see forestall serve --help."),
    ],
)
def test_a_wrong_command_line_is_one_sentence_on_standard_error(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) == 2
    assert capsys.readouterr() == ("", f"forestall: {said}\n")


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out == f"forestall {__version__}\n"


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_says_what_it_is_for(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"usage: forestall {name} ")
    assert "--home DIR" in shown


def test_a_commands_code_is_the_programs(probe: Probe) -> None:
    probe(lambda args: len(args.word))
    assert cli.main(["probe", "--word", "seven"]) == 5


@pytest.mark.parametrize("kind", sorted(subclasses(ForestallError) - {OutcomeUnknown}, key=lambda kind: kind.__name__))
def test_every_error_a_command_may_raise_has_a_documented_code(kind: type[ForestallError]) -> None:
    """`OutcomeUnknown` is raised by the in-process guard alone, into the caller's program."""
    assert kind.exit_code in exit_codes()


def test_the_codes_of_faults_are_told_apart() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and kind.__bases__ == (ForestallError,)]
    codes = [kind.exit_code for kind in kinds]
    assert len(set(codes)) == len(codes)
    assert 0 not in codes


@pytest.mark.parametrize("kind", [SetupError, Unavailable, Tampered])
def test_an_error_is_one_sentence_on_standard_error(
    kind: type[ForestallError], probe: Probe, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise kind("forestall.toml:3: unknown key `sevre`; did you mean `serve`?")

    probe(fail)
    assert cli.main(["probe"]) == kind.exit_code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == "forestall: forestall.toml:3: unknown key `sevre`; did you mean `serve`?\n"


@pytest.mark.parametrize("kind", [ZeroDivisionError, OSError, KeyError])
def test_a_bug_says_where_it_is_and_nothing_that_may_be_secret(
    kind: type[Exception], probe: Probe, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise kind("s3cr3t")

    probe(fail)
    assert cli.main(["probe"]) == 70
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(
        rf"forestall: A fault of Forestall's own: {kind.__name__} at test_main\.py:\d+; please report it\.\n",
        captured.err,
    )


def test_an_interruption_is_not_a_traceback(probe: Probe, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    probe(interrupt)
    assert cli.main(["probe"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_has_gone_is_not_an_error(lines: int, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import sys, types\n"
        "from forestall import cli\n"
        "module = types.ModuleType('forestall.cli.probe')\n"
        f"module.run = lambda args: print('a line\\n' * {lines}) or 0\n"
        "module.configure = lambda parser: None\n"
        "sys.modules['forestall.cli.probe'] = module\n"
        "cli.COMMANDS['probe'] = 'a command of the tests'\n"
        "raise SystemExit(cli.main(['probe']))\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    try:
        ended = subprocess.run(
            [sys.executable, str(program)], stdout=writer, stderr=subprocess.PIPE, timeout=60, check=False
        )
    finally:
        os.close(writer)
    assert (ended.returncode, ended.stderr) == (0, b"")


def test_a_command_is_imported_only_when_it_is_called() -> None:
    code = (
        "import sys; from forestall import cli; cli.main([]); "
        "loaded = [name for name in sys.modules if name.startswith('forestall.cli.')]; "
        "heavy = {'cedarpy', 'cryptography', 'tomlkit', 'sqlite3', 'asyncio'}; "
        "loaded += [name for name in sys.modules if name in heavy]; "
        "sys.exit(repr(loaded) if loaded else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (0, b"")
