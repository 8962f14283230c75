"""`forestall leases`: which credentials may be alive, what for, until when; and what became of the others."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from forestall.adapter.ledger.reader import LogReader
from forestall.cli.log import moment as since_moment
from forestall.cli.record import Life, lives, moment, place_text, span
from forestall.core.errors import Unavailable
from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.pep.start import socket_path
from forestall.setup.token import printable

EPILOG = """\
examples:
  forestall leases                     what may be alive now
  forestall leases --ended             what was, why it ended, and how long it lived; from the ledger
  forestall leases --ended --since 1h --task ID
  forestall leases --json              for a program

A credential is `alive`, `ending` (it is over, and its backend is being told, or nobody can end it before its time) or
`failing` (its backend could not be told, and is tried again). Where no decision point runs, those that the ledger has
no end of are `unwatched`: the next start ends them. `forestall explain` takes a credential's name.

exit codes: 0 done; 1 one could not be ended, or nobody watches it; 69 the decision point does not answer
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show the credentials that may be alive, or those that have ended."
    parser.epilog = EPILOG
    add = parser.add_argument
    add("--ended", action="store_true", help="those that have ended, from the ledger")
    add("--task", metavar="ID", help="only those of this task")
    add("--credential", metavar="CLASS", help="only those of this class")
    add("--since", metavar="WHEN", help="with --ended: those that ended from then on, as in `forestall log`")
    add("--json", action="store_true", help="write one JSON object")


def run(args: argparse.Namespace) -> int:
    home = Home.find(args.home)
    if args.ended:
        since = 0 if args.since is None else since_moment(args.since, time.time_ns() // 1_000_000)
        ended = [one for one in lives(LogReader(home.ledger)) if one.ended_at is not None and one.ended_at >= since]
        rows = [row for row in map(ended_row, ended) if _wanted(row, args)]
        print(json.dumps({"ended": rows}, indent=2) if args.json else "\n".join(_ended_lines(rows)))
        return 0
    at, rows = _alive(home)
    rows = [row for row in rows if _wanted(row, args)]
    print(json.dumps({"at": at, "leases": rows}, indent=2) if args.json else "\n".join(_alive_lines(rows, at)))
    return int(any(row["state"] in {"failing", "unwatched"} for row in rows))


def _wanted(row: Mapping[str, Any], args: argparse.Namespace) -> bool:
    return (args.task is None or str(row["task"]).startswith(args.task)) and (
        args.credential is None or row["credential"] == args.credential
    )


def _alive(home: Home) -> tuple[int, list[dict[str, Any]]]:
    """As the decision point says; where none runs, as the ledger does."""
    path = socket_path(home)
    if not path.exists():
        return time.time_ns() // 1_000_000, [
            unwatched_row(one) for one in lives(LogReader(home.ledger)) if one.leased and not one.ended_at
        ]
    with Connection(path) as connection:
        answer = connection.ask("leases")
    rows = answer["leases"]
    if not isinstance(rows, list):
        raise Unavailable("The decision point does not say what lives; is it of another version?")
    return int(answer["at"]), rows


def unwatched_row(life: Life) -> dict[str, Any]:
    assert life.leased is not None
    body = life.leased
    kept = ("credential", "backend", "scope", "task", "permit", "rights", "place", "standing", "exposed")
    row = {name: body.get(name) for name in kept}
    return {"name": life.name, **row, "since": body["at"], "until": body["expires_at"], "state": "unwatched", "why": ""}


def ended_row(life: Life) -> dict[str, Any]:
    leased = life.leased or {}
    return {
        "name": life.name,
        "credential": life.credential,
        "backend": leased.get("backend"),
        "scope": leased.get("scope"),
        "task": life.task,
        "permit": life.permit,
        "rights": leased.get("rights"),
        "place": leased.get("place"),
        "since": leased.get("at"),
        "ended": life.ended_at,
        "lived_ms": None if life.lived_ms is None else life.lived_ms,
        "why": life.why,
        "standing": leased.get("standing"),
        "exposed": leased.get("exposed"),
    }


def _alive_lines(rows: list[dict[str, Any]], at: int) -> Iterator[str]:
    if not rows:
        yield "No credential is alive."
    for row in rows:
        yield printable(f"{row['state']:<9} {row['credential']:<16} {_until(row, at):<18} {row['name']}")
        yield printable(f"          {_about(row)}")
        yield printable(f"          may {json.dumps(row['rights'], ensure_ascii=False)}")
        if row.get("detail"):
            yield printable(f"          over ({row['why']}), not ended in {row['attempts']} attempts: {row['detail']}")


def _until(row: Mapping[str, Any], at: int) -> str:
    left = int(row["until"]) - at
    return f"ends in {span(left)}" if left > 0 else "out of time"


def _about(row: Mapping[str, Any]) -> str:
    marks = [mark for mark in ("standing", "exposed") if row.get(mark)]
    parts = [
        f"{row['backend']}, for the {row['scope']}",
        f"task {row['task']}" if row["task"] else "no task that is known",
        place_text(row["place"]),
        f"since {moment(int(row['since']))}",
        *([", ".join(marks).upper()] if marks else []),
    ]
    return "; ".join(parts)


def _ended_lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    if not rows:
        yield "No credential has ended."
    for row in rows:
        lived = "not made by a record" if row["lived_ms"] is None else f"lived {span(row['lived_ms'])}"
        yield printable(f"{moment(row['ended'])}  {row['credential']:<16} {row['why']:<12} {lived:<20} {row['name']}")
