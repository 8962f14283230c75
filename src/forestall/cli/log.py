"""`forestall log`: what was decided, in order of time."""

from __future__ import annotations

import argparse
import fnmatch
import heapq
import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from forestall.adapter.ledger.reader import Cursor, LogReader
from forestall.cli import WrongCommandLine
from forestall.cli.record import LEASES, order_text
from forestall.core.entry import Kind, Stream
from forestall.core.reason import Reason
from forestall.home import Home
from forestall.port import Written

POLL_S = 0.25
"""Seconds between two looks at the files with --follow."""

EPILOG = """\
examples:
  forestall log --since 1h                   the last hour
  forestall log --follow --stream denials    what is being refused
  forestall log --tool 'git/*' --json        one JSON object a line

Each line is: time (UTC), what happened, the tool, why, the id. Take the id to `forestall explain` or `forestall prove`.
The log is read as it stands; whether it was changed is for `forestall-verify` to say.
"""

VERBS = {
    Kind.OPENED: "open",
    Kind.EXTENDED: "extend",
    Kind.ORDERED: "order",
    Kind.PERMITTED: "permit",
    Kind.SETTLED: "settled",
    Kind.CLOSED: "close",
    Kind.LEASED: "lease",
    Kind.REVOKED: "revoke",
    Kind.USED: "used",
    Kind.DENIED: "deny",
    Kind.HELD: "hold",
    Kind.REPEATED: "repeated",
    Kind.SUPPRESSED: "suppressed",
    Kind.QUARANTINED: "quarantine",
    Kind.APPROVED: "approve",
    Kind.DECLINED: "decline",
}

_AGO = re.compile(r"([0-9]{1,6})([smhd])")
_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


@dataclass(frozen=True, slots=True)
class Filter:
    """What a reader wants to see; None and empty want everything."""

    kinds: frozenset[str] = frozenset()
    tool: str | None = None
    task: str | None = None
    reason: str | None = None
    since: int | None = None

    def wants(self, written: Written) -> bool:
        body = written.body
        return (
            (not self.kinds or body.get("kind") in self.kinds)
            and (self.tool is None or fnmatch.fnmatchcase(str(body.get("tool", "")), self.tool))
            and (self.task is None or body.get("task") == self.task)
            and (self.reason is None or body.get("reason") == self.reason)
            and (self.since is None or _at(written) >= self.since)
        )


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Read the ledger: both streams, merged by time."
    parser.epilog = EPILOG
    add = parser.add_argument
    add("-f", "--follow", action="store_true", help="go on as entries are written")
    add("--stream", choices=[stream.value for stream in Stream], help="only this stream")
    add("--kind", action="append", choices=[kind.value for kind in Kind], help="only this kind; may be repeated")
    add("--tool", metavar="GLOB", help="only tools whose server/tool matches")
    add("--task", metavar="ID", help="only this task")
    codes = [reason.value for reason in Reason]
    add("--reason", metavar="CODE", choices=codes, help="only denials and holds for this reason (docs/reasons)")
    add("--since", metavar="WHEN", help="only from then on: 30s, 10m, 2h, 7d, or an ISO 8601 time (UTC unless it says)")
    add("-n", "--limit", metavar="N", type=int, help="only the last N of what there is")
    add("--json", action="store_true", help="one JSON object a line: the entry and its index")


def run(args: argparse.Namespace) -> int:
    reader = LogReader(Home.find(args.home).ledger)
    streams = [Stream(args.stream)] if args.stream else list(Stream)
    if args.limit is not None and args.limit < 0:
        raise WrongCommandLine("--limit is a number of entries; give 0 or more.")
    since = None if args.since is None else moment(args.since, time.time_ns() // 1_000_000)
    wanted = Filter(frozenset(args.kind or ()), args.tool, args.task, args.reason, since)
    cursors = [reader.cursor(stream) for stream in streams]
    show = as_json if args.json else line
    for written in _last(merged(cursors, wanted), args.limit):
        print(show(written))
    if args.follow:
        for written in follow(cursors, wanted, _pause):
            print(show(written), flush=True)
    return 0


def merged(cursors: Iterable[Cursor], wanted: Filter) -> Iterator[Written]:
    """What is new in each, by time."""
    return filter(wanted.wants, heapq.merge(*(cursor.new() for cursor in cursors), key=_at))


def follow(cursors: list[Cursor], wanted: Filter, pause: Callable[[], bool]) -> Iterator[Written]:
    """What is written from now on, until `pause` says that it is enough."""
    while pause():
        yield from merged(cursors, wanted)


def line(written: Written) -> str:
    """For people. What came from outside is shown without control characters, which could rewrite a terminal."""
    body = written.body
    when = datetime.fromtimestamp(_at(written) / 1000, UTC).isoformat(sep=" ", timespec="milliseconds")
    kind = str(body.get("kind", ""))
    verb = VERBS.get(Kind(kind), kind) if kind in set(Kind) else kind
    columns = (f"{verb:<10}", f"{_about(body):<28}", f"{_why(body):<20}", str(body.get("id", "")))
    return _printable("  ".join((when.removesuffix("+00:00"), *columns)))


def as_json(written: Written) -> str:
    return json.dumps({**written.body, "index": written.position.index}, separators=(",", ":"))


def moment(text: str, now: int) -> int:
    """Milliseconds since the epoch. Raises WrongCommandLine where `text` is no time."""
    if ago := _AGO.fullmatch(text):
        return now - int(ago[1]) * _UNIT_MS[ago[2]]
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise WrongCommandLine(
            "--since takes 30s, 10m, 2h, 7d, or an ISO 8601 time such as 2026-11-21T10:00."
        ) from None
    return int((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1000)


def _about(body: Any) -> str:
    """The tool, what was ordered about whom, or the class of a credential."""
    if body.get("kind") == Kind.ORDERED:
        return order_text(body)
    return f"@{body.get('credential')}" if body.get("kind") in LEASES else str(body.get("tool", "-"))


_WHY = ("reason", "fate", "why", "mandate", "change")


def _why(body: Any) -> str:
    count = body.get("count")
    why = (
        body.get("scope")
        if body.get("kind") == Kind.LEASED
        else next((body[name] for name in _WHY if body.get(name)), "-")
    )
    return f"{why} x{count}" if isinstance(count, int) else str(why)


def _at(written: Written) -> int:
    at = written.body.get("at")
    return at if type(at) is int and 0 <= at < 2**47 else 0


def _last(entries: Iterator[Written], limit: int | None) -> Iterable[Written]:
    return entries if limit is None else deque(entries, maxlen=limit)


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _pause() -> bool:
    time.sleep(POLL_S)
    return True
