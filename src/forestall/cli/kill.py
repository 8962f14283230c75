"""`forestall kill`: see `configure`, and docs/commands.md."""

from __future__ import annotations

import argparse

from forestall.cli import ordering
from forestall.core.control import Order

EPILOG = """\
examples:
  forestall kill 8f3a1c                           the task whose id begins so
  forestall kill --agent bot --trust-domain example.org --why 'read a bad page'
  forestall kill --user 'https://id.example#ada'  every task that serves her: issuer and subject; `uid/1000` here
  forestall kill --everything --json              for a program
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "End tasks at once, with everything below them: no call of theirs starts any more, what runs is cancelled, "
        "its output is withheld, and its servers are ended. Nothing revives them."
    )
    parser.epilog = f"{ordering.TARGETS}\n{EPILOG}"
    ordering.configure(parser)


def run(args: argparse.Namespace) -> int:
    return ordering.run(args, Order.KILL)
