"""Run one MCP server behind the decision point. Imports sparingly: a client starts one of these for every server."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

START_WITHIN_MS = 10_000
"""Milliseconds for a decision point to start: it verifies the end of its log, and rebuilds its state if need be."""

EPILOG = """\
examples:
  forestall gateway git -- uvx mcp-server-git --repository .
  forestall gateway --grant task.json shop -- uvx shop-server
  forestall gateway --url https://tools.example.org/mcp tools
  sudo forestall gateway --run-as shop shop -- uvx shop-server
  forestall gateway --mandate review --directory ~/work files -- npx -y @modelcontextprotocol/server-filesystem .

The server's standard error, exit code and signals pass through. The gateway's own exit codes:
  69  the decision point cannot be used, or refused
  76  the ledger, or a key, does not verify
  78  settings, policy, catalogue, mandate or key are missing or malformed
  77  the server is not started, since its credential is denied or held; or its task was ended
  70  a canary call was not denied, or a fault of Forestall's own; nothing was passed on
  126 the server's command cannot be executed
  127 the server's command was not found
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run one MCP server on standard input and output; no tool call reaches it without a permit."
    parser.epilog = EPILOG
    task = "[--mandate NAME | --grant FILE]"
    where, server = "[--directory DIR] [--run-as USER]", "{-- COMMAND [ARG ...] | --url URL}"
    parser.usage = f"forestall gateway [-h] [--home DIR] {task} {where} NAME {server}"
    parser.add_argument("--mandate", metavar="NAME", help="the mandate of the task (else `default`)")
    parser.add_argument(
        "--grant", metavar="FILE", type=Path, help="act in the task of this grant, which `forestall task` wrote"
    )
    parser.add_argument("--directory", metavar="DIR", help="where the server's relative paths start (else here)")
    parser.add_argument("--url", metavar="URL", help="where the server is, over Streamable HTTP, instead of a command")
    parser.add_argument("--run-as", metavar="USER", help="run the server as this user (root alone can)")
    parser.add_argument("name", metavar="NAME", help="the server's name in the catalogue")
    parser.add_argument("server", nargs=argparse.REMAINDER, metavar="-- COMMAND", help="what starts the server")


def run(args: argparse.Namespace) -> int:
    from forestall.cli import WrongCommandLine
    from forestall.home import Home
    from forestall.pep import start
    from forestall.pep.mcp.gateway import Options
    from forestall.pep.mcp.gateway import run as gateway
    from forestall.pep.mcp.process import Account

    command = args.server[1:] if args.server[:1] == ["--"] else args.server
    if not command and not args.url:
        raise WrongCommandLine(
            "Name the server's command after --, as in: forestall gateway git -- uvx mcp-server-git."
        )
    if args.url and (command or args.run_as or args.directory):
        raise WrongCommandLine(
            "A server at --url is not started here: leave its command, --run-as and --directory out."
        )
    if command and args.server[0] != "--" and command[0].startswith("-"):
        raise WrongCommandLine(
            f"Put {command[0]} before the server's name: what follows the name is the server's command."
        )
    if args.grant is not None and args.mandate is not None:
        raise WrongCommandLine("A grant is a task already, with its mandate: give --grant or --mandate.")
    directory = os.path.abspath(os.path.expanduser(args.directory)) if args.directory else None  # noqa: PTH100, PTH111
    if directory is not None and not os.path.isdir(directory):  # noqa: PTH112 - as the line above
        raise WrongCommandLine(f"--directory {directory} is no directory; name the one that the server works in.")
    home = Home.find(args.home)
    options = Options(
        name=args.name,
        command=command,
        socket=start.socket_path(home),
        start=partial(start.ensure_running, home, START_WITHIN_MS),
        mandate=args.mandate,
        presenter=_presenter,
        url=args.url or "",
        account=None if args.run_as is None else Account.find(args.run_as),
        copies=Path("/run/forestall") if args.run_as is not None else home.run / "copies",
        prove=None if args.grant is None else _prover(args.grant),
        directory=directory,
    )
    status = gateway(options)
    return status if status >= 0 else die_of(-status)


def _presenter() -> Any:
    """The key of this gateway, made now."""
    import secrets

    from forestall.pep.mcp.gateway import wall
    from forestall.pep.presenting import Presenter

    return Presenter.make(secrets.token_bytes, wall, partial(secrets.token_urlsafe, 16))


def _prover(file: Path) -> Any:
    """Of a nonce, the grant and the proof for it. Read anew for each connection: a task that was extended has another.

    Raises:
        SetupError: now, and whenever it is called, where it is no grant file, or not ours alone.
    """
    import secrets

    from forestall.agent.held import Held

    def prove(nonce: str) -> Mapping[str, str]:
        return Held.read(file).for_socket(nonce, time.time_ns() // 1_000_000, secrets.token_urlsafe(16))

    prove("")
    return prove


def die_of(number: int) -> int:
    """End by the signal that the server ended by, so that whoever started us sees it. No core: ours says nothing."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    if number not in (signal.SIGKILL, signal.SIGSTOP):
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    return 128 + number
