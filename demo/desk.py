"""How an agent comes to be allowed to act: with Forestall it asks, with a key of its own; without, nobody is asked.

What is answered is an `Answer`, as for a call: a refusal is one too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import guard
from demo.hands import Answer, Wrap
from demo.world import MONTH, World
from forestall.agent import Agent, Held, RegisteredKey, TaskRefused, new_key, read_key


@dataclass(frozen=True, slots=True)
class Desk:
    world: World
    who: str
    url: str = ""
    """Of the token service; empty without Forestall."""

    @property
    def folder(self) -> Path:
        return self.world.agents / self.who

    @property
    def grant(self) -> Path:
        return self.folder / "grant.json"

    @property
    def token(self) -> str:
        """What a log may give away of a grant: all of it but the key."""
        return Held.read(self.grant).token if self.url else ""

    @property
    def task(self) -> str:
        return Held.read(self.grant).task

    @property
    def wrap(self) -> Wrap:
        return self.wrap_in(self.grant)

    def wrap_in(self, grant: Path) -> Wrap:
        """What starts a server that acts in the task of a grant."""
        return guard.Gateway(self.world, grant) if self.url else guard.direct

    def open(self, mandate: str = "report", **parameters: str) -> Answer:
        """Its text is the file of the grant. Where there is one already, that is kept, and this is beside it."""
        return self._keep(lambda agent: agent.open(mandate, parameters=parameters or {"month": MONTH}))

    def complete(self) -> Answer:
        """Say that the task is done. Without Forestall there is nobody to say it to."""

        def complete(agent: Agent) -> str:
            agent.complete(Held.read(self.grant))
            return "It has ended."

        return self._ask(complete)

    def hand_on(self, to: str, **narrower: Any) -> Answer:
        """Its text is the ticket."""
        return self._ask(lambda agent: agent.delegate(Held.read(self.grant), to=to, **narrower).token)

    def accept(self, ticket: str) -> Answer:
        """Its text is the file of the grant, as that of `open`."""
        return self._keep(lambda agent: agent.accept(ticket))

    def of(self, who: str) -> Desk:
        return Desk(self.world, who, self.url)

    def pose(self, token: str) -> str:
        """A grant file of somebody else's token, and a key that it is not bound to."""
        posed = self.folder / "posed.json"
        if self.url:
            Held(token, new_key()).write(posed)
        return str(posed)

    def _keep(self, act: Callable[[Agent], Held]) -> Answer:
        file = self.folder / "another.json" if self.grant.exists() else self.grant

        def keep(agent: Agent) -> str:
            act(agent).write(file)
            return str(file)

        return self._ask(keep)

    def _ask(self, act: Callable[[Agent], str]) -> Answer:
        if not self.url:
            return Answer("")
        agent = Agent(self.url, RegisteredKey(self.who, read_key(self.folder / "key.jwk")))
        try:
            return Answer(act(agent))
        except TaskRefused as refused:
            said = {"reason": refused.reason, "decision": "deny", "decision_id": refused.decision}
            return Answer(str(refused), failed=True, **said)
