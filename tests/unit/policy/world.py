"""Tools, questions and engines for tests of policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forestall.core.effects import Confidence, Effect
from forestall.core.label import CLEAN, Label
from forestall.core.model import Assurance, Facts, Grant, Question, RealPath, Risk, Ruling, Subject, Tool
from forestall.policy import bundle
from forestall.policy.cedar import CedarEngine, compile_tools
from forestall.policy.lint import lint
from forestall.policy.problem import Problem

PERMIT_ALL = "permit (principal, action, resource);"


def tool(name: str = "write_file", *effects: Effect, server: str = "fs", **known: Any) -> Tool:
    return Tool(
        server,
        name,
        f"sha256:{server}/{name}",
        effects=frozenset(effects or (Effect.WRITE,)),
        confidence=Confidence.DECLARED,
        **known,
    )


def schema(required: list[str] | None = None, /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required or []}


STRING = {"type": "string"}
READ_FILE = tool("read_file", Effect.READ, control=frozenset({"path"}), input_schema=schema(["path"], path=STRING))
WRITE_FILE = tool(
    control=frozenset({"path"}),
    input_schema=schema(["path"], path=STRING, content=STRING, mode={"enum": ["append", "replace"]}),
)
DELETE_FILE = tool(
    "delete", Effect.DESTRUCTIVE, control=frozenset({"path"}), input_schema=schema(["path"], path=STRING)
)
SEND = tool(
    "send",
    Effect.WRITE,
    Effect.EXTERNAL,
    server="mail",
    control=frozenset({"to"}),
    input_schema=schema(["to"], to={"type": "array", "items": STRING}, text=STRING, copies={"type": "integer"}),
)
TOOLS = (READ_FILE, WRITE_FILE, DELETE_FILE, SEND)


def engine(*texts: str, tools: tuple[Tool, ...] = TOOLS, posture: tuple[str, ...] = ()) -> CedarEngine:
    return CedarEngine.build(bundle.from_texts({"a.cedar": "\n".join(texts)}), tools, posture)


def question(
    of: Tool,
    arguments: Mapping[str, Any],
    *,
    labels: Label = CLEAN,
    own_files: bool = False,
    effects: frozenset[Effect] = frozenset(),
    paths: Mapping[str, tuple[RealPath, ...]] | None = None,
    risk: Risk | None = None,
    posture: Mapping[str, str] | None = None,
    **grant: Any,
) -> Question:
    known = {"task": "t1", "holder": "agent", "purpose": "report", "mandate": "default"} | grant
    return Question(
        Subject("agent", Assurance.LOCAL, "a client"),
        Grant(tools=("*",), effects=frozenset(Effect), expires_at=0, **known),
        of,
        arguments,
        Facts(labels, effects or of.effects, of.confidence, own_files, 0, paths or {}, risk, posture or {}),
    )


def ask(built: CedarEngine, of: Tool, /, **arguments: Any) -> Ruling:
    return built.evaluate(question(of, arguments))


def problems(*texts: str, tools: tuple[Tool, ...] = TOOLS, posture: tuple[str, ...] = ()) -> list[Problem]:
    policies = bundle.from_texts({"a.cedar": "\n".join(texts)}).policies
    return lint(policies, list(compile_tools(tools, posture).values()))
