"""What a person's command line may ask of the decision point, over the same socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from forestall.core.control import Command, Reach
from forestall.core.errors import InvalidInput
from forestall.core.model import NOTHING
from forestall.server.approval import approvals, approve_hold, deny_hold
from forestall.server.frames import frame_id, read_order

if TYPE_CHECKING:
    from forestall.server.connection import Connection

SPIFFE = "spiffe://"


def _status(connection: Connection, frame: Mapping[str, Any]) -> None:
    connection.send({"type": "status", "id": frame_id(frame), **connection.point.status(connection.peer.uid)})


def _reload(connection: Connection, frame: Mapping[str, Any]) -> None:
    _require_owner(connection)
    connection.beside(_reload_then_answer(connection, frame_id(frame)))


async def _reload_then_answer(connection: Connection, number: int) -> None:
    sentence = await connection.point.reload()
    connection.send({"type": "refused", "id": number, "sentence": sentence} if sentence else _done(number))


def _stop(connection: Connection, frame: Mapping[str, Any]) -> None:
    _require_owner(connection)
    connection.send(_done(frame_id(frame)))
    connection.point.stop()


def _order(connection: Connection, frame: Mapping[str, Any]) -> None:
    _require_owner(connection)
    tokens = connection.point.parts.tokens
    known = tokens.identities if tokens is not None else None
    command = placed(
        read_order(frame, f"uid/{connection.peer.uid}"),
        known.tenants if known else NOTHING,
        known.tenants_of_users if known else NOTHING,
    )
    connection.beside(_give_then_answer(connection, frame_id(frame), command))


def placed(command: Command, tenants: Mapping[str, str], tenants_of_users: Mapping[str, str]) -> Command:
    """The order, with what its target leaves unsaid: a SPIFFE ID names its trust domain, a trust domain has one
    tenant, and so has the issuer of a user's identity. Else a kill of a SPIFFE ID alone would be acknowledged, and
    pass by whom it names.
    """
    target = command.target
    if target.reach is Reach.AGENT and not target.trust_domain and target.name.startswith(SPIFFE):
        target = replace(target, trust_domain=target.name.removeprefix(SPIFFE).partition("/")[0])
    if not target.tenant and target.reach in {Reach.AGENT, Reach.TRUST_DOMAIN}:
        domain = target.trust_domain if target.reach is Reach.AGENT else target.name
        target = replace(target, tenant=tenants.get(domain, ""))
    if not target.tenant and target.reach is Reach.USER:
        target = replace(target, tenant=tenants_of_users.get(target.name.partition("#")[0], ""))
    return replace(command, target=target)


async def _give_then_answer(connection: Connection, number: int, command: Command) -> None:
    acknowledged = await connection.point.orders.give(command)
    connection.send({**_done(number), **asdict(acknowledged)})


def _tasks(connection: Connection, frame: Mapping[str, Any]) -> None:
    _require_owner(connection)
    connection.send({"type": "tasks", "id": frame_id(frame), **connection.point.tasks()})


def _leases(connection: Connection, frame: Mapping[str, Any]) -> None:
    _require_owner(connection)
    point = connection.point
    told = {"at": point.parts.now(), "leases": point.leases.book.rows()}
    connection.send({"type": "leases", "id": frame_id(frame), **told})


def _require_owner(connection: Connection) -> None:
    """An agent's user may connect; what rules it is not for it to say."""
    if connection.peer.uid != os.geteuid():
        raise InvalidInput("Only the user that the decision point runs as may order, stop or reload it.")


def _done(number: int) -> dict[str, Any]:
    return {"type": "done", "id": number}


COMMANDS: Mapping[str, Callable[[Connection, Mapping[str, Any]], None]] = {
    "status": _status,
    "reload": _reload,
    "stop": _stop,
    "approvals": approvals,
    "approve": approve_hold,
    "deny": deny_hold,
    "order": _order,
    "tasks": _tasks,
    "leases": _leases,
}
