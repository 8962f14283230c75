"""What `kill`, `suspend`, `resume` and `risk` share: whom an order is about, giving it, and saying what came of it."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from forestall.cli import WrongCommandLine
from forestall.core.control import Order, Reach
from forestall.core.errors import InvalidInput
from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.pep.start import ensure_running, socket_path
from forestall.setup.token import printable

START_WITHIN_MS = 10_000
"""For a decision point that is started so that the order is recorded."""

ANSWER_WITHIN_S = 15.0
"""Seconds for an order to be on disk, and for every enforcement point to have confirmed it."""

OVER = frozenset({"ended", "killed"})

DID = {Order.KILL: "Ended", Order.SUSPEND: "Suspended", Order.RESUME: "Resumed"}
COUNTED = {Order.KILL: "tasks_ended", Order.SUSPEND: "tasks_suspended", Order.RESUME: "tasks_resumed"}

TARGETS = """\
A task is meant with everything below it. Agents, users and trust domains are meant in every task, also where they act
through others, and in those that they would open from now on. The order is in the ledger, and in force, once this ends.
"""


@dataclass(frozen=True, slots=True)
class Whom:
    reach: Reach
    name: str
    trust_domain: str = ""

    def __str__(self) -> str:
        if self.reach is Reach.EVERYTHING:
            return "everything"
        domain = f" of {self.trust_domain}" if self.trust_domain else ""
        return printable(f"{self.reach.value.replace('_', ' ')} {self.name}{domain}")


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("task", nargs="?", metavar="TASK", help="a task's id, or a beginning of it that no other has")
    add("--agent", metavar="ID", help="the workload of this id; of --trust-domain, unless it is a SPIFFE ID")
    add("--user", metavar="USER", help="what serves this user: ISSUER#SUBJECT, or uid/N here")
    add("--trust-domain", metavar="DOMAIN", help="every agent of this trust domain")
    add("--everything", action="store_true", help="all of it")
    add(
        "--tenant",
        metavar="TENANT",
        default="",
        help="of this tenant (else that of the trust domain or issuer, else of none)",
    )
    add("--why", metavar="TEXT", default="", help="for the ledger, and for whoever looks at it: one line")
    add("--json", action="store_true", help="write one JSON object")


def run(args: argparse.Namespace, order: Order, level: str | None = None) -> int:
    whom = target(args)
    home = Home.find(args.home)
    if whom.reach is not Reach.TASK:  # who is not there yet is meant too, and so the order has to be written
        ensure_running(home, START_WITHIN_MS)
    with Connection(socket_path(home), ANSWER_WITHIN_S) as connection:
        if whom.reach is Reach.TASK:
            whom = Whom(Reach.TASK, find_task(connection.ask("tasks")["tasks"], whom.name, order))
        members = {"reach": whom.reach.value, "name": whom.name, "trust_domain": whom.trust_domain}
        if level is not None:
            members["level"] = level
        start = time.monotonic()
        answer = connection.ask("order", order=order.value, tenant=args.tenant, why=args.why, **members)
        took = round((time.monotonic() - start) * 1000, 1)
    done = {name: value for name, value in answer.items() if name not in {"type", "id"}}
    if args.json:
        print(json.dumps({"order": order.value, **members, "why": args.why, **done, "took_ms": took}))
    else:
        print("\n".join(lines(order, whom, done, took, level)))
    return 0


def target(args: argparse.Namespace) -> Whom:
    """Raises WrongCommandLine where it is not one that was named."""
    named = [args.task, args.agent, args.user, args.everything or None]
    if args.agent is None:
        named.append(args.trust_domain)
    elif not args.agent:
        raise WrongCommandLine("--agent is the id of a workload.")
    if sum(one is not None for one in named) != 1 or "" in named:
        raise WrongCommandLine("name one of TASK, --agent, --user, --trust-domain and --everything.")
    if args.task:
        return Whom(Reach.TASK, args.task)
    if args.agent:
        return Whom(Reach.AGENT, args.agent, args.trust_domain or "")
    if args.user:
        return Whom(Reach.USER, args.user)
    return Whom(Reach.EVERYTHING, "") if args.everything else Whom(Reach.TRUST_DOMAIN, args.trust_domain)


def find_task(tasks: Iterable[Mapping[str, Any]], beginning: str, order: Order) -> str:
    """The one task that is meant.

    Raises:
        InvalidInput: there is none, or more than one.
    """
    found = {str(task["task"]): task for task in tasks if str(task["task"]).startswith(beginning)}
    names = [name for name, task in found.items() if task["state"] not in OVER]
    if beginning in names:
        return beginning
    if len(names) == 1:
        return names[0]
    if names:
        raise InvalidInput(f"{len(names)} tasks begin with {printable(beginning)}; name more of it.")
    killed = any(task["state"] == "killed" for task in found.values())
    more = " One that was killed stays ended." if killed and order is Order.RESUME else ""
    raise InvalidInput(f"No open task begins with {printable(beginning)}; `forestall tasks` shows them.{more}")


def lines(order: Order, whom: Whom, done: Mapping[str, Any], took: float, level: str | None) -> Iterator[str]:
    if order is Order.RISK:
        yield f"The risk of {whom} is {level}."
    else:
        yield f"{DID[order]} {_count(done[COUNTED[order]], 'task')} of {whom}."
        if not done[COUNTED[order]] and whom.reach is not Reach.EVERYTHING:
            yield "No open task is meant; `forestall tasks` shows agents, users and tenants as they are written."
    told = done["confirmed"] + done["unconfirmed"]
    if told:
        yield f"{done['confirmed']} of {_count(told, 'enforcement point')} confirmed."
    if done["unconfirmed"]:
        yield "What did not confirm is disconnected, and starts nothing more."
    if done["credentials_ended"] or done["credentials_left"]:
        yield f"{_count(done['credentials_ended'], 'credential')} ended."
    if done["credentials_left"]:
        left = _count(done["credentials_left"], "credential")
        yield f"{left} may still be alive: a backend has not answered. It is tried again; see `forestall leases`."
    if whom.reach is not Reach.TASK and order in {Order.KILL, Order.SUSPEND}:
        yield "No new task is opened for it until `forestall resume` says otherwise."
    yield f"In force after {took} ms."


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
