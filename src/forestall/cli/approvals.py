"""`forestall approvals`: held calls that wait for a person."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from forestall.pep.blocking import Connection
from forestall.setup.person import ask, connect, moment
from forestall.setup.token import printable

POLL_S = 0.5
"""Seconds between two looks with --follow."""

EPILOG = """\
examples:
  forestall approvals            what waits now, and for whom
  forestall approvals --follow   go on as calls are held
  forestall approvals --json     one JSON object a line

You see what you may answer; the decision point's own user sees everything. `forestall approve ID` shows one in full.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "List held calls that wait for a person."
    parser.epilog = EPILOG
    parser.add_argument("-f", "--follow", action="store_true", help="go on as calls are held")
    parser.add_argument("--socket", metavar="PATH", help="the decision point's socket (else that of the home)")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    show = json.dumps if args.json else line
    with connect(args.home, args.socket) as connection:
        holds = _holds(connection)
        for hold in holds:
            print(show(hold), flush=True)
        if not holds and not args.json and not args.follow:
            print("Nothing waits for you.")
        if args.follow:
            for hold in follow(connection, {str(one["hold"]) for one in holds}, _pause):
                print(show(hold), flush=True)
    return 0


def follow(connection: Connection, told: set[str], pause: Callable[[], bool]) -> Iterator[Mapping[str, Any]]:
    """What is held from now on, until `pause` says that it is enough."""
    while pause():
        holds = _holds(connection)
        yield from (hold for hold in holds if hold["hold"] not in told)
        told = {str(hold["hold"]) for hold in holds}


def line(hold: Mapping[str, Any]) -> str:
    wanted = " and ".join(f"{one['count']} of {', '.join(one['approvers'])}" for one in hold["missing"] if one["count"])
    waits = f"waits for {wanted}" if wanted else "approved; waits for the agent"
    columns = (
        str(hold["hold"]),
        f"{hold['tool']:<28}",
        f"{', '.join(hold['effects']):<20}",
        f"until {moment(hold['until'])}",
    )
    return printable("  ".join((*columns, waits)) + ("" if not hold["why_not_you"] else "  (not you)"))


def _holds(connection: Connection) -> list[Mapping[str, Any]]:
    return list(ask(connection, "approvals")["holds"])


def _pause() -> bool:
    time.sleep(POLL_S)
    return True
