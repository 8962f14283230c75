"""From accept to welcome: who connects, a challenge, a hello that answers it, and a task that is opened or entered.

Every step has its time. One that fails refuses the connection, and nothing was asked on it by then.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from forestall import __version__
from forestall.adapter.attest.value import Attested
from forestall.adapter.identity import asserted
from forestall.catalogue.statement import require_server_name
from forestall.core.ask import CannotDo
from forestall.core.errors import InvalidInput, SetupError
from forestall.core.label import Label
from forestall.core.mandate import Wish
from forestall.core.model import Subject
from forestall.core.reason import Reason
from forestall.core.task import open_task, told
from forestall.frame import PROTOCOL
from forestall.run import run_async
from forestall.server.door import LOOK_WITHIN_S, joined, known_of, peer_with
from forestall.server.frames import Hello, Peering, challenge_frame

if TYPE_CHECKING:
    from forestall.server.connection import Connection

FULL = "The decision point has as many connections as it may; see max_connections under [serve]."


class Greeting:
    """Of one connection: what it finds out about the peer, the connection has from then on."""

    def __init__(self, connection: Connection, connected: socket.socket) -> None:
        self._connection = connection
        self._socket = connected
        self._point = connection.point
        self._parts = connection.point.parts
        self._timer: asyncio.TimerHandle | None = None
        self._nonce = ""
        self._seen: Attested | None = None

    def _within(self, seconds: float, otherwise: str) -> None:
        """From now on this long for the next step."""
        self.cancel()
        self._timer = self._connection.loop.call_later(seconds, self._connection.refuse, otherwise)

    def cancel(self) -> None:
        """No step is waited for any more."""
        if self._timer is not None:
            self._timer.cancel()

    async def look(self) -> None:
        """Who connected, before a word is said; then ask for what only an answer after that can hold."""
        self._within(LOOK_WITHIN_S, "It took too long to see who connects.")
        try:
            self._parts.identity.verify(self._connection.peer)
            self._seen = await self._point.door.look(self._socket)
        except CannotDo as error:
            self._turn_away(error)
            return
        self._within(self._parts.config.serve.handshake_timeout_ms / 1000, "There was no hello in time.")
        self._nonce = self._connection.nonce = secrets.token_urlsafe(24)
        self._connection.send(challenge_frame(self._nonce))

    async def greet(self, hello: Hello) -> None:
        """Whoever answers the challenge says who it is, and is welcome or not."""
        if not hmac.compare_digest(hello.nonce.encode("utf-8", "surrogatepass"), self._nonce.encode()):
            raise InvalidInput("The hello does not answer the challenge of this connection.")
        if self._point.crowded and hello.kind is not Peering.CLI:
            raise InvalidInput(FULL)
        self._within(LOOK_WITHIN_S, "It took too long to see who connects.")
        connection = self._connection
        connection.introduce(replace(hello, grant="", proof=""))
        itself = hello.kind is Peering.AGENT
        try:
            if hello.kind is Peering.GATEWAY:
                require_server_name(hello.server)  # of another name no tool could ever be reviewed
            workload = await self._point.door.look_again(self._socket, self._seen, itself=itself)
            named = replace(connection.peer, server=hello.server, asserted_name=asserted(hello.client))
            connection.peer = peer_with(named, workload)
            connection.subject = subject = self._parts.identity.verify(connection.peer)
            if hello.grant:
                connection.lineage = () if workload is None else workload.lineage
                await self._enter(hello, subject)
            elif hello.kind is not Peering.CLI:
                await self._open(hello, subject, known_of(workload, self._parts.state, again=hello.again))
        except SetupError as error:
            connection.refuse(str(error), setup=True)
            return
        except CannotDo as error:
            self._turn_away(error)
            return
        if not connection.closed:
            self._welcome()
            self._point.orders.look(connection)

    def _turn_away(self, error: CannotDo) -> None:
        self._connection.refuse(f"This connection is refused: {error.detail or error.reason.value}.")

    async def _open(self, hello: Hello, subject: Subject, known: Label) -> None:
        """Open its task. `known`: what it may have seen before."""
        connection, parts = self._connection, self._parts
        name = hello.mandate or "default"
        mandate = parts.rules.mandates.get(name)
        if mandate is None:
            sentence = f"There is no mandate `{name}`; write {parts.home.mandates / name}.toml."
            connection.refuse(sentence, setup=True)
            return
        if connection.closed:
            return
        task, salt = secrets.token_hex(16), secrets.token_bytes(16)
        flow = open_task(mandate, task, subject, parts.now(), known, Wish(user=subject.local_user), salt=salt)
        try:
            connection.grant = await run_async(flow, connection.answers.handlers())
        except CannotDo as error:
            connection.refuse(_not_opened(error, task))

    async def _enter(self, hello: Hello, seen: Subject) -> None:
        """Act in a task that was opened elsewhere."""
        from forestall.server.oauth.accept import accept_grant

        parts, at = self._parts, self._parts.now()
        try:
            grant, holder = await asyncio.to_thread(accept_grant, parts, hello.grant, hello.proof, self._nonce, at)
        except CannotDo as error:  # what is wrong with it is not for whoever sent it
            self._point.say_once(f"A grant at the socket is refused ({error.reason.value}): {error.detail}")
            raise CannotDo(error.reason) from None
        self._connection.grant, self._connection.subject = grant, joined(holder, seen)

    def _welcome(self) -> None:
        self.cancel()
        connection = self._connection
        assert connection.subject is not None
        assert connection.hello is not None
        demanded = self._parts.permits.demanded(connection.hello.server)
        connection.send(
            {
                "type": "welcome",
                "protocol": PROTOCOL,
                "task": connection.grant.task if connection.grant is not None else "",
                "subject": connection.subject.id,
                "assurance": connection.subject.assurance.value,
                "policy_digest": self._parts.rules.engine.digest,
                "version": __version__,
                "heartbeat_ms": self._parts.config.serve.heartbeat_ms,
                **({} if demanded is None else {"permits": {"audience": demanded.audience}}),
                **self._lending(),
                **self._references(connection.hello.server),
            }
        )

    def _references(self, server: str) -> dict[str, Any]:
        """Where there are any: which arguments of which of its tools name files whose content a call uses."""
        tools = (tool for tool in self._parts.rules.catalogue.all() if tool.references and tool.server == server)
        found = {tool.name: sorted(tool.references) for tool in tools}
        return {"references": found} if found else {}

    def _lending(self) -> dict[str, Any]:
        """For an enforcement point, where there are credentials: that there are, and what its server starts with."""
        hello = self._connection.hello
        if hello is None or hello.kind is Peering.CLI or not self._parts.lends:
            return {}
        return {"lends": True, "equip": sorted(self._parts.at_start(hello.server))}


def _not_opened(error: CannotDo, task: str) -> str:
    if error.reason is Reason.UNAVAILABLE:
        return f"The connection cannot be served now: {error.detail or error.reason.value}."
    return f"The task {task} is not opened ({error.reason}): {told(error)}"
