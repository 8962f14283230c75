"""A gateway asks for a credential that its server is started with (docs/adr/0003-socket-protocol.md, `equip`).

Which classes those are the welcome says. Each is decided as a call of `forestall/equip` in the connection's task.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from forestall.core.action import ask_for
from forestall.core.ask import NotStarted
from forestall.core.equip import EQUIP, equip
from forestall.core.flow import Known, refuse
from forestall.core.model import Action, Deny, Hold, Lease
from forestall.core.place import Where
from forestall.core.reason import Reason
from forestall.run import run_async
from forestall.server.frames import read_equip, refusal_frame
from forestall.server.placing import credential_json
from forestall.server.proving import note_bound

if TYPE_CHECKING:
    from forestall.server.connection import Connection


def equip_server(connection: Connection, frame: Mapping[str, Any]) -> None:
    number, name, separate = read_equip(frame)
    connection.beside(_equip(connection, number, name, separate=separate))


async def _equip(connection: Connection, number: int, name: str, *, separate: bool) -> None:
    assert connection.hello is not None
    where = connection.point.parts.at_start(connection.hello.server).get(name)
    action = _action(connection, name, exposed=where is not None and is_exposed(connection, where, separate=separate))
    handlers = connection.answers.handlers()
    if where is None:
        denial = Deny(action.id, Reason.OUT_OF_SCOPE, detail="no credential of this class is for this server")
        await run_async(refuse(denial, action, Known(connection.subject)), handlers)
        _send(connection, number, denial)
        return
    limit = time.monotonic() + connection.point.parts.config.serve.decision_timeout_ms / 1000
    _send(connection, number, await run_async(equip(action), handlers, deadline=limit))


def _action(connection: Connection, name: str, *, exposed: bool) -> Action:
    assert connection.grant is not None
    assert connection.hello is not None
    return ask_for(
        EQUIP.id,
        {"server": connection.hello.server, "credential": name, "exposed": exposed},
        action_id=secrets.token_hex(16),
        task=connection.grant.task,
        pin=EQUIP.pin,
        salt=secrets.token_bytes(16),
        at=connection.point.parts.now(),
        proof=connection.peer,
    )


def is_exposed(connection: Connection, where: Where, *, separate: bool) -> bool:
    """Can the agent's own user read it there? Everybody reads command lines; an environment is read by who runs as the
    server does. `separate`: that is another user, which only a gateway of root can see to.
    """
    return where is Where.COMMAND or (where is Where.ENVIRONMENT and not (separate and connection.peer.uid == 0))


def _send(connection: Connection, number: int, decided: Lease | Deny | Hold) -> None:
    if isinstance(decided, Lease) and connection.stopped is not None:
        decided = Deny(decided.permit, connection.stopped)
    if isinstance(decided, Lease):
        try:
            credential = credential_json(decided)
        except NotStarted as error:
            connection.point.complain(error.detail)
            decided = Deny(decided.permit, error.reason)
        else:
            note_bound(connection.bound, credential, connection.point.parts.lending.proving.lives)
            connection.send({"type": "equipped", "id": number, "lease": decided.name, "credential": credential})
            return
    if isinstance(decided, Deny) and decided.reason is Reason.UNAVAILABLE and decided.detail:
        connection.point.complain(decided.detail)
    connection.send(refusal_frame(number, decided))
