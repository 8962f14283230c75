"""What a person's command line may ask of the decision point, over the same socket."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from forestall.core.control import Command
from forestall.core.errors import InvalidInput
from forestall.server.approval import approvals, approve_hold, deny_hold
from forestall.server.frames import frame_id, read_order

if TYPE_CHECKING:
    from forestall.server.connection import Connection


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
    command = read_order(frame, f"uid/{connection.peer.uid}")
    connection.beside(_give_then_answer(connection, frame_id(frame), command))


async def _give_then_answer(connection: Connection, number: int, command: Command) -> None:
    acknowledged = await connection.point.orders.give(command)
    connection.send({**_done(number), **asdict(acknowledged)})


def _tasks(connection: Connection, frame: Mapping[str, Any]) -> None:
    _require_owner(connection)
    connection.send({"type": "tasks", "id": frame_id(frame), **connection.point.tasks()})


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
}
