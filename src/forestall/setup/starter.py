"""The first policy: what only reads is permitted, everything else waits for a person. From then on it is theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from forestall.config import load
from forestall.core.effects import Confidence, Effect, groups, highest
from forestall.core.model import Decision, Tool
from forestall.home import Home
from forestall.policy import bundle, cases
from forestall.policy.cases import Case
from forestall.policy.cedar import CedarEngine, compile_tools
from forestall.policy.schema import schema
from forestall.rules import DEFAULT_MANDATE
from forestall.setup.files import make_directory, replace

POLICY = """\
// Written by `forestall init`; from here on it is yours. `forestall check` says whether it is sound, `forestall test`
// whether it decides as the tests beside it say. docs/policy.md has everything that a policy can speak of.

// A tool that does nothing but read may be called. A tool that nobody has reviewed counts as destructive and external,
// whatever it calls itself.
@id("starter-reads")
permit (principal, action in Action::"read", resource);

// Everything else waits until a person has approved exactly that call: `forestall approvals`, `forestall approve ID`.
// `local` is anybody at this machine's command line, also as the user that the agent runs as: an agent with a shell of
// its own could say yes to itself. Give the person another user than the agent, and write `user:NAME` here instead.
@id("starter-approved")
@approvers("local")
permit (
    principal,
    action in [
        Action::"write", Action::"external", Action::"destructive",
        Action::"execute", Action::"credential", Action::"privilege"
    ],
    resource
)
when { context has approval && context.approval.granted };
"""

_TESTS_HEAD = """\
# What the starter policy decides, as examples to copy. `forestall test` runs them; nothing is called.
"""


def write_starter(home: Home) -> tuple[Path, ...]:
    """Policy and mandate, where there is no policy and no mandate yet. Returns what was written."""
    wanted = (
        (home.policy, "*.cedar", "starter.cedar", POLICY),
        (home.mandates, "*.toml", "default.toml", DEFAULT_MANDATE),
    )
    written = []
    for directory, pattern, name, text in wanted:
        make_directory(directory)
        if not any(directory.glob(pattern)):
            replace(directory / name, text.encode())
            written.append(directory / name)
    return tuple(written)


def write_schema(home: Home, tools: Sequence[Tool]) -> Path | None:
    """The vocabulary of these tools, for editors that know Cedar; None where it is there already.

    Raises:
        PolicyInvalid: a tool has no schema that Cedar could take.
    """
    path = home.policy / "schema.cedarschema.json"
    data = (
        json.dumps(
            schema(compile_tools(tools, load(home).posture).values()), ensure_ascii=False, indent=2, sort_keys=True
        )
        + "\n"
    )
    if path.exists() and path.read_bytes() == data.encode():
        return None
    make_directory(home.policy)
    replace(path, data.encode())
    return path


def write_tests(home: Home, tools: Sequence[Tool]) -> Path | None:
    """Examples for one tool of each kind, each found to hold, where there are no tests yet.

    Raises:
        PolicyInvalid: the policy, or its engine, is not sound.
    """
    path = home.policy / "tests" / "starter.toml"
    if path.parent.exists() and any(path.parent.glob("*.toml")):
        return None
    engine = CedarEngine.build(bundle.read(home.policy), tools, load(home).posture)
    known = {tool.id: tool for tool in tools}
    examples = [keys for keys in _examples(tools) if not cases.run(Case(str(path), 1, keys), engine, known).problem]
    make_directory(path.parent)
    replace(path, "\n".join([_TESTS_HEAD, *map(_render, examples)]).encode())
    return path


def _examples(tools: Sequence[Tool]) -> Iterator[Mapping[str, Any]]:
    """The first reviewed tool of each gravest effect; then a method that nobody knows."""
    seen: set[Effect] = set()
    for tool in tools:
        effect = highest(groups(tool.effects))
        if effect not in seen and tool.confidence is Confidence.DECLARED:
            seen.add(effect)
            yield _example(tool, effect)
    yield {
        "name": "a protocol method that nobody knows is denied",
        "tool": "mcp/unknown",
        "arguments": {"method": "secrets/list"},
        "expect": Decision.DENY.value,
    }


def _example(tool: Tool, effect: Effect) -> Mapping[str, Any]:
    arguments = {name: _sample(schema) for name, schema in _required(tool.input_schema)}
    if effect is Effect.READ:
        end = {"expect": Decision.PERMIT.value, "policies": ["starter-reads"]}
        return {"name": f"{tool.name} only reads", "tool": tool.id, "arguments": arguments, **end}
    end = {"expect": Decision.HOLD.value, "reason": "needs_approval", "approvers": ["local"]}
    return {"name": f"{tool.name} ({effect.value}) waits", "tool": tool.id, "arguments": arguments, **end}


def _required(schema: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    properties, required = schema.get("properties"), schema.get("required")
    if isinstance(properties, dict) and isinstance(required, list):
        yield from ((name, properties[name]) for name in required if name in properties)


def _sample(schema: Any) -> Any:
    """A value that a simple schema accepts."""
    if not isinstance(schema, dict):
        return "example"
    for keyword in ("const", "default"):
        if keyword in schema:
            return schema[keyword]
    if schema.get("enum"):
        return schema["enum"][0]
    samples = {"integer": schema.get("minimum", 1), "number": schema.get("minimum", 1), "boolean": False}
    kinds: dict[str, Any] = {**samples, "array": [], "object": {}}
    return kinds.get(str(schema.get("type")), "https://example.com/" if schema.get("format") == "uri" else "example")


def _render(keys: Mapping[str, Any]) -> str:
    return "\n".join(["[[case]]", *(f"{name} = {_toml(value)}" for name, value in keys.items())]) + "\n"


def _toml(value: Any) -> str:
    """JSON's strings, numbers, booleans and lists are TOML's; a table is not."""
    if isinstance(value, dict):
        inside = ", ".join(f"{_toml(name)} = {_toml(inner)}" for name, inner in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
