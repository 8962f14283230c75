"""`forestall approve`: a held call shown in full, and then a yes to exactly that."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from forestall.cli import WrongCommandLine
from forestall.setup.person import NotDone, ask, connect, fetch, lines, moment

LEAST_PREFIX = 12
"""Hex digits of a digest that a script has to name: 48 bits, which nobody hits by chance."""

EPILOG = """\
examples:
  forestall approve 8c41...                              show it, and ask
  forestall approve 8c41... --json                       show it, for a program; nothing is approved
  forestall approve 8c41... --yes --digest 3f9a0c5d11e2  for a script that has looked at it

All of the call is shown: every argument, who asks, for what, where its paths lead. `yes` approves exactly that, once:
when the agent tries the same call again in the same task, before the approval expires, it runs.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show a held call in full, and approve exactly it."
    parser.epilog = EPILOG
    parser.add_argument("id", metavar="ID", help="as `forestall approvals` or the agent's refusal has it")
    parser.add_argument("--yes", action="store_true", help="do not ask; needs --digest")
    parser.add_argument("--digest", metavar="PREFIX", help="of what was looked at; anything else is not approved")
    parser.add_argument("--socket", metavar="PATH", help="the decision point's socket (else that of the home)")
    parser.add_argument("--json", action="store_true", help="write one JSON object; without --yes nothing is approved")


def run(args: argparse.Namespace) -> int:
    _require_understood(args)
    with connect(args.home, args.socket) as connection:
        action, state, seen = fetch(connection, args.id)
        if args.digest is not None and not seen.removeprefix("sha256:").startswith(_prefix(args.digest)):
            raise NotDone(f"What is held has the digest {seen}, and not the one that you name; look at it again.")
        if args.json and not args.yes:
            print(json.dumps({"action": action, "digest": seen, **_changing(state)}, ensure_ascii=False, indent=2))
            return 0
        if not args.yes:
            size = shutil.get_terminal_size()
            page(lines(action, state, seen), size.columns, size.lines, _go_on)
        if state["why_not_you"]:
            raise NotDone(str(state["why_not_you"]))
        if not args.yes and _input("Approve exactly this? Type yes: ") != "yes":
            raise NotDone("Nothing was approved.")
        answer = ask(connection, "approve", hold=action["hold"], digest=seen)
    print(json.dumps({"hold": action["hold"], **_changing(answer)}) if args.json else _said(answer))
    return 0


def page(shown: Iterable[str], columns: int, rows: int, go_on: Callable[[], bool]) -> None:
    """Print all of it, a screen at a time where it is longer. Raises NotDone for whoever ends it before."""
    left = max(1, rows - 1)
    for row in folded(shown, max(1, columns)):
        if left == 0:
            if not go_on():
                raise NotDone("Nothing was approved: not all of it was shown.")
            left = max(1, rows - 1)
        print(row)
        left -= 1


def folded(shown: Iterable[str], columns: int) -> Iterator[str]:
    """In rows as wide as the terminal, so that it does not fold them itself and scroll the beginning away."""
    for line in shown:
        row, width = "", 0
        for letter in line:
            wide = 2 if unicodedata.east_asian_width(letter) in "FW" else 1
            if row and width + wide > columns:
                yield row
                row, width = "", 0
            row, width = row + letter, width + wide
        yield row


def _require_understood(args: argparse.Namespace) -> None:
    if args.yes and args.digest is None:
        raise WrongCommandLine("--yes needs --digest: it approves what you have looked at, and nothing else.")
    if args.digest is not None:
        _prefix(args.digest)
    if not args.yes and not args.json and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise WrongCommandLine("there is no terminal to show it on; look with --json, then give --yes --digest PREFIX.")


def _prefix(text: str) -> str:
    digits = text.removeprefix("sha256:").lower()
    if not LEAST_PREFIX <= len(digits) <= 64 or not set(digits) <= set("0123456789abcdef"):
        raise WrongCommandLine(f"--digest is at least {LEAST_PREFIX} hex digits of the digest that was shown.")
    return digits


def _changing(state: Mapping[str, Any]) -> dict[str, Any]:
    names = ("until", "expires_at", "given", "missing", "why_not_you")
    return {name: state[name] for name in names if name in state}


def _said(answer: Mapping[str, Any]) -> str:
    left = " and ".join(
        f"{one['count']} more of {', '.join(one['approvers'])}" for one in answer["missing"] if one["count"]
    )
    if not answer["expires_at"]:
        return "You have approved it already." + (f" It still waits for {left}." if left else "")
    good = f"your yes is good until {moment(answer['expires_at'])}"
    if left:
        return f"Approved by you; {good}. It still waits for {left}."
    return f"Approved; {good}. The agent runs it by trying exactly this call again."


def _go_on() -> bool:
    return _input("-- Enter shows more, q ends --").lower() != "q"


def _input(prompt: str) -> str:
    try:
        return input(prompt).strip()
    except EOFError:
        return "q"
