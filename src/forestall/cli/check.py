"""`forestall check`: everything that is wrong with what is on disk, before it matters."""

from __future__ import annotations

import argparse
import fnmatch
import json
import re
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from forestall import catalogue, config
from forestall.adapter.credential.context import Context
from forestall.adapter.ledger import keys
from forestall.core.errors import SetupError
from forestall.core.model import Mandate, Tool
from forestall.credentials import close_all, load_credentials
from forestall.home import Home
from forestall.policy import bundle, cases
from forestall.policy.check import check
from forestall.policy.problem import Problem, Severity
from forestall.rules import classes_named, missing_classes

T = TypeVar("T")

_PLACE = re.compile(r"(?P<file>[^\n]+?)(?::(?P<line>[0-9]+))?(?::(?P<column>[0-9]+))?: (?P<sentence>.+)", re.DOTALL)

EPILOG = """\
examples:
  forestall check                 list what is wrong, as file:line:column: sentence
  forestall check --json          the same for a program
  forestall check && forestall test

Problems that are warnings do not fail the check. Exit code 1: at least one error.
"""


@dataclass(slots=True)
class Findings:
    problems: list[Problem] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    policy_digest: str = ""

    def attempt(self, read: Callable[[], T]) -> T | None:
        """What `read` returns; None, and a problem, where it cannot."""
        try:
            return read()
        except SetupError as error:
            self.problems += map(parse_place, str(error).splitlines())
            return None

    @property
    def failed(self) -> bool:
        return any(problem.severity is Severity.ERROR for problem in self.problems)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Validate policy, catalogue, mandates, credentials, keys and configuration."
    parser.epilog = EPILOG
    parser.add_argument("--json", action="store_true", help="write one JSON object")


def run(args: argparse.Namespace) -> int:
    findings = examine(Home.find(args.home))
    print(_as_json(findings) if args.json else _as_text(findings))
    return 1 if findings.failed else 0


def examine(home: Home) -> Findings:
    findings = Findings()
    settings = findings.attempt(lambda: config.load(home)) or config.Config()
    findings.attempt(lambda: config.socket_path(home, settings))
    if any((home.keys / name).exists() for name in keys.FILES):
        findings.attempt(lambda: keys.load(home.keys))
    known = findings.attempt(lambda: catalogue.load_all(home.catalogue, home.declared))
    mandates = findings.attempt(lambda: config.load_mandates(home))
    if (tests := home.policy / "tests").exists():
        findings.attempt(lambda: cases.read(tests))
    if known is not None and not known.all():
        sentence = "No tool is reviewed, so every call is denied; run `forestall init`."
        findings.problems.append(Problem(str(home.catalogue), 0, 0, sentence, Severity.WARNING))
    if known is None:
        read, problems = bundle.examine(home.policy)
        findings.problems += problems
        sentence = "The catalogue cannot be read, so the policies were only parsed, not validated."
        findings.problems.append(Problem(str(home.policy), 0, 0, sentence, Severity.WARNING))
    else:
        report = check(home.policy, known.all(), settings.posture)
        read = report.bundle
        findings.problems += report.problems
        findings.policy_digest = report.engine.digest if report.engine else ""
        findings.problems += _shadowed(home, known.duplicates())
        findings.problems += _mandates(home, mandates or {}, known.all()) if mandates is not None else []
    classes = findings.attempt(lambda: _classes(home))
    if classes is not None:
        findings.problems += missing_classes(classes_named(read), classes)
    policies = sum(not policy.id.startswith(bundle.OWN_PREFIX) for policy in read.policies)
    if not policies and not findings.failed:
        sentence = "There is no policy, so every call is denied; run `forestall init`, or write one."
        findings.problems.append(Problem(str(home.policy), 0, 0, sentence, Severity.WARNING))
    findings.counts = {
        "policies": policies,
        "tools": len(known.all()) if known else 0,
        "mandates": len(mandates or {}),
        "credentials": len(classes or ()),
    }
    return findings


def _classes(home: Home) -> frozenset[str]:
    """Those of `credentials.toml`. No backend is asked anything. Raises SetupError."""
    context = Context("00000000", lambda: time.time_ns() // 1_000_000, secrets.token_bytes, 1.0, home.root)
    classes = load_credentials(home, context)
    close_all(classes.values())
    return frozenset(classes)


def parse_place(text: str) -> Problem:
    """`file:line:column: sentence` as a problem; a sentence without a place keeps none."""
    match = _PLACE.fullmatch(text)
    if not match or not ("/" in match["file"] or Path(match["file"]).suffix):
        return Problem("", 0, 0, text)
    return Problem(match["file"], int(match["line"] or 0), int(match["column"] or 0), match["sentence"])


def _shadowed(home: Home, duplicates: Iterable[str]) -> Iterable[Problem]:
    for tool in sorted(duplicates):
        server, _, name = tool.partition("/")
        file = str(home.catalogue / f"{server}.toml")
        sentence = (
            f"Another server offers a tool called `{name}` too, so both are hidden; "
            f"set `accept_duplicate` on the one that is meant."
        )
        yield Problem(file, 0, 0, sentence, Severity.WARNING)


def _mandates(home: Home, mandates: dict[str, Mandate], tools: Iterable[Tool]) -> Iterable[Problem]:
    ids = [tool.id for tool in tools]
    if config.DEFAULT_MANDATE not in mandates:
        file = str(home.mandates / f"{config.DEFAULT_MANDATE}.toml")
        refused = "There is no default mandate, so a connection that names none is refused; write it."
        written = "There is no mandate; the decision point will write one that limits nothing."
        there = bool(mandates) or home.mandates.exists()
        yield Problem(file, 0, 0, refused) if there else Problem(file, 0, 0, written, Severity.WARNING)
    for mandate in mandates.values():
        for pattern in mandate.tools:
            if ids and not fnmatch.filter(ids, pattern.replace("[", "[[]").replace("?", "[?]")):
                file = str(home.mandates / f"{mandate.name}.toml")
                sentence = f"`{pattern}` matches no tool of the catalogue."
                yield Problem(file, 0, 0, sentence, Severity.WARNING)


def _as_text(findings: Findings) -> str:
    shown = {name: count for name, count in findings.counts.items() if count or name != "credentials"}
    counts = ", ".join(_number(count, name) for name, count in shown.items())
    errors = sum(problem.severity is Severity.ERROR for problem in findings.problems)
    warnings = len(findings.problems) - errors
    found = f"{_number(errors, 'errors')}, {_number(warnings, 'warnings')}."
    verdict = found if findings.problems else "nothing wrong."
    return "\n".join([*map(_line, sorted(findings.problems)), f"{counts}: {verdict}"])


def _number(count: int, plural: str) -> str:
    one = plural.removesuffix("ies") + "y" if plural.endswith("ies") else plural.removesuffix("s")
    return f"{count} {one if count == 1 else plural}"


def _line(problem: Problem) -> str:
    return str(problem) if problem.file else str(problem).removeprefix(": ")


def _as_json(findings: Findings) -> str:
    problems = [
        {
            "severity": problem.severity.value,
            "file": problem.file,
            "line": problem.line or None,
            "column": problem.column or None,
            "sentence": problem.sentence,
        }
        for problem in sorted(findings.problems)
    ]
    return json.dumps(
        {"problems": problems, **findings.counts, "policy_digest": findings.policy_digest or None},
        ensure_ascii=False,
        indent=2,
    )
