"""`forestall keys`: the keys that grants, and permits for servers that demand them, are signed with."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from datetime import UTC, datetime
from typing import Any

from forestall.adapter import issuing
from forestall.adapter.issuing import GRANTS, PERMITS, IssuingKeys, Kind
from forestall.core.errors import SetupError, Unavailable
from forestall.home import Home

EPILOG = """\
examples:
  forestall keys                       which key signs, and which still verify
  forestall keys --json
  forestall keys rotate                a new key signs; grants of the old one count on
  forestall keys rotate --forget       the old key was lost: no token that is out counts any more
  forestall keys jwks > keys.json      what a server needs that demands permits, as forestall-edge takes it
  forestall keys rotate --permits      a new key for permits

A decision point that runs takes the new key in at once. The ledger's keys are others, and are never changed.
"""


WHAT = ("show", "rotate", "jwks")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show or rotate the keys that grants and permits are signed with."
    parser.epilog = EPILOG
    parser.add_argument("what", nargs="?", choices=WHAT, default="show", metavar=f"{{{','.join(WHAT)}}}")
    parser.add_argument("--permits", action="store_true", help="the keys of permits, not of grants")
    parser.add_argument("--forget", action="store_true", help="with rotate: let the keys before it verify no more")
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(args: argparse.Namespace) -> int:
    home = Home.find(args.home)
    now = time.time_ns() // 1_000_000
    if args.what == "jwks":
        print(json.dumps(_document(home, now)))
        return 0
    kind = PERMITS if args.permits else GRANTS
    if args.what == "rotate":
        keys = issuing.rotate(home.keys, now=now, random=secrets.token_bytes, forget=args.forget, kind=kind)
        _tell(home)
    else:
        keys = _load(home, kind)
    if args.json:
        print(json.dumps(_data(keys, now)))
    else:
        for line in _lines(keys, now):
            print(line)
    return 0


def _load(home: Home, kind: Kind) -> IssuingKeys:
    made = "[permits.SERVER] in forestall.toml" if kind is PERMITS else "an identity.toml"
    try:
        return issuing.load(home.keys, kind)
    except FileNotFoundError:
        raise SetupError(f"{home.keys / kind.file} is not there; it is made at a start with {made}.") from None


def _document(home: Home, now: int) -> dict[str, Any]:
    """What a verifier of permits goes by. How many orders were given only a decision point that runs can say."""
    from forestall.adapter.ledger import keys as ledger_keys

    keys = _load(home, PERMITS)
    return {"issuer": ledger_keys.load(home.keys).origin, **keys.public(now).to_json()}


def _tell(home: Home) -> None:
    """Whoever serves has the old key in memory."""
    from forestall.config import load, socket_path
    from forestall.pep.blocking import Connection

    try:
        with Connection(socket_path(home, load(home)), 15.0) as connection:
            connection.ask("reload")
    except Unavailable:
        print("forestall: No decision point runs; the next one takes the key in.", file=sys.stderr)


def _data(keys: IssuingKeys, now: int) -> dict[str, Any]:
    keep = keys.kind.keep_ms
    return {
        "signs": {"kid": keys.current.public.kid, "since": keys.made_at},
        "verify": [
            {"kid": each.key.kid, "until": each.at + keep} for each in keys.retired if abs(now - each.at) < keep
        ],
    }


def _lines(keys: IssuingKeys, now: int) -> list[str]:
    data = _data(keys, now)
    signs = f"signs     {data['signs']['kid']}  since {_day(data['signs']['since'])}"
    return [signs, *(f"verifies  {each['kid']}  until {_day(each['until'])}" for each in data["verify"])]


def _day(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).strftime("%Y-%m-%d %H:%M")
