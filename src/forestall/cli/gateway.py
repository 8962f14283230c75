"""Run one MCP server behind the decision point. Imports sparingly: a client starts one of these for every server."""

from __future__ import annotations

import argparse
import os
import resource
import signal
from functools import partial

START_WITHIN_MS = 10_000
"""Milliseconds for a decision point to start: it verifies the end of its log, and rebuilds its state if need be."""

EPILOG = """\
examples:
  forestall gateway git -- uvx mcp-server-git --repository .
  forestall gateway --mandate review --directory ~/work files -- npx -y @modelcontextprotocol/server-filesystem .

The server's standard error, exit code and signals pass through. The gateway's own exit codes:
  69  the decision point cannot be used, or refused
  76  the ledger, or a key, does not verify
  78  settings, policy, catalogue, mandate or key are missing or malformed
  70  a canary call was not denied, or a fault of Forestall's own; nothing was passed on
  126 the server's command cannot be executed
  127 the server's command was not found
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run one MCP server on standard input and output; no tool call reaches it without a permit."
    parser.epilog = EPILOG
    parser.usage = "forestall gateway [-h] [--home DIR] [--mandate NAME] [--directory DIR] NAME -- COMMAND [ARG ...]"
    parser.add_argument("--mandate", metavar="NAME", help="the mandate of the task (else `default`)")
    parser.add_argument("--directory", metavar="DIR", help="where the server's relative paths start (else here)")
    parser.add_argument("name", metavar="NAME", help="the server's name in the catalogue")
    parser.add_argument("server", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what starts the server")


def run(args: argparse.Namespace) -> int:
    from forestall.cli import WrongCommandLine
    from forestall.home import Home
    from forestall.pep import start
    from forestall.pep.mcp.gateway import Options
    from forestall.pep.mcp.gateway import run as gateway

    command = args.server[1:] if args.server[:1] == ["--"] else args.server
    if not command:
        raise WrongCommandLine(
            "Name the server's command after --, as in: forestall gateway git -- uvx mcp-server-git."
        )
    if args.server[0] != "--" and command[0].startswith("-"):
        raise WrongCommandLine(
            f"Put {command[0]} before the server's name: what follows the name is the server's command."
        )
    home = Home.find(args.home)
    options = Options(
        name=args.name,
        command=command,
        socket=start.socket_path(home),
        start=partial(start.ensure_running, home, START_WITHIN_MS),
        mandate=args.mandate,
        directory=os.path.abspath(os.path.expanduser(args.directory)) if args.directory else None,  # noqa: PTH100, PTH111
    )
    status = gateway(options)
    return status if status >= 0 else die_of(-status)


def die_of(number: int) -> int:
    """End by the signal that the server ended by, so that whoever started us sees it. No core: ours says nothing."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
