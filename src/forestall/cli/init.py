"""`forestall init`: get between a client and its servers."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

from forestall.cli import WrongCommandLine
from forestall.home import Home
from forestall.setup import backup, client, steps, tell
from forestall.setup.client import Configuration, Server
from forestall.setup.listing import REMOTE_FIRST_S, Limits
from forestall.setup.review import Wishes
from forestall.setup.token import printable

NOT_CONSENTED = 77

EPILOG = """\
examples:
  forestall init                      ask before each command, propose a catalogue and a policy
  forestall init --apply              the same, and put the gateway before every server from now on
  forestall init --yes --json         without questions, for scripts that have read the commands
  forestall init --accept             take what is proposed as reviewed
  forestall init --undo               restore the client's configuration, byte for byte

Listing a server's tools runs its command, or sends its URL a request with the headers of its entry, so nothing is
started or asked without consent.
Files that are there already are kept: new tools are appended, changes are shown.

exit codes: 0 done; 1 with --apply, a server could not be guarded; 69 a server failed, the others are done;
77 nobody was there to consent; 78 a file is wrong
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Propose a catalogue and a policy for the servers of an MCP client, and guard them."
    parser.epilog = EPILOG
    add = parser.add_argument
    add("file", nargs="?", default=".mcp.json", metavar="FILE", help="the client's configuration (else ./.mcp.json)")
    add("--yes", action="store_true", help="consent to starting every command in it, and to asking every address")
    add("--accept", action="store_true", help="declare every proposal for a tool that was never reviewed")
    add("--accept-change", action="append", default=[], metavar="TOOL", help="take this tool's changed definition")
    add("--apply", action="store_true", help="rewrite FILE so that the gateway stands before every server")
    add("--undo", action="store_true", help="restore FILE as it was before --apply")
    add("--force", action="store_true", help="with --undo: lose what was changed in FILE since")
    add("--json", action="store_true", help="write one JSON object")


def run(args: argparse.Namespace) -> int:
    home = Home.find(args.home)
    if args.undo:
        return _undo(home, args)
    configuration = client.read(Path(args.file))
    consent = _consent(steps.listable(configuration), args)
    if consent is None:
        return NOT_CONSENTED
    wishes = Wishes(args.accept, frozenset(args.accept_change), time.strftime("%Y-%m-%d"))
    outcomes = steps.take_in(home, configuration, _telling(consent), wishes)
    written = steps.write_policy(home)
    names = steps.guardable(configuration, outcomes) if args.apply else ()
    kept = _apply(home, configuration, names)
    left = [server.name for server in configuration.servers if not _guarded(server, names)] if args.apply else []
    if args.json:
        print(json.dumps(_data(configuration, outcomes, written, kept, left), ensure_ascii=False, indent=2))
    else:
        print("\n".join(_lines(home, args, configuration, outcomes, written, kept, left)))
    unmet = sorted(wishes.accept_changes - steps.changed(outcomes))
    for tool in unmet:
        print(
            f"forestall: --accept-change {tool}: no such tool changed; name one marked !, as SERVER/TOOL.",
            file=sys.stderr,
        )
    return steps.exit_code(outcomes, written) or (WrongCommandLine.exit_code if unmet else int(bool(left)))


def _undo(home: Home, args: argparse.Namespace) -> int:
    path = backup.undo(home, Path(args.file), force=args.force)
    if args.json:
        print(json.dumps({"restored": str(path)}))
    else:
        print(f"Restored {path} as it was. Its servers are NOT guarded from the client's next start on.")
    return 0


def _consent(servers: Sequence[Server], args: argparse.Namespace) -> Callable[[Server], bool] | None:
    """Answers whether a server may be started, or asked; None where nobody can be asked."""
    if not servers:
        return lambda _: False
    what = "runs these commands" if all(server.command for server in servers) else "runs, or connects to"
    print(f"Listing the tools of the servers in {args.file} {what}:\n", file=sys.stderr)
    print("\n".join(tell.consent_lines(servers)), end="\n\n", file=sys.stderr, flush=True)
    if args.yes:
        return lambda _: True
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        print("Nothing was started or asked: nobody is here to consent. Read them, then add --yes.", file=sys.stderr)
        return None
    return _ask(servers)


def _telling(consented: Callable[[Server], bool]) -> Callable[[Server], bool]:
    """Say which server is being started: its first answer may take as long as a download."""

    def told(server: Server) -> bool:
        starts = consented(server)
        if starts:
            seconds = REMOTE_FIRST_S if server.url is not None else Limits().first
            wait = f"Listing {printable(server.name)} (at most {seconds:.0f} s) ..."
            print(wait, file=sys.stderr, flush=True)
        return starts

    return told


def _ask(servers: Sequence[Server]) -> Callable[[Server], bool]:
    """Ask for each server, before the first is started."""
    chosen: set[str] = set()
    for number, server in enumerate(servers):
        answer = _answer(server)
        if answer == "a":
            chosen |= {later.name for later in servers[number:]}
        if answer in ("a", "q"):
            break
        if answer == "y":
            chosen.add(server.name)
    return lambda server: server.name in chosen


def _answer(server: Server) -> str:
    verb = "Start" if server.url is None else "Ask"
    while True:
        print(
            f"{verb} {printable(server.name)}? [y]es, [n]o, [a]ll the rest, [q]uit asking: ",
            end="",
            file=sys.stderr,
        )
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line or line.strip()[:1].lower() in ("y", "n", "a", "q"):
            return line.strip()[:1].lower() or "q"


def _guarded(server: Server, names: Collection[str]) -> bool:
    return server.guarded_as is not None or server.name in names


def _apply(home: Home, configuration: Configuration, names: Sequence[str]) -> Path | None:
    """The backup; None where every server that can be guarded already is."""
    return backup.apply(home, configuration, names, backup.gateway_command(home, sys.argv[0])) if names else None


def _lines(
    home: Home,
    args: argparse.Namespace,
    configuration: Configuration,
    outcomes: Sequence[steps.Outcome],
    written: steps.Written,
    kept: Path | None,
    left: Sequence[str],
) -> list[str]:
    file = "" if args.file == ".mcp.json" else args.file
    parts = [
        [f"{configuration.path}:", *(line for outcome in outcomes for line in tell.outcome_lines(outcome))]
        if outcomes
        else [f"{configuration.path} names no MCP server: it has no `mcpServers`, or an empty one."],
        list(tell.written_lines(written)),
        list(tell.token_lines(configuration)),
        [f"Rewrote {configuration.path}; as it was: {kept}"] if kept else [],
        list(tell.next_lines(outcomes, home.catalogue, file, applied=args.apply, left=left)),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part).split("\n")


def _data(
    configuration: Configuration,
    outcomes: Sequence[steps.Outcome],
    written: steps.Written,
    kept: Path | None,
    left: Sequence[str],
) -> dict[str, Any]:
    return {
        "configuration": str(configuration.path),
        "servers": [tell.as_data(outcome) for outcome in outcomes],
        "written": [str(path) for path in written.files],
        "duplicates": list(written.duplicates),
        "problem": written.problem or None,
        "applied": kept is not None,
        "backup": str(kept) if kept else None,
        "unguarded": list(left),
    }
