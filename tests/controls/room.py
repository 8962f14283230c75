"""A home with real policy, catalogue, ledger and state, and one server whose tools change a dictionary of files."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from forestall import wire
from forestall.adapter.identity import Peer
from forestall.core.action import ask_for
from forestall.core.ask import Flow, Perform, Record, Tell, Verify
from forestall.core.entry import Stream
from forestall.core.flow import govern
from forestall.core.model import Action, Grant, Outcome, Result
from forestall.core.pin import definition_digest
from forestall.core.task import close_task, open_task
from forestall.home import Home
from forestall.run import run_async

SERVER = "files"
PEER = Peer(uid=0, pid=1, server=SERVER, asserted_name="an agent")
PERMIT_ALL = '@id("all") permit (principal, action, resource);'
EFFECTS = {
    "look": ["read"],
    "read": ["read"],
    "write": ["write"],
    "send": ["write", "external"],
    "delete": ["destructive"],
}
"""`look` reads what is public and trusted, which is the one thing whose record need not be synced first."""

Handlers = Mapping[type, Callable[[Any], Any]]


def definition(tool: str) -> dict[str, Any]:
    path = {"type": "string"}
    schema = {"type": "object", "properties": {"path": path, "text": path}, "required": ["path"]}
    return {"name": tool, "description": f"{tool} a file", "inputSchema": schema}


def pin(tool: str) -> str:
    return definition_digest(SERVER, definition(tool))


def statement(tool: str) -> str:
    integrity, confidentiality = ("trusted", "public") if tool == "look" else ("untrusted", "internal")
    return "\n".join(
        [
            f"[tools.{tool}]",
            f"effects = {json.dumps(EFFECTS[tool])}",
            'control = ["path"]',
            'content = ["text"]',
            f'output = {{ integrity = "{integrity}", confidentiality = "{confidentiality}" }}',
            'from = { effects = "declared", arguments = "declared", output = "declared" }',
            f'pin = "{pin(tool)}"',
        ]
    )


MANDATE = """\
purpose = "tidy up"
tools = {tools}
effects = {effects}
lifetime_minutes = 5
"""


class Room:
    """Ask for calls with `ask`; see what happened in `files`, and what was written with `entries`."""

    def __init__(self, root: Path, *policies: str, mandate: str | None = None, budget: str = "") -> None:
        self.home = Home(root)
        self._furnish(policies, mandate or self.mandate(), budget)
        self.parts = wire.build(self.home)
        self.files: dict[str, str] = {"notes.md": "a secret plan"}
        self.performed: list[Perform] = []
        self._numbers = count(1)
        self.now: Callable[[], int] = self.parts.now

    @staticmethod
    def mandate(tools: str = '["*"]', effects: str = '["read", "write", "external", "destructive"]') -> str:
        return MANDATE.format(tools=tools, effects=effects)

    def _furnish(self, policies: tuple[str, ...], mandate: str, budget: str) -> None:
        self.home.mandates.mkdir(parents=True)
        (self.home.mandates / "default.toml").write_text(mandate + budget)
        for number, policy in enumerate(policies):
            (self.home.policy / f"{number}.cedar").write_text(policy)
        self.home.catalogue.mkdir()
        tools = "\n\n".join(map(statement, EFFECTS))
        (self.home.catalogue / f"{SERVER}.toml").write_text(f'format = 1\nserver = "{SERVER}"\n\n{tools}\n')
        reviewed = {"format": 1, "server": SERVER, "tools": list(map(definition, EFFECTS))}
        (self.home.catalogue / f"{SERVER}.json").write_text(json.dumps(reviewed))

    def handlers(self, **changes: Any) -> dict[type, Callable[[Any], Any]]:
        """Those of the decision point, and the tools themselves. `changes`: by the name of an ask."""
        real = {**wire.handlers(self.parts, directory="/"), Perform: self._perform, Tell: lambda _: self.now()}
        identity = self.parts.identity.__class__([PEER.uid])
        real[Verify] = lambda ask: identity.verify(ask.proof)
        return {kind: changes.get(kind.__name__, handler) for kind, handler in real.items()}

    def run(self, flow: Flow[Any], handlers: Handlers | None = None, deadline: float | None = None) -> Any:
        return asyncio.run(run_async(flow, handlers or self.handlers(), deadline=deadline))

    def open(self, task: str = "task-1", name: str = "default") -> Grant:
        subject = self.handlers()[Verify](Verify(PEER))
        mandate = self.parts.rules.mandates[name]
        grant = self.run(open_task(mandate, task, subject, self.now(), salt=b"s" * 16))
        assert isinstance(grant, Grant)
        return grant

    def close_task(self, task: str = "task-1") -> None:
        self.run(close_task(task, "disconnected", self.now()))

    def action(self, tool: str, task: str = "task-1", **arguments: Any) -> Action:
        number = next(self._numbers)
        return ask_for(
            f"{SERVER}/{tool}",
            arguments,
            action_id=f"action-{number}",
            task=task,
            pin=pin(tool) if tool in EFFECTS else "sha256:" + "00" * 32,
            salt=number.to_bytes(16, "big"),
            at=self.now(),
            proof=PEER,
        )

    def ask(self, asked: Action, handlers: Handlers | None = None, deadline: float | None = None) -> Outcome:
        outcome: Outcome = self.run(govern(asked), handlers, deadline)
        return outcome

    def entries(self, stream: Stream) -> list[dict[str, Any]]:
        return [dict(written.body) for written in self.parts.ledger.read(stream)]

    def _perform(self, ask: Perform) -> Result:
        self.performed.append(ask)
        path, tool = ask.action.arguments["path"], ask.action.tool.removeprefix(f"{SERVER}/")
        if tool == "delete":
            del self.files[path]
        elif tool in ("write", "send"):
            self.files[path] = ask.action.arguments.get("text", "")
        return Result(self.files.get(path, ""), digest="sha256:out")

    def close(self) -> None:
        self.parts.close()


def before(handler: Callable[[Any], Awaitable[Any]], seen: Callable[[Record], None]) -> Callable[[Record], Any]:
    """A `Record` that is looked at first."""

    async def look(ask: Record) -> None:
        seen(ask)
        await handler(ask)

    return look
