"""`forestall deny`: a held call declined, for good."""

from __future__ import annotations

import argparse

from forestall.setup.person import ask, connect

EPILOG = """\
examples:
  forestall deny 8c41... --why "not to that address"
  forestall deny 8c41... --why "nobody asked for this" --json

It is final: in this task, and in those that it is handed on to, the same call is denied (not_approved) from then on.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Decline a held call, for good."
    parser.epilog = EPILOG
    parser.add_argument("id", metavar="ID", help="as `forestall approvals` or the agent's refusal has it")
    parser.add_argument("--why", metavar="TEXT", required=True, help="for the ledger; the agent is not told")
    parser.add_argument("--socket", metavar="PATH", help="the decision point's socket (else that of the home)")
    parser.add_argument("--json", action="store_true", help="write one JSON object")


def run(args: argparse.Namespace) -> int:
    with connect(args.home, args.socket) as connection:
        ask(connection, "deny", hold=args.id, why=args.why)
    print('{"declined": true}' if args.json else "Declined. The same call is denied in this task from now on.")
    return 0
