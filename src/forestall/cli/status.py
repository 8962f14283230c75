"""`forestall status`: what is guarded, by which policy, with which assurance, and what is not."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from forestall.core.effects import Confidence
from forestall.core.errors import SetupError
from forestall.home import Home
from forestall.setup.client import Configuration, Server
from forestall.setup.state import State, look, own_tools, usual_files
from forestall.setup.token import find_tokens, printable

EPILOG = """\
examples:
  forestall status                 this directory's configurations, and all that init has rewritten
  forestall status ~/.claude.json  this one
  forestall status --json          for a program

exit codes: 0 every server is guarded; 1 one is not; 78 a file is wrong
"""

SHOWN = 14
"""Hex digits of a digest that a person is shown."""

ASSURANCE = {
    "local": "local: callers are known to run on this machine, nothing more; as the same user they could read the keys",
    "separate": "separate: the decision point runs as a user of its own, out of the callers' reach",
}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Show what is guarded, by which policy, with which assurance, and what is not."
    parser.epilog = EPILOG
    parser.add_argument("files", nargs="*", metavar="FILE", help="clients' configurations (else those found)")
    parser.add_argument("--json", action="store_true", help="write one JSON object")


def run(args: argparse.Namespace) -> int:
    home = Home.find(args.home)
    files = [Path(file) for file in args.files] or usual_files(home, Path.cwd())
    if not files and not home.root.is_dir():
        raise SetupError("There is no client's configuration here, and none was ever guarded; name one.")
    state = look(home, files)
    print(json.dumps(_data(state), ensure_ascii=False, indent=2) if args.json else "\n".join(_lines(state)))
    return 78 if state.problems else int(bool(state.unguarded))


def _lines(state: State) -> Iterator[str]:
    if not state.configurations:
        yield "No client's configuration is here, and none was ever guarded."
        yield ""
    for configuration in state.configurations:
        yield f"{configuration.path}"
        yield from (_server_line(state, server) for server in configuration.servers)
        client, tools = own_tools(configuration.path)
        yield f"  NOT GUARDED   tools of {client}'s own ({', '.join(tools)}): they do not pass through MCP"
        yield ""
    yield f"Decision point  {_point(state)}"
    yield f"Policy          {_policy(state)}"
    yield f"Assurance       {ASSURANCE.get(state.point.assurance, printable(state.point.assurance))}"
    yield f"Catalogue       {_catalogue(state)}"
    yield from (f"                {printable(tool)}: hidden, another server has its name" for tool in state.duplicates)
    yield from _token_lines(state)
    yield from _identity_lines(state.point.status)
    yield from _credential_lines(state.point.status.get("credentials", {}))
    if state.problems:
        yield ""
        yield from (f"Problem: {printable(problem)}" for problem in state.problems)


def _server_line(state: State, server: Server) -> str:
    name = f"{printable(server.name):<14}"
    if server.guarded_as is None:
        return f"  NOT GUARDED   {name} {printable(server.obstacle or server.left) or 'run `forestall init --apply`'}"
    tools = state.tools_of(server.guarded_as)
    assumed = sum(tool.confidence is not Confidence.DECLARED for tool in tools)
    said = f"{len(tools)} tools" if tools else "no tool is known, so none can be called; run `forestall init`"
    return f"  guarded       {name} {said}{f', {assumed} of them not accepted' if assumed else ''}"


def _point(state: State) -> str:
    if not state.point.running:
        why = state.point.problem
        return f"not usable: {printable(why)}" if why else "not running; the first gateway starts it"
    if state.point.problem:
        return f"running, but: {printable(state.point.problem)}"
    stale = state.policy is not None and state.policy.digest != state.point.policy_digest
    url = state.point.status.get("http")
    heard = f", and at {printable(str(url))}" if url else ""
    return f"running{heard}" + ("; its policy is NOT the one on disk" if stale else "")


def _policy(state: State) -> str:
    if state.policy is None:
        return "none"
    files = ", ".join(Path(file).name for file in state.policy.files) or "no file"
    digest = state.policy.digest.removeprefix("sha256:")[:SHOWN] or "not usable"
    return f"{digest}  {state.policy.count} in {files}"


def _catalogue(state: State) -> str:
    declared = sum(tool.confidence is Confidence.DECLARED for tool in state.tools)
    in_code = f", {len(state.in_code)} declared in code" if state.in_code else ""
    return f"{declared} tools reviewed, {len(state.tools) - declared} only proposed{in_code}{_quarantined(state)}"


def _quarantined(state: State) -> str:
    tools = state.point.quarantined
    return f", quarantined: {', '.join(map(printable, tools))}" if tools else ""


def _identity_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """One agent, one identity; and what keeps somebody from being verified."""
    for each in status.get("shared_identities", ()):
        yield f"Identity        {printable(str(each['id']))} is shared: {each['workloads']} workloads act under it now"
    for sentence in status.get("identity_problems", ()):
        yield f"Identity        {printable(str(sentence))}"


def _credential_lines(told: Mapping[str, Any]) -> Iterator[str]:
    """What lives, what should not stand, what can be read where it is, and what could not be ended."""
    alive, failing = told.get("alive", 0), told.get("failing", 0)
    if alive or failing or told.get("ending"):
        ending = f", {told['ending']} ending" if told.get("ending") else ""
        left = f", {failing} COULD NOT BE ENDED and are tried again: see `forestall leases`" if failing else ""
        yield f"Credentials     {alive} alive{ending}{left}"
    for name, why in told.get("trouble", {}).items():
        yield f"Credentials     {printable(f'{name}: its backend cannot be asked for what nobody remembers: {why}')}"
    for name in told.get("standing", ()):
        yield (
            f"Standing secret {printable(str(name))}: it stands before and after each call; use a backend that makes "
            "credentials and ends them, where there is one"
        )
    for one in told.get("exposed", ()):
        place = f"{one['place']['where']} {one['place']['name']}"
        text = f"{one['credential']} of task {one['task']}: in the {place}, where the server's user can read it"
        yield f"Exposed         {printable(text)}"


def _token_lines(state: State) -> Iterator[str]:
    for configuration in state.configurations:
        for server in configuration.servers:
            if places := find_tokens(server):
                yield f"Standing token  {printable(f'{server.name}: ' + ', '.join(places))} in {configuration.path}"


def _data(state: State) -> dict[str, Any]:
    policy = state.policy
    return {
        "home": str(state.home.root),
        "guarded": not state.unguarded,
        "configurations": [_configuration(one) for one in state.configurations],
        "decision_point": {
            "running": state.point.running,
            "policy_digest": state.point.policy_digest or None,
            "problem": state.point.problem or None,
            "status": {name: value for name, value in state.point.status.items() if name not in ("type", "id")},
        },
        "assurance": state.point.assurance,
        "policy": {"digest": policy.digest, "files": list(policy.files), "count": policy.count, "errors": policy.errors}
        if policy
        else None,
        "tools": {tool.id: tool.confidence for tool in state.tools},
        "declared_in_code": [tool.id for tool in state.in_code],
        "duplicates": list(state.duplicates),
        "quarantined": list(state.point.quarantined),
        "problems": list(state.problems),
    }


def _configuration(configuration: Configuration) -> dict[str, Any]:
    client, tools = own_tools(configuration.path)
    return {
        "file": str(configuration.path),
        "servers": [
            {
                "name": server.name,
                "guarded": server.guarded_as is not None,
                "obstacle": server.obstacle or server.left or None,
                "tokens": list(find_tokens(server)),
            }
            for server in configuration.servers
        ],
        "unguarded_tools": {"client": client, "tools": list(tools)},
    }
