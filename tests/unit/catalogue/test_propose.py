from __future__ import annotations

from typing import Any

import pytest

from forestall.catalogue.propose import hinted, propose
from forestall.catalogue.statement import effective
from forestall.core.effects import UNKNOWN, Confidence, Effect
from forestall.core.label import Confidentiality, Integrity

READ_ONLY = {"readOnlyHint": True, "destructiveHint": False, "openWorldHint": False}


def tool(name: str, hints: Any = None, description: str = "", **arguments: Any) -> dict[str, Any]:
    definition = {"name": name, "description": description, "inputSchema": {"type": "object", "properties": arguments}}
    return definition if hints is None else {**definition, "annotations": hints}


@pytest.mark.parametrize(
    ("definition", "effects"),
    [
        (tool("get_thing", READ_ONLY), {"read"}),
        (tool("list-files"), {"read"}),
        (tool("readFile"), {"read"}),
        (tool("frobnicate", READ_ONLY), {"read"}),
        (tool("create_issue", {"destructiveHint": False, "openWorldHint": False}), {"write"}),
        (tool("delete_file", READ_ONLY), {"destructive"}),
        (tool("get_token", READ_ONLY), {"read", "credential"}),
        (tool("send_mail"), {"external"}),
        (tool("runScript"), {"execute"}),
        (tool("grant_role"), {"privilege"}),
        (tool("get_thing", {"readOnlyHint": True}), {"read", "external"}),  # openWorldHint's default
        (
            tool("make_thing", {"readOnlyHint": False}),
            {"write", "destructive", "external"},
        ),  # and both
        (tool("get_thing", READ_ONLY, "Deletes the thing that it gets."), {"destructive"}),
        (tool("query", READ_ONLY, sql={"type": "string"}), {"execute"}),
        (tool("frobnicate"), {"destructive", "external"}),
        (tool("frobnicate", {"title": "Frobnicate"}), {"destructive", "external"}),
    ],
)
def test_effects_are_proposed_from_every_sign(definition: dict[str, Any], effects: set[str]) -> None:
    proposal = propose(definition)
    assert proposal.statement.effects == set(map(Effect, effects))
    assert proposal.statement.origin["effects"] is Confidence.ASSUMED
    assert proposal.reasons["effects"]


@pytest.mark.parametrize("name", ["get", "read", "list"])
@pytest.mark.parametrize("hints", [READ_ONLY, {**READ_ONLY, "idempotentHint": True}, None])
def test_a_proposal_lowers_nothing(name: str, hints: Any) -> None:
    definition = tool(name, hints, "Only reads, honestly.")
    held = effective("server", definition, propose(definition).statement)
    assert held.effects >= UNKNOWN
    assert held.content == frozenset()


@pytest.mark.parametrize(
    ("hints", "effects"),
    [
        (None, set()),
        ({}, set()),
        ({"title": "x"}, set()),
        ("readOnlyHint", set()),
        (READ_ONLY, {Effect.READ}),
        ({"readOnlyHint": True, "destructiveHint": True, "openWorldHint": False}, {Effect.READ}),
        ({"destructiveHint": True}, {Effect.DESTRUCTIVE, Effect.EXTERNAL}),
        ({"openWorldHint": True, "readOnlyHint": True}, {Effect.READ, Effect.EXTERNAL}),
        ({"readOnlyHint": "yes", "openWorldHint": False}, {Effect.DESTRUCTIVE}),  # only true is true
        ({"idempotentHint": True, "destructiveHint": False, "openWorldHint": False}, {Effect.WRITE}),
    ],
)
def test_hints_have_the_defaults_of_the_standard(hints: Any, effects: set[Effect]) -> None:
    assert hinted(tool("x", hints)) == effects


def test_arguments_are_control_unless_they_are_only_carried() -> None:
    text = {"type": "string"}
    arguments = {
        "to": text,
        "body": text,
        "messageText": text,
        "message_id": text,
        "comment": {"type": "string", "enum": ["a"]},
        "content": {"type": "array"},
        "note": True,
    }
    said = propose(tool("send", **arguments)).statement
    assert said.content == ("body", "messageText")
    assert set(said.control) == set(arguments) - {"body", "messageText"}
    assert said.origin["arguments"] is Confidence.ASSUMED


def test_no_arguments_follow_from_the_schema() -> None:
    assert propose(tool("look")).statement.origin["arguments"] is Confidence.DERIVED


def test_what_gives_out_credentials_has_secret_output() -> None:
    assert propose(tool("get_token")).statement.output.confidentiality is Confidentiality.SECRET
    assert propose(tool("get_thing")).statement.output.integrity is Integrity.UNTRUSTED


@pytest.mark.parametrize(
    "definition", [{"name": "x"}, {"name": "x", "inputSchema": []}, {"name": "x", "inputSchema": {"properties": 1}}]
)
def test_a_strange_definition_is_proposed_at_its_worst(definition: dict[str, Any]) -> None:
    assert propose(definition).statement.effects == UNKNOWN
