"""`forestall resume`: see `configure`, and docs/commands.md."""

from __future__ import annotations

import argparse

from forestall.cli import ordering
from forestall.core.control import Order

EPILOG = """\
examples:
  forestall resume 8f3a1c
  forestall resume --agent bot --trust-domain example.org
  forestall resume --everything
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Take back a suspension, or what keeps new tasks from being opened after a kill. Name the same target as then: "
        "a task goes on once no order stands against it. One that was killed stays ended."
    )
    parser.epilog = f"{ordering.TARGETS}\n{EPILOG}"
    ordering.configure(parser)


def run(args: argparse.Namespace) -> int:
    return ordering.run(args, Order.RESUME)
