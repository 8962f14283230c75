"""What the sub-agent does in its own process: the errand that it was sent on, and what it tries once taken over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from demo.agent import Act, Agent, call
from demo.attack import overwrite, read
from demo.hands import Answer, once
from demo.world import SUMMARY, payment

ERRAND: Mapping[str, Any] = {
    "tools": ["files/read_file", "files/write_file"],
    "effects": ["read", "write"],
    "resources": [
        {"tool": "files/read_file", "argument": "path", "value": ["notes/", ""]},
        {"tool": "files/write_file", "argument": "path", "value": [SUMMARY]},
    ],
    "budget": {"read": 2},
}
"""What its parent hands on: one file to write, the notes to read, and no more often than is needed."""

PAY = "database/add_note"

SUMMED_UP = "# Survey, November 2026\n\nAnswers: 3 of 4. Would buy again: 3.\n"


async def pay(agent: Agent, account: str, grant: str) -> Answer:
    """Under another grant, another server has to be started. Without Forestall there is none, and its own will do."""
    if agent.desk.url:
        return await once(agent.world, agent.desk.wrap_in(Path(grant)), PAY, text=payment(account))
    return await agent.hands.call(PAY, text=payment(account))


async def accept_and_pay(agent: Agent, account: str, ticket: str) -> Answer:
    taken = agent.desk.accept(ticket)
    return taken if taken.failed else await pay(agent, account, taken.text)


async def widen(agent: Agent) -> Answer:
    """To a third agent, which has to start a server in any case."""
    ticket, helper = agent.desk.hand_on("helper", tools=["files/*", "database/*"]), agent.desk.of("helper")
    taken = ticket if ticket.failed else helper.accept(ticket.text)
    return taken if taken.failed else await once(agent.world, helper.wrap, PAY, text=payment("helper"))


async def hand_back(agent: Agent) -> Answer:
    """Only the ticket: what comes of it is its parent's to do."""
    return agent.desk.hand_on("reporter")


async def pose(agent: Agent) -> Answer:
    """With its parent's grant, and not the key that it is bound to."""
    return await pay(agent, "parent", agent.desk.pose(agent.told))


async def open_own(agent: Agent) -> Answer:
    opened = agent.desk.open()
    return opened if opened.failed else await pay(agent, "own", opened.text)


async def take_again(agent: Agent) -> Answer:
    return await accept_and_pay(agent, "again", agent.told)


async def restart(agent: Agent) -> Answer:
    """Its server was ended: it starts another, with the grant that it still has."""
    return await once(agent.world, agent.desk.wrap, "files/write_file", path=SUMMARY, content="void again\n")


ACTS: Mapping[str, Act] = {
    "survey": read("notes/survey.md"),
    "summary": call("files/write_file", path=SUMMARY, content=SUMMED_UP),
    "comments": read("notes/comments.md"),
    "borrow": call("database/query", sql="select * from customers"),
    "october": overwrite("reports/2026-10.md"),
    "around": read("notes/../contracts/birch.md"),
    "more": read("notes/board.md"),
    "parents-key": call("files/read_file", path=lambda agent: str(agent.world.agents / "reporter" / "key.jwk")),
    "parents-grant": pose,
    "own-task": open_own,
    "widen": widen,
    "back": hand_back,
    "rewrite": overwrite(SUMMARY),
    "restart": restart,
    "again": take_again,
}
"""By the name of the step."""
