"""`forestall credentials`: what an administrator runs where credentials are made."""

from __future__ import annotations

import argparse
import json

from forestall.adapter.credential.postgresql_setup import Setup, policy_script, setup_script
from forestall.adapter.ledger import keys
from forestall.credentials import owner_of
from forestall.home import Home

LONGEST_S = 28_800

EPILOG = """\
examples:
  forestall credentials postgresql-setup --database shop | psql -d shop
  forestall credentials postgresql-setup --database shop --owner 1a2b3c4d --login forestall --longest-s 3600
  forestall credentials postgresql-policy shop.orders customer_id customer | psql -d shop

Nothing is run and nobody is asked: it prints SQL. Read it, then let a superuser run it with psql.
docs/credentials/postgresql.md says what it does.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Print what an administrator runs where credentials are made."
    parser.epilog = EPILOG
    parser.add_argument("--json", action="store_true", help="one JSON object, the script in it")
    under = parser.add_subparsers(dest="what", required=True, metavar="WHAT")
    setup = under.add_parser("postgresql-setup", help="the functions that Forestall calls in a database")
    setup.add_argument("--owner", metavar="HEX", help="which Forestall, as 8 hex digits (default: that of the home)")
    setup.add_argument("--database", required=True, help="where leases are made")
    setup.add_argument("--login", default="forestall", help="the role that it logs in as (default: forestall)")
    setup.add_argument(
        "--longest-s",
        type=int,
        default=LONGEST_S,
        metavar="N",
        help=f"the longest life of a lease (default: {LONGEST_S})",
    )
    policy = under.add_parser("postgresql-policy", help="a row policy: leases see the rows of their parameter's value")
    policy.add_argument("table", metavar="TABLE", help="SCHEMA.TABLE")
    policy.add_argument("column", metavar="COLUMN")
    policy.add_argument("parameter", metavar="PARAMETER", help="of the task's mandate")


def run(args: argparse.Namespace) -> int:
    if args.what == "postgresql-setup":
        owner = args.owner or _owner(Home.find(args.home))
        script = setup_script(Setup(owner, args.login, args.database, args.longest_s))
    else:
        script = policy_script(args.table, args.column, args.parameter)
    print(json.dumps({"sql": script}) if args.json else script, end="\n" if args.json else "")
    return 0


def _owner(home: Home) -> str:
    pair = keys.load(home.keys)
    return owner_of(pair.origin, pair.private.public_key().public_bytes_raw())
