"""`forestall suspend`: see `configure`, and docs/commands.md."""

from __future__ import annotations

import argparse

from forestall.cli import ordering
from forestall.core.control import Order

EPILOG = """\
examples:
  forestall suspend 8f3a1c --why 'looking into it'
  forestall suspend --trust-domain example.org
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Give no permits to tasks, and open no new ones, until they are resumed. What runs already is left to end,"
        " without the credentials that it was lent."
    )
    parser.epilog = f"{ordering.TARGETS}\n{EPILOG}"
    ordering.configure(parser)


def run(args: argparse.Namespace) -> int:
    return ordering.run(args, Order.SUSPEND)
