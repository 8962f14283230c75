"""Everything that is wrong with a directory of policies, and with the engine that they would make."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from forestall.core.errors import PolicyInvalid
from forestall.core.model import Tool
from forestall.policy.bundle import Bundle, examine
from forestall.policy.cedar import CedarEngine, compile_tools
from forestall.policy.lint import lint, notes
from forestall.policy.problem import Problem, Severity


@dataclass(frozen=True, slots=True)
class Report:
    bundle: Bundle
    problems: tuple[Problem, ...]
    """In the order of files and lines."""
    engine: CedarEngine | None
    """The engine of these policies; None where there is an error."""


def check(directory: Path, tools: Sequence[Tool], posture: Collection[str] = ()) -> Report:
    """Read, validate, lint, build and try. Raises nothing for what is wrong with policy. `posture` as in the engine."""
    bundle, problems = examine(directory)
    try:
        compiled = list(compile_tools(tools, posture).values())
    except PolicyInvalid as error:
        return Report(bundle, (*problems, Problem(str(directory), 0, 0, str(error))), None)
    found = sorted({*problems, *lint(bundle.policies, compiled), *notes(compiled, str(directory))})
    engine = None
    if not any(problem.severity is Severity.ERROR for problem in found):
        try:
            engine = CedarEngine.build(bundle, tools, posture)
            engine.self_test()
        except PolicyInvalid as error:
            engine = None
            found.append(Problem(str(directory), 0, 0, str(error)))
    return Report(bundle, tuple(found), engine)
