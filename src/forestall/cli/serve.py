"""Run the decision point of this machine, or tell the one that runs to stop or to reload."""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from forestall.home import Home
from forestall.pep.mcp import memory

PATIENCE_S = 5.0
"""Seconds that a start on demand waits for a decision point that is just ending, or just starting."""

ANSWER_S = 15.0
"""Seconds in which a running decision point answers a command."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run the decision point: the one process of a machine that owns keys, state and log. Gateways start it on "
        "demand; run it yourself to have it as a service, or to see what it says."
    )
    parser.epilog = (
        "examples:\n"
        "  forestall serve                        until it is stopped\n"
        "  forestall serve --idle-exit 600        until nobody was connected for ten minutes\n"
        "  forestall serve --reload               take in policy, catalogue and mandates anew\n"
        "  forestall serve --stop\n"
        "\nSIGTERM stops it, SIGHUP reloads."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--on-demand", action="store_true", help="end quietly if one runs already, and when it is idle")
    what.add_argument("--stop", action="store_true", help="stop the one that runs")
    what.add_argument("--reload", action="store_true", help="have the one that runs take in what changed on disk")
    parser.add_argument("--idle-exit", type=_seconds, metavar="SECONDS", help="end after so long without connections")


def run(args: argparse.Namespace) -> int:
    home = Home.find(args.home)
    if args.stop or args.reload:
        return _command(home, "stop" if args.stop else "reload")
    return serve(home, on_demand=args.on_demand, idle_exit_s=args.idle_exit)


def serve(home: Home, *, on_demand: bool, idle_exit_s: float | None) -> int:
    """Serve until stopped.

    Raises:
        ForestallError: why it cannot.
    """
    from forestall.config import load, socket_path
    from forestall.server.listening import listen, prepare, unlink
    from forestall.server.point import Point, say
    from forestall.wire import build

    os.umask(0o077)
    _close_memory()
    prepare(home)
    config = load(home)
    path = socket_path(home, config)
    lock = _acquire(home, path, on_demand=on_demand)
    if lock is None:
        return 0
    try:
        parts = build(home, config)
        for sentence in filter(None, (*parts.ledger.repairs, parts.state.fault, parts.rules.notice, parts.unattested)):
            say(sentence)
        try:
            listener = listen(path, lock, for_others=bool(config.serve.allowed_uids))
        except BaseException:
            parts.close()
            raise
        idle = config.serve.idle_exit_s if on_demand and idle_exit_s is None else idle_exit_s
        try:
            gc.collect()
            gc.freeze()  # policies, schemas and code live as long as the process: no collection has to look at them
            asyncio.run(_serve(Point, parts, listener, idle))
        finally:
            unlink(path)
    finally:
        lock.release()
    return 0


def _close_memory() -> None:
    """Keys and credentials are in it: other processes of this user do not read it, and no core file has it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    memory.hide()


async def _serve(kind: Any, parts: Any, listener: Any, idle: float | None) -> None:
    await kind(parts, idle_exit_s=idle).serve(listener)


def _acquire(home: Home, socket: Path, *, on_demand: bool) -> Any:
    """The lock; None where another serves already and that is good enough."""
    from forestall.server.listening import Held, Lock, answers

    limit = time.monotonic() + PATIENCE_S
    while True:
        try:
            return Lock.acquire(home.run / "lock")
        except Held:
            if not on_demand or time.monotonic() >= limit:
                raise
            if answers(socket):
                return None
        time.sleep(0.02)


def _command(home: Home, what: str) -> int:
    """Tell the decision point that runs."""
    from forestall.config import load, socket_path
    from forestall.pep.blocking import Connection

    with Connection(socket_path(home, load(home)), ANSWER_S) as connection:
        connection.ask(what)
    if what == "stop":
        _wait_until_ended(home)
    done = "The decision point has stopped." if what == "stop" else "Policy, catalogue and mandates were taken in anew."
    print(done, file=sys.stderr)
    return 0


def _wait_until_ended(home: Home) -> None:
    """Whoever holds the lock is still closing its books."""
    from forestall.server.listening import Held, Lock

    limit = time.monotonic() + ANSWER_S
    while True:
        try:
            Lock.acquire(home.run / "lock").release()
        except Held:
            if time.monotonic() >= limit:
                raise
            time.sleep(0.02)
        else:
            return


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 < float(text) <= 86_400:
            return float(text)
    raise argparse.ArgumentTypeError("seconds are a number above 0, at most 86400, a day")
