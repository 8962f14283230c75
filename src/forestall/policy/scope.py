"""Which actions a policy's scope can reach: what a slice is cut by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def action_ids(tree: Mapping[str, Any]) -> tuple[str, frozenset[str]]:
    """("all" | "==" | "in", the ids that the action scope names)."""
    scope = tree["action"]
    if scope["op"] == "All":
        return "all", frozenset()
    entities = scope["entities"] if "entities" in scope else [scope["entity"]]
    return scope["op"], frozenset(entity["id"] for entity in entities if entity["type"] == "Action")


def reaches(tree: Mapping[str, Any], action: str, member_of: frozenset[str], server: str) -> bool:
    """Can the policy apply to this action on this server, whoever asks and with whatever arguments?"""
    return _reaches_action(tree, action, member_of) and _reaches_server(tree["resource"], server)


def unconditional(tree: Mapping[str, Any]) -> bool:
    """Does it apply to all that its action and resource scope reach?"""
    return not tree["conditions"] and tree["principal"] in ({"op": "All"}, {"op": "is", "entity_type": "Workload"})


def unscoped(tree: Mapping[str, Any]) -> bool:
    return all(tree[part]["op"] == "All" for part in ("principal", "action", "resource"))


def _reaches_action(tree: Mapping[str, Any], action: str, member_of: frozenset[str]) -> bool:
    op, named = action_ids(tree)
    if op == "all":
        return True
    return action in named or (op == "in" and not member_of.isdisjoint(named))


def _reaches_server(scope: Mapping[str, Any], server: str) -> bool:
    """Servers have no parents, so that `in` is `==`. What is not understood reaches."""
    entity = scope.get("entity") or scope.get("in", {}).get("entity")
    if scope["op"] == "is" and scope["entity_type"] != "Server":
        return False
    return entity is None or (entity["type"] == "Server" and entity["id"] == server)
