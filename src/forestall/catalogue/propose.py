"""What a tool probably does, and why we think so: something for a person to accept or correct, never a fact.

Names, descriptions and a server's hints are the words of whoever wrote the server. They can make a proposal graver;
what they make milder is inert until a person accepts it (`forestall.catalogue.statement.effective`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from forestall.catalogue.known import Known
from forestall.catalogue.statement import Definition, Proposal, Statement, argument_names, input_schema
from forestall.core.effects import UNKNOWN, Confidence, Effect
from forestall.core.label import Confidentiality, Integrity, Label


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_VERBS: Mapping[Effect, frozenset[str]] = {
    Effect.PRIVILEGE: _words("grant permission permissions role roles acl chmod chown sudo admin authorize share"),
    Effect.CREDENTIAL: _words("token tokens secret secrets password passwords credential credentials apikey login env"),
    Effect.EXECUTE: _words("run exec execute eval shell bash terminal script spawn invoke launch install deploy"),
    Effect.DESTRUCTIVE: _words(
        "delete remove drop destroy purge truncate erase wipe reset clear overwrite replace kill terminate uninstall"
        " prune revert rollback discard cancel force rm"
    ),
    Effect.EXTERNAL: _words(
        "send email mail post publish tweet notify message fetch http request download upload push pull share browse"
        " navigate webhook url web crawl scrape invite reply forward pay transfer"
    ),
    Effect.WRITE: _words(
        "write create add update edit set put insert save move rename copy commit append patch modify merge import"
        " upsert toggle mark assign start stop enable disable apply checkout register subscribe store make change"
    ),
    Effect.READ: _words(
        "get list read search find show view describe status log diff count lookup check inspect tree info convert"
        " calculate compare analyze summarize explain validate query select open head tail"
    ),
}
"""Words of names, by the effect that they speak of."""

_RUNS_WHAT_IT_IS_GIVEN = _words("sql statement command cmd code script expression shell program")
"""Arguments that are programs: what they do cannot be told from the tool's name."""

_CONTENT = _words("message content contents text body description comment title note notes summary markdown caption")
"""Arguments that are usually only carried."""

_HINTS = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
_SENTENCE = re.compile(r"(?<=[.!?])\s|\n")
_TOKEN = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def propose(definition: Definition, known: Known | None = None) -> Proposal:
    """A statement about the tool with the reason for each fact; declared where it was reviewed in this shape."""
    if known and (reviewed := known.find(definition)):
        reasons = {**reviewed.reasons, "review": f"reviewed with Forestall: {known.about}"}
        return Proposal(reviewed.statement, MappingProxyType(reasons))
    effects, why = _effects(definition)
    content = tuple(name for name in sorted(argument_names(definition)) if _is_content(definition, name))
    control = tuple(sorted(argument_names(definition) - set(content)))
    reasons = {"effects": why, "arguments": _why_arguments(content), "output": "a guess: nothing in a definition says"}
    origin = dict.fromkeys(("effects", "arguments", "output"), Confidence.ASSUMED)
    if not argument_names(definition):
        origin["arguments"], reasons["arguments"] = Confidence.DERIVED, "the schema names none"
    statement = Statement(effects, control, content, _output(effects), MappingProxyType(origin))
    return Proposal(statement, MappingProxyType(reasons))


def hinted(definition: Definition) -> frozenset[Effect]:
    """What the server's hints say at the least, with the defaults of the MCP schema (2025-11-25, ToolAnnotations).

    Empty where it gives no hint at all: that says nothing, and an unaccepted tool is taken at its worst anyway.
    """
    hints = definition.get("annotations")
    if not isinstance(hints, dict) or not any(hint in hints for hint in _HINTS):
        return frozenset()
    found = {Effect.EXTERNAL} if hints.get("openWorldHint", True) is not False else set()
    if hints.get("readOnlyHint", False) is True:
        return frozenset(found | {Effect.READ})
    return frozenset(found | {Effect.DESTRUCTIVE if hints.get("destructiveHint", True) is not False else Effect.WRITE})


def _effects(definition: Definition) -> tuple[frozenset[Effect], str]:
    """Everything that any sign speaks of; reading alone only where no sign speaks of more."""
    found: dict[Effect, list[str]] = {}
    for effect, why in _signs(definition):
        found.setdefault(effect, []).append(why)
    if not found:
        return UNKNOWN, "nothing tells what it does; so the worst"
    if len(found) > 1 and Effect.READ in found and found.keys() - {Effect.READ, Effect.EXTERNAL, Effect.CREDENTIAL}:
        del found[Effect.READ]
    return frozenset(found), "; ".join(
        dict.fromkeys(why for effect in sorted(found, key=_rank) for why in found[effect])
    )


def _rank(effect: Effect) -> int:
    return effect.rank


def _signs(definition: Definition) -> Iterator[tuple[Effect, str]]:
    name, hints = _tokens(definition["name"]), hinted(definition)
    for effect, verbs in _VERBS.items():
        if spoken := sorted(verbs & name):
            yield effect, f'its name says "{spoken[0]}"'
    for effect in sorted(hints, key=_rank):
        yield effect, f"the server hints {effect.value}"
    first = _tokens(_SENTENCE.split(str(definition.get("description", "")))[0])
    for effect in (Effect.DESTRUCTIVE, Effect.EXECUTE, Effect.EXTERNAL, Effect.PRIVILEGE):
        if spoken := sorted(_VERBS[effect] & _without_endings(first)):
            yield effect, f'its description says "{spoken[0]}"'
    if programs := sorted(set(map(str.lower, argument_names(definition))) & _RUNS_WHAT_IT_IS_GIVEN):
        yield Effect.EXECUTE, f'its argument "{programs[0]}" is a program'


def _tokens(text: str) -> frozenset[str]:
    """The words of a name in any case style, or of a sentence, in lower case."""
    return frozenset(token.lower() for token in _TOKEN.findall(text))


def _without_endings(words: frozenset[str]) -> frozenset[str]:
    """The words, and what may stand before an ending: deletes, running."""
    return words | {word.removesuffix(ending) for word in words for ending in ("s", "es") if word.endswith(ending)}


def _is_content(definition: Definition, name: str) -> bool:
    """A free string whose name is that of something carried."""
    schema = input_schema(definition)["properties"][name]
    free: Any = (
        isinstance(schema, dict) and schema.get("type") == "string" and not {"enum", "const", "format"} & set(schema)
    )
    return (
        bool(free)
        and bool(_tokens(name) & _CONTENT)
        and not _tokens(name) & {"id", "path", "url", "name", "type", "file"}
    )


def _why_arguments(content: tuple[str, ...]) -> str:
    if not content:
        return "any argument may choose what happens"
    return f"{', '.join(map(repr, content))} by name only carried; any other may choose what happens"


def _output(effects: frozenset[Effect]) -> Label:
    secret = Effect.CREDENTIAL in effects
    return Label(Integrity.UNTRUSTED, Confidentiality.SECRET if secret else Confidentiality.INTERNAL)
