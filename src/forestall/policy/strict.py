"""Cedar's strict validation, with the places and the hints that its messages lack."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

import cedarpy

from forestall.policy import scope
from forestall.policy.bundle import Policy
from forestall.policy.expression import Path
from forestall.policy.problem import Problem, Severity, nearest
from forestall.policy.schema import GROUPS, Compiled
from forestall.policy.schema import schema as schema_of
from forestall.policy.shape import Type

_PREFIX = re.compile(r"^for policy `[^`]*`, ")
_ACTION = re.compile(r' for Action::"(?:[^"\\]|\\.)*"')
_QUOTED = re.compile(r"`([^`]+)`")
_UID = re.compile(r'^[A-Za-z_:]+::"(.*)"$', re.DOTALL)

_NOWHERE = "unable to find an applicable action"


def validate(policies: Iterable[Policy], compiled: Sequence[Compiled]) -> Iterator[Problem]:
    """What Cedar says of each policy under the schema of all the tools."""
    schema = cedarpy.Schema.from_json_str(json.dumps(schema_of(compiled)))
    known = [*GROUPS, *(one.tool.id for one in compiled)]
    for policy in policies:
        result = cedarpy.validate_policies(policy.text, schema)
        if result.validation_passed:
            continue
        messages = [_PREFIX.sub("", error.error) for error in result.errors]
        yield from _problems(policy, messages or ["Cedar refuses it without saying why"], compiled, known)


def _problems(
    policy: Policy, messages: Sequence[str], compiled: Sequence[Compiled], known: Sequence[str]
) -> Iterator[Problem]:
    _, named = scope.action_ids(policy.tree)
    if len(messages) == 1 and messages[0].startswith(_NOWHERE) and named and named <= frozenset(GROUPS):
        groups = ", ".join(f"`{name}`" for name in sorted(named))
        sentence = f"No tool in the catalogue has the effect {groups}, so this applies to nothing yet."
        yield Problem(*policy.at(min(named)), sentence, Severity.WARNING)
        return
    unknown = sorted(named - frozenset(known))
    for name in unknown:
        sentence = f"No tool and no group of effects is called `{name}`.{nearest(name, known)}"
        yield Problem(*policy.at(name), sentence)
    seen: set[str] = set()
    for message in messages:
        if unknown and (message.startswith(_NOWHERE) or "unrecognized action" in message):
            continue
        general = _ACTION.sub("", message)
        if general not in seen:
            seen.add(general)
            yield Problem(*policy.at(_word(message)), f"{_sentence(message)}.{_hint(message, compiled)}")


def _sentence(message: str) -> str:
    return message[:1].upper() + message[1:].rstrip(".")


def _word(message: str) -> str | None:
    """The word of the policy that a message is about."""
    quoted = _QUOTED.search(message)
    if not quoted:
        return None
    uid = _UID.match(quoted[1])
    return uid[1] if uid else quoted[1].rsplit(".", 1)[-1]


def _hint(message: str, compiled: Sequence[Compiled]) -> str:
    if "optional attribute" in message:
        return " Ask first whether it is there: `context has ... && ...`."
    if not message.startswith("attribute `") or not message.endswith("not found"):
        return ""
    quoted = _QUOTED.search(message)
    path = tuple(quoted[1].split(".")) if quoted else ()
    return suggest(path, compiled)


def suggest(path: Path, compiled: Iterable[Compiled]) -> str:
    """` Did you mean ...?` for an attribute of the context that is not there."""
    beside: set[str] = set()
    for one in compiled:
        parent = kind_at(one.context, path[:-1])
        beside |= set(parent["attributes"]) if parent is not None and parent["type"] == "Record" else set()
    return nearest(path[-1], beside) if path else ""


def kind_at(context: Mapping[str, Type], path: Path) -> Type | None:
    """The type of `context.<path>`; None where there is no such attribute."""
    here: Type = {"type": "Record", "attributes": context}
    for name in path:
        if here["type"] != "Record" or name not in here["attributes"]:
            return None
        here = here["attributes"][name]
    return here
