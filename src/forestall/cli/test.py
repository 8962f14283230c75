"""`forestall test`: run policy tests."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from forestall import catalogue, config
from forestall.core.errors import PolicyInvalid
from forestall.core.model import Tool
from forestall.home import Home
from forestall.policy import bundle, cases
from forestall.policy.cases import Case, Result
from forestall.policy.cedar import CedarEngine

EPILOG = """\
examples:
  forestall test                            every file in policy/tests
  forestall test policy/tests/mail.toml     this file
  forestall test --json                     the result for a program

a test:
  [[case]]
  name = "a report may be written"
  tool = "files/write_file"
  arguments = { path = "reports/march.md", content = "..." }
  paths = { path = "reports/march.md" }
  expect = "permit"                         # or "deny", "hold"

Exit code 1: a test failed, or the PATH given holds none. All keys are in docs/policy.md.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run policy tests: calls, and what policy has to say to each. Nothing is called."
    parser.epilog = EPILOG
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a file of tests, or a directory (else policy/tests)")
    parser.add_argument("--json", action="store_true", help="write one JSON object")


def run(args: argparse.Namespace) -> int:
    home = Home.find(args.home)
    given = [Path(path) for path in args.paths]
    found = [case for path in given or [home.policy / "tests"] for case in _read(path, given=bool(given))]
    tools = {tool.id: tool for tool in catalogue.load_all(home.catalogue, home.declared).all()}
    engine = CedarEngine.build(bundle.read(home.policy), list(tools.values()), config.load(home).posture)
    engine.self_test()
    results = [_run(case, engine, tools) for case in found]
    print(_as_json(results, engine) if args.json else _as_text(results, given or [home.policy / "tests"]))
    return 1 if any(result.problem for result in results) or (given and not results) else 0


def _read(path: Path, *, given: bool) -> list[Case]:
    """An absent directory holds no test, unless somebody asked for it."""
    if not given and not path.exists():
        return []
    if not path.exists():
        raise PolicyInvalid(f"{path}: There is no such file or directory of policy tests; name one, or put it there.")
    return cases.read(path)


def _run(case: Case, engine: CedarEngine, tools: Mapping[str, Tool]) -> Result:
    try:
        return cases.run(case, engine, tools)
    except PolicyInvalid as error:
        return Result(case, str(error).removeprefix(f"{case.file}:{case.line}: ").rstrip("."))


def _as_text(results: list[Result], places: Iterable[Path]) -> str:
    if not results:
        return f"No policy tests in {', '.join(map(str, places))}."
    failed = [result for result in results if result.problem]
    lines = [f"{one.case.file}:{one.case.line}: {one.case.name}: {_closed(one.problem)}" for one in failed]
    return "\n".join([*lines, f"{len(results)} policy test{'s' * (len(results) != 1)}, {len(failed)} failed."])


def _closed(sentence: str) -> str:
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."


def _as_json(results: list[Result], engine: CedarEngine) -> str:
    cases_out = [
        {
            "name": result.case.name,
            "file": result.case.file,
            "line": result.case.line,
            "passed": not result.problem,
            "problem": result.problem or None,
        }
        for result in results
    ]
    return json.dumps(
        {"policy_digest": engine.digest, "failed": sum(not case["passed"] for case in cases_out), "cases": cases_out},
        ensure_ascii=False,
        indent=2,
    )
