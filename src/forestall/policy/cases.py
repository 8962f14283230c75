"""Policy tests: TOML files of calls, and what policy has to say to each (docs/policy.md, "Tests").

The facts of a case are written in it, so that a test says the same on every machine; what is not written is the most
harmless fact there is: nothing read yet, nothing of Forestall's touched, effects as the catalogue has them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from forestall.core.effects import Effect
from forestall.core.errors import PolicyInvalid, cure
from forestall.core.label import CLEAN, Confidentiality, Integrity, Label
from forestall.core.model import (
    Assurance,
    Decision,
    Executable,
    Facts,
    Grant,
    Question,
    RealPath,
    Risk,
    Ruling,
    Subject,
    Tool,
)
from forestall.core.reason import Reason
from forestall.core.refer import held_if_unbound
from forestall.core.toml import parse_toml
from forestall.policy.cedar import CedarEngine
from forestall.policy.problem import nearest
from forestall.policy.schema import OWN

DIRECTORY = "/directory"
"""Where the relative paths of a case start, unless it says."""

_HEADER = re.compile(r"^[ \t]*\[\[[ \t]*case[ \t]*\]\]", re.MULTILINE)

_KINDS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "tool": str,
    "expect": str,
    "arguments": dict,
    "reason": str,
    "policies": list,
    "approvers": list,
    "credential": str,
    "subject": str,
    "assurance": str,
    "asserted_name": str,
    "executable": dict,
    "task": str,
    "purpose": str,
    "mandate": str,
    "depth": int,
    "labels": dict,
    "effects": list,
    "own_files": bool,
    "risk": str,
    "posture": dict,
    "directory": str,
    "paths": dict,
    "references": dict,
    "unbound": list,
}


@dataclass(frozen=True, slots=True)
class Case:
    file: str
    line: int
    keys: Mapping[str, Any] = field(repr=False)

    @property
    def name(self) -> str:
        return str(self.keys["name"])


@dataclass(frozen=True, slots=True)
class Result:
    case: Case
    problem: str = ""
    """What was decided instead, in a sentence; empty where the case holds."""


def read(path: Path) -> list[Case]:
    """The cases of a file, or of every `*.toml` of a directory, in order.

    Raises:
        SetupError: a file that cannot be read, is not TOML, or has a key that means nothing.
    """
    if path.is_dir():
        return [case for file in sorted(path.glob("*.toml")) for case in _read_file(file)]
    return list(_read_file(path))


def run(case: Case, engine: CedarEngine, tools: Mapping[str, Tool]) -> Result:
    """Ask the engine the case's question.

    Raises:
        PolicyInvalid: the case names a tool or a fact that there is not.
    """
    tool = tools.get(case.keys["tool"]) or OWN.get(case.keys["tool"])
    if tool is None and case.keys["tool"].startswith("mcp/"):
        tool = Tool("mcp", case.keys["tool"].removeprefix("mcp/"), "")
    if tool is None:
        raise _bad(
            case,
            f"there is no tool `{case.keys['tool']}` in the catalogue.{nearest(case.keys['tool'], [*tools, *OWN])}",
        )
    _require_arguments(case, tool)
    asked = question(case, tool)
    return Result(case, _compare(case.keys, held_if_unbound(engine.evaluate(asked), asked.facts)))


def _require_arguments(case: Case, tool: Tool) -> None:
    """A fact about an argument that there is not would make the case say nothing."""
    known = tool.input_schema.get("properties")
    if not known or not isinstance(known, Mapping):
        return
    for name in case.keys.get("paths", ()):
        if name not in known:
            raise _bad(case, f"`paths.{name}`: the tool has no such argument.{nearest(name, known)}")


def question(case: Case, tool: Tool) -> Question:
    keys = case.keys
    try:
        subject = Subject(
            keys.get("subject", "test"),
            Assurance(keys.get("assurance", Assurance.LOCAL)),
            keys.get("asserted_name", ""),
            executable=Executable(**keys["executable"]) if "executable" in keys else None,
        )
        effects = frozenset(map(Effect, keys.get("effects", ()))) | tool.effects
        facts = Facts(
            _label(keys.get("labels", {})),
            effects,
            tool.confidence,
            keys.get("own_files", False),
            keys.get("depth", 0),
            {name: _paths(value, keys.get("directory", DIRECTORY)) for name, value in keys.get("paths", {}).items()},
            _risk(keys.get("risk", Risk.LOW)),
            _posture(keys.get("posture", {})),
            {name: _digests(value) for name, value in keys.get("references", {}).items()},
            tuple(map(str, keys.get("unbound", ()))),
        )
    except (ValueError, TypeError) as error:
        raise _bad(case, f"{error}") from None
    purpose, mandate = keys.get("purpose", ""), keys.get("mandate", "default")
    grant = Grant(keys.get("task", "test"), subject.id, purpose, mandate, ("*",), frozenset(Effect), 0)
    return Question(subject, grant, tool, keys.get("arguments", {}), facts)


def _read_file(file: Path) -> Iterator[Case]:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise PolicyInvalid(f"{file}: The policy tests are not UTF-8; save them as UTF-8.") from None
    except OSError as error:
        raise PolicyInvalid(f"{file}: The policy tests cannot be read: {cure(error)}.") from None
    tables = parse_toml(text, file)
    cases = tables.pop("case", [])
    if tables or not isinstance(cases, list) or not all(isinstance(case, dict) for case in cases):
        raise PolicyInvalid(f"{file}: A file of policy tests holds `[[case]]` tables and nothing else.")
    lines = [text.count("\n", 0, match.start()) + 1 for match in _HEADER.finditer(text)]
    for index, keys in enumerate(cases):
        case = Case(str(file), lines[index] if len(lines) == len(cases) else 1, keys)
        _require_keys(case)
        yield case


def _require_keys(case: Case) -> None:
    for name, value in case.keys.items():
        kind = _KINDS.get(name)
        if kind is None:
            raise _bad(case, f"`{name}` means nothing here.{nearest(name, _KINDS)}")
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise _bad(case, f"`{name}` has a value of the wrong type")
    for name in ("name", "tool", "expect"):
        if name not in case.keys:
            raise _bad(case, f"`{name}` is missing")
    _require_word(case, "expect", [decision.value for decision in Decision])
    _require_word(case, "reason", [reason.value for reason in Reason])


def _require_word(case: Case, name: str, known: list[str]) -> None:
    word = case.keys.get(name, known[0])
    if word not in known:
        raise _bad(case, f"`{name}` is never `{word}`.{nearest(word, known)}")


def _bad(case: Case, sentence: str) -> PolicyInvalid:
    stop = "" if sentence.endswith((".", "?")) else "."
    return PolicyInvalid(f"{case.file}:{case.line}: This test cannot be run: {sentence}{stop}")


def _label(keys: Mapping[str, Any]) -> Label:
    if unknown := set(keys) - {"integrity", "confidentiality"}:
        raise ValueError(f"`labels.{min(unknown)}` means nothing")
    return Label(
        Integrity(keys.get("integrity", CLEAN.integrity)),
        Confidentiality(keys.get("confidentiality", CLEAN.confidentiality)),
    )


def _risk(word: str) -> Risk | None:
    return None if word == "missing" else Risk(word)


def _posture(keys: Mapping[str, Any]) -> dict[str, str]:
    if not all(isinstance(value, str) for value in keys.values()):
        raise ValueError("`posture` holds texts")
    return dict(keys)


def _digests(value: Any) -> tuple[str, ...]:
    digests = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in digests):
        raise ValueError("`references` holds digests")
    return tuple(digests)


def _paths(value: Any, directory: str) -> tuple[RealPath, ...]:
    """A relative path is inside the directory; an absolute one leads out of it."""
    paths = value if isinstance(value, list) else [value]
    if not all(isinstance(path, str) and path and ".." not in path.split("/") for path in paths):
        raise ValueError("`paths` holds real paths: not empty and without `..`")
    return tuple(_path(path, directory) for path in paths)


def _path(path: str, directory: str) -> RealPath:
    if path == ".":
        return RealPath(directory, "")
    return RealPath(path) if path.startswith("/") else RealPath(f"{directory}/{path}", path)


def _compare(keys: Mapping[str, Any], ruling: Ruling) -> str:
    reason = ruling.reason.value if ruling.reason else ""
    approvers = sorted({name for approval in ruling.approvals for name in approval.approvers})
    wrong = [
        "expect" if keys["expect"] != ruling.decision.value else "",
        "reason" if keys.get("reason", reason) != reason else "",
        "policies" if sorted(keys.get("policies", ruling.policies)) != sorted(ruling.policies) else "",
        "approvers" if sorted(keys.get("approvers", approvers)) != approvers else "",
        "credential" if keys.get("credential", ruling.credential) != ruling.credential else "",
    ]
    if not any(wrong):
        return ""
    wanted = ", ".join(f"{name} {keys[name]!r}" for name in wrong if name)
    return f"wanted {wanted}; got {describe(ruling)}"


def describe(ruling: Ruling) -> str:
    """A ruling in a line."""
    because = f" ({ruling.reason})" if ruling.reason else ""
    policies = f" by {', '.join(f'`{name}`' for name in ruling.policies)}" if ruling.policies else ""
    approvers = sorted({name for approval in ruling.approvals for name in approval.approvers})
    waits = f", waiting for {', '.join(approvers)}" if approvers else ""
    credential = f", with the credential `{ruling.credential}`" if ruling.credential else ""
    return f"{ruling.decision}{because}{policies}{waits}{credential}{f': {ruling.detail}' if ruling.detail else ''}"
