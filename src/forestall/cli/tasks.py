"""`forestall tasks`: who works on what, for whom, in whose name, and what was ordered about it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.pep.start import socket_path
from forestall.setup.token import printable

POLL_S = 1.0
"""Seconds between two looks with --follow."""

SHOWN = 12
"""Characters of a task's id. More are needed only where two begin alike."""

CLEAR = "\033[H\033[2J"
COLOURS = {"open": "32", "suspended": "33", "killed": "31", "ended": "2"}

EPILOG = """\
examples:
  forestall tasks             the tree of tasks, and the orders that stand
  forestall tasks --follow    live
  forestall tasks --json      for a program; with --follow, one object a line

Each task shows its state, the beginning of its id, who holds it, its purpose, what it has seen, what it has used of its
budget, its age, and when it ends. `forestall kill`, `suspend`, `resume` and `risk` take the id.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show the tasks that are open, each below the one that handed it on, and the orders that stand."
    )
    parser.epilog = EPILOG
    parser.add_argument("-f", "--follow", action="store_true", help="go on, and show what changes")
    parser.add_argument("--json", action="store_true", help="write one JSON object")


def run(args: argparse.Namespace) -> int:
    path = socket_path(Home.find(args.home))
    terminal = sys.stdout.isatty()
    colour = terminal and "NO_COLOR" not in os.environ
    before: object = None
    with Connection(path) as connection:
        while True:
            answer = connection.ask("tasks")
            text = _json(answer, indent=not args.follow) if args.json else "\n".join(drawn(answer, colour=colour))
            now = [answer["tasks"], answer["orders"]] if args.json else text
            if now != before:
                clear = CLEAR if args.follow and terminal and not args.json else ""
                print(clear + text, flush=True)
                before = now
            if not args.follow:
                return 0
            time.sleep(POLL_S)


def drawn(answer: Mapping[str, Any], *, colour: bool = False) -> Iterator[str]:
    """What came from outside is shown without control characters, which could rewrite a terminal."""
    tasks = answer["tasks"]
    names = {task["task"] for task in tasks}
    below: dict[str, list[Mapping[str, Any]]] = {}
    for task in tasks:
        below.setdefault(task["parent"] if task["parent"] in names else "", []).append(task)
    if not tasks:
        yield "No task is open."
    for root in below.get("", ()):
        yield from _tree(root, below, answer["at"], "", "", colour=colour)
    if answer["orders"]:
        yield ""
        yield "Orders that stand"
    for order in answer["orders"]:
        yield "  " + _order(order, answer["at"])


def _tree(
    task: Mapping[str, Any],
    below: Mapping[str, Sequence[Mapping[str, Any]]],
    now: int,
    first: str,
    rest: str,
    *,
    colour: bool,
) -> Iterator[str]:
    children = below.get(task["task"], ())
    stem = "\u2502  " if children else "   "
    yield f"{first}{_state(task['state'], colour=colour)} {task['task'][:SHOWN]}  {_who(task)}"
    yield from (f"{rest}{stem}{line}" for line in _about(task, now))
    for number, child in enumerate(children, 1):
        last = number == len(children)
        branch, stem = ("\u2514\u2500 ", "   ") if last else ("\u251c\u2500 ", "\u2502  ")
        yield from _tree(child, below, now, rest + branch, rest + stem, colour=colour)


def _state(state: str, *, colour: bool) -> str:
    return f"\033[{COLOURS.get(state, '0')}m{state}\033[0m" if colour else state


def _who(task: Mapping[str, Any]) -> str:
    domain = f" of {task['trust_domain']}" if task["trust_domain"] else ""
    user = f", for {task['user']}" if task["user"] else ""
    tenant = f", tenant {task['tenant']}" if task["tenant"] else ""
    return printable(f"{task['holder']}{domain}{user}{tenant}: {task['purpose']!r} ({task['mandate']})")


def _about(task: Mapping[str, Any], now: int) -> Iterator[str]:
    labels = task["labels"]
    parts = [f"seen {labels['integrity']}, {labels['confidentiality']}", f"used {_used(task)}"]
    if task["running"]:
        parts.append(f"{task['running']} running")
    parts.append(f"open {_span(now - task['opened_at'])}")
    left = task["expires_at"] - now
    parts.append(f"ends in {_span(left)}" if left > 0 else "out of time")
    yield "; ".join(parts)
    if task["since"]:
        yield f"suspended {_span(now - task['since'])} ago: {_why(task['why'])}"


def _used(task: Mapping[str, Any]) -> str:
    budget, spent = task["budget"], task["spent"]
    used = [
        f"{what} {spent.get(what, 0)}" + (f" of {budget[what]}" if what in budget else "")
        for what in sorted({*budget, *(name for name, amount in spent.items() if amount)})
    ]
    return ", ".join(used) or "nothing"


def _order(order: Mapping[str, Any], now: int) -> str:
    whom = "everything" if order["reach"] == "everything" else f"{order['reach'].replace('_', ' ')} {order['name']}"
    domain = f" of {order['trust_domain']}" if order["trust_domain"] else ""
    tenant = f", tenant {order['tenant']}" if order["tenant"] else ""
    level = f" {order['level']}" if order["level"] else ""
    said = f"{order['order']}{level} {whom}{domain}{tenant}, {_span(now - order['at'])} ago by {order['by']}"
    return printable(f"{said}: {_why(order['why'])}")


def _why(why: str) -> str:
    return printable(why) or "no reason was given"


def _span(milliseconds: int) -> str:
    """Roughly, as a person says it."""
    seconds = max(0, milliseconds) // 1000
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length} {unit}"
    return f"{seconds} s"


def _json(answer: Mapping[str, Any], *, indent: bool) -> str:
    told = {name: value for name, value in answer.items() if name not in {"type", "id"}}
    return json.dumps(told, ensure_ascii=False, indent=2 if indent else None)
