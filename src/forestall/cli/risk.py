"""`forestall risk`: see `configure`, and docs/commands.md."""

from __future__ import annotations

import argparse

from forestall.cli import ordering
from forestall.core.control import Order
from forestall.core.model import Risk

EPILOG = """\
examples:
  forestall risk 8f3a1c --level high --why 'new device'
  forestall risk --user 'https://id.example#ada' --level low
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Say how far tasks are to be trusted. Policy sees it as `context.risk` in every decision from then on; what "
        "runs already is left to end. The highest that is said of a task, of those above it, and of who they are for, "
        "counts."
    )
    parser.epilog = f"{ordering.TARGETS}\n{EPILOG}"
    levels = [level.value for level in Risk]
    parser.add_argument("--level", required=True, choices=levels, help="low takes back what was said before")
    ordering.configure(parser)


def run(args: argparse.Namespace) -> int:
    return ordering.run(args, Order.RISK, args.level)
