"""A held call in front of a person: how it is asked for, and how all of it is shown on a terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from forestall.config import load, socket_path
from forestall.core.canonical import digest
from forestall.core.errors import ForestallError, Unavailable
from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.setup.token import printable

ANSWER_S = 30.0
"""Seconds for an answer: a yes waits for the disk."""


class NotDone(ForestallError):
    """The decision point did not do it, and says why."""

    exit_code = 77


def connect(home: str | None, socket: str | None) -> Connection:
    """To the decision point of a home, or at a socket: a person of another user cannot read its settings."""
    if socket is not None:
        return Connection(Path(socket), ANSWER_S)
    found = Home.find(home)
    return Connection(socket_path(found, load(found)), ANSWER_S)


def ask(connection: Connection, kind: str, **members: Any) -> Mapping[str, Any]:
    """Raises NotDone with the decision point's sentence."""
    answer = connection.ask(kind, **members)
    if answer["type"] == "not_done":
        raise NotDone(printable(str(answer.get("sentence", "The decision point does not say why."))))
    return answer


def fetch(connection: Connection, hold: str) -> tuple[Mapping[str, Any], Mapping[str, Any], str]:
    """A held call, all of it, what changes about it while it waits, and the digest of what came.

    Raises:
        NotDone: it does not wait, or is not for this person.
        Unavailable: what came is not one.
    """
    answer = ask(connection, "approvals", hold=hold)
    action = answer.get("action")
    if not isinstance(action, dict) or any(name not in action for name in _NEEDED):
        raise Unavailable("The decision point sent what is no held call; restart it, so that both are alike.")
    return action, answer, digest(action)


_NEEDED = (
    *("hold", "tool", "pin", "arguments", "paths", "asks", "chain", "task", "purpose", "mandate", "parameters", "user"),
    *("effects", "confidence", "labels", "policies", "approvals", "lifetime_ms"),
)


def lines(action: Mapping[str, Any], state: Mapping[str, Any], seen: str) -> Iterator[str]:
    """Everything that a yes is to; of no value less than all. What came from outside shows no control character."""
    return (printable(line) for line in _lines(action, state, seen))


def _lines(action: Mapping[str, Any], state: Mapping[str, Any], seen: str) -> Iterator[str]:
    asks, labels = action["asks"], action["labels"]
    yield f"Call        {action['tool']}"
    yield from _block("Arguments", action["arguments"])
    for name, found in action["paths"].items():
        for path in found:
            inside = "" if path["inside"] is not None else "   (outside the server's directory)"
            yield f"  {name} leads to {path['real']}{inside}"
    for name, digests in action.get("references", {}).items():
        for each in digests:
            yield f"  {name} is copied: {each}"
    for name in action.get("unbound", ()):
        yield f"  {name} is not bound: what it names may be another when it is used"
    yield f"Effects     {', '.join(action['effects'])} ({action['confidence']})"
    yield f"Seen        {labels['integrity']}, {labels['confidentiality']}: what the task has read so far"
    if action["reaches_own_files"]:
        yield "Reaches     files of Forestall's own, or a client's configuration"
    called = f", calls itself {asks['asserted_name']}" if asks.get("asserted_name") else ""
    yield f"Asked by    {asks['id']} ({asks['assurance']}){called}"
    chain = " for ".join(f"{name} of {domain}" if domain else name for domain, name in action["chain"])
    yield f"Chain       {chain}"
    yield f"For         {action['user'] or 'nobody that was verified'}"
    yield f"Purpose     {action['purpose']}"
    yield f"Mandate     {action['mandate']}"
    if action["parameters"]:
        yield from _block("Parameters", action["parameters"])
    yield f"Task        {action['task']}"
    yield f"Definition  {action['pin']}"
    yield f"Policy      {', '.join(action['policies'])}"
    yield from _waits(state)
    yield f"Held until  {moment(state['until'])}; a yes is good for {_duration(action['lifetime_ms'])}, once"
    yield f"Digest      {seen}"


def _waits(state: Mapping[str, Any]) -> Iterator[str]:
    for group in state["missing"]:
        yield f"Waits for   {group['count']} more of {', '.join(group['approvers'])}"
    for one in state["given"]:
        yield f"Approved by uid {one['uid']}, until {moment(one['expires_at'])}"


def _block(title: str, value: Any) -> Iterator[str]:
    yield title
    for line in json.dumps(value, ensure_ascii=False, indent=2).split("\n"):
        yield f"  {line}"


def moment(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(sep=" ", timespec="seconds").removesuffix("+00:00") + " UTC"


def _duration(ms: int) -> str:
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000)):
        if ms % size == 0:
            return f"{ms // size}{unit}"
    return f"{ms // 1000}s"
