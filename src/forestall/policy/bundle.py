"""A directory of policies, read: every policy with its id, its file and its line.

An id is the policy's `@id`, else `file-stem:N`, N counting the file's policies from 1. Ids that begin with
`forestall:` are Forestall's own. Files are read in the order of their names; the order of policies never changes a
decision.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import cedarpy

from forestall.core.errors import PolicyInvalid, cure
from forestall.policy.problem import Problem, require_none
from forestall.policy.text import Piece, cut, find, tokens

OWN_PREFIX = "forestall:"
BUILTIN = Path(__file__).parent / "builtin"

_NAMED = re.compile(r"(?<=`)[^`]+(?=`)|(?<=: )\w+$|(?<=@)\w+$")
"""The words of the policy that a message of the parser names."""

MAX_FILE = 1024 * 1024
"""Bytes of one policy file: a thousand times what a person writes."""


@dataclass(frozen=True, slots=True)
class Policy:
    id: str
    file: str
    piece: Piece
    tree: Mapping[str, Any] = field(repr=False)
    """Cedar's JSON form (EST), annotations included."""

    @property
    def line(self) -> int:
        return self.piece.line

    @property
    def text(self) -> str:
        return self.piece.text

    @property
    def permits(self) -> bool:
        return bool(self.tree["effect"] == "permit")

    @property
    def annotations(self) -> Mapping[str, str]:
        return {name: value or "" for name, value in self.tree.get("annotations", {}).items()}

    def at(self, word: str | None = None) -> tuple[str, int, int]:
        """File, line and column: of the first token that is `word`, else of the policy."""
        offset = find(self.text, word) if word else None
        return self.file, *self.piece.place(offset or 0)


@dataclass(frozen=True, slots=True)
class Bundle:
    """The owner's policies and Forestall's own."""

    policies: tuple[Policy, ...]

    def find(self, policy_id: str) -> Policy | None:
        return next((policy for policy in self.policies if policy.id == policy_id), None)


def read(directory: Path) -> Bundle:
    """The `*.cedar` files of a directory, with the built-in policies.

    Raises:
        PolicyInvalid: lists everything that cannot be read or parsed, and every id that is taken twice.
    """
    bundle, problems = examine(directory)
    require_none(problems)
    return bundle


def examine(directory: Path) -> tuple[Bundle, list[Problem]]:
    """As `read`, but returns the problems beside whatever could be read. For listing them, never for deciding."""
    problems: list[Problem] = []
    texts = {}
    if not directory.is_dir():
        sentence = "There is no policy directory here; `forestall init` writes a starter policy."
        problems.append(Problem(str(directory), 0, 0, sentence))
    for path in sorted(directory.glob("*.cedar")):
        try:
            texts[str(path)] = _text(path)
        except UnicodeDecodeError:
            problems.append(Problem(str(path), 0, 0, "The file is not UTF-8; save it as UTF-8."))
        except OSError as error:
            problems.append(Problem(str(path), 0, 0, f"The file cannot be read: {cure(error)}."))
        except ValueError as error:
            problems.append(Problem(str(path), 0, 0, f"The file cannot be read: {error}."))
    policies, more = _parse(texts)
    return Bundle((*builtin(), *policies)), problems + more


def from_texts(texts: Mapping[str, str]) -> Bundle:
    """The same from text by file name.

    Raises:
        PolicyInvalid: as `read`.
    """
    policies, problems = _parse(texts)
    require_none(problems)
    return Bundle((*builtin(), *policies))


@cache
def builtin() -> tuple[Policy, ...]:
    """Forestall's own policies: in every bundle, and in every slice of one."""
    found: list[Policy] = []
    for path in sorted(BUILTIN.glob("*.cedar")):
        text = path.read_text(encoding="utf-8")
        found += [_policy(piece, str(path), "") for piece in cut(text)]
    if not found or not all(policy.id.startswith(OWN_PREFIX) for policy in found):
        raise PolicyInvalid(f"{BUILTIN}: The built-in policies are missing; install Forestall again.")
    return tuple(found)


def _text(path: Path) -> str:
    data = path.read_bytes()
    if len(data) > MAX_FILE:
        raise ValueError(f"it is larger than {MAX_FILE} bytes")
    return data.decode("utf-8")


def _parse(texts: Mapping[str, str]) -> tuple[list[Policy], list[Problem]]:
    policies: list[Policy] = []
    problems: list[Problem] = []
    for file, text in texts.items():
        stem = Path(file).stem
        for number, piece in enumerate(cut(text), start=1):
            try:
                policies.append(_policy(piece, file, f"{stem}:{number}"))
            except ValueError as error:
                problems.append(_syntax(piece, file, str(error)))
    return policies, problems + list(_bad_ids(policies))


def _policy(piece: Piece, file: str, default_id: str) -> Policy:
    parsed = json.loads(cedarpy.policies_to_json_str(piece.text))
    if parsed["templates"]:
        raise ValueError("a template (`?principal`, `?resource`) decides nothing; write a policy")
    (tree,) = parsed["staticPolicies"].values()
    return Policy(tree.get("annotations", {}).get("id", default_id) or "", file, piece, tree)


def _bad_ids(policies: Iterable[Policy]) -> Iterable[Problem]:
    seen: dict[str, Policy] = {}
    for policy in policies:
        where = policy.at("id")
        if not policy.id.strip() or not policy.id.isprintable():
            yield Problem(*where, "The id is empty or cannot be printed.")
        elif policy.id.startswith(OWN_PREFIX):
            yield Problem(*where, f"Ids that begin with `{OWN_PREFIX}` are Forestall's own.")
        elif policy.id in seen:
            yield taken(policy, seen[policy.id])
        seen.setdefault(policy.id, policy)


def taken(policy: Policy, first: Policy) -> Problem:
    """That another had its id before."""
    sentence = f"The id `{policy.id}` is taken by the policy at {first.file}:{first.line}."
    return Problem(*policy.at("id"), sentence)


def _syntax(piece: Piece, file: str, message: str) -> Problem:
    line, column = piece.place(_offset(piece.text, message))
    return Problem(file, line, column, f"This does not parse: {message}.")


def _offset(text: str, message: str) -> int:
    """Where the parser gave up.

    It reads from left to right and stops at the first token that cannot follow, so every shorter run of tokens only
    lacks an end. An error of meaning shows at no token of its own; then the word that the message quotes is looked
    for.
    """
    found = list(tokens(text))
    position = _first(len(found), lambda count: not _lacks_end(text[: found[count].end]))
    if position < len(found) - 1:
        return found[position].start
    places = [place for word in _NAMED.findall(message) if (place := find(text, word)) is not None]
    return places[0] if places else found[min(position, len(found) - 1)].start


def _lacks_end(text: str) -> bool:
    try:
        cedarpy.policies_to_json_str(text)
    except ValueError as error:
        return "unexpected end of input" in str(error)
    return False


def _first(size: int, holds: Callable[[int], bool]) -> int:
    """The first index in 0..size that holds; `holds` is false and then true."""
    low, high = 0, size
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
