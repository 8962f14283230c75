"""What is wrong with a policy, and where."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from forestall.core.errors import PolicyInvalid


class Severity(StrEnum):
    ERROR = "error"  # the policy is refused
    WARNING = "warning"  # it may well not say what its writer means


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    file: str
    line: int
    """From 1; 0 where the file has no lines to speak of."""
    column: int
    """From 1; 0 where it is not known."""
    sentence: str
    severity: Severity = Severity.ERROR

    def __str__(self) -> str:
        place = ":".join([self.file, *(str(number) for number in (self.line, self.column) if number)])
        return f"{place}: {'' if self.severity is Severity.ERROR else 'warning: '}{self.sentence}"


def require_none(problems: Iterable[Problem]) -> None:
    """Raise PolicyInvalid with every error among the problems, one a line."""
    errors = sorted(problem for problem in problems if problem.severity is Severity.ERROR)
    if errors:
        raise PolicyInvalid("\n".join(map(str, errors)))


def nearest(word: str, known: Iterable[str]) -> str:
    """` Did you mean ...?`, or nothing."""
    close: Sequence[str] = difflib.get_close_matches(word, sorted(known), n=1, cutoff=0.6)
    return f" Did you mean `{close[0]}`?" if close else ""
