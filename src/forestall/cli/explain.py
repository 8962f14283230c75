"""`forestall explain`: why a decision was what it was, from the ledger and the policy of now."""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from forestall import catalogue, config
from forestall.adapter.ledger import keys
from forestall.adapter.ledger.reader import LogReader
from forestall.cli.life import handed_on, story_json, story_of, story_text
from forestall.cli.record import DECISIONS, leases_about, lines, orders_about, records
from forestall.cli.remedy import PEOPLE, remedy
from forestall.core.canonical import canonical
from forestall.core.entry import Kind
from forestall.core.errors import InvalidInput, SetupError, Tampered
from forestall.core.reason import Reason
from forestall.home import Home
from forestall.policy import bundle
from forestall.policy.cases import describe
from forestall.policy.cedar import CedarEngine
from forestall.policy.explain import Considered, Explanation, executable_of, explain, question_of
from forestall.policy.schema import OWN
from forestall.port import Written
from forestall.setup.token import printable

STOPPED = (Reason.REVOKED, Reason.SUSPENDED)

EPILOG = """\
examples:
  forestall explain dec_4f1c...          who asked for what, every fact, every policy that mattered
  forestall explain dec_4f1c... --json   the same for a program
  forestall explain TASK                 when a task was opened, extended and closed, what it was lent, and what was
                                         ordered about it
  forestall explain forestall-1f0a...    a credential: the permit, task, mandate and agent that it was made for, how
                                         long it lived, and why it ended; `forestall leases` shows their names

The arguments are shown: they are opened with the payload key of this home. `forestall prove ID` exports the proof.
"""


SEALED = ("arguments", "paths", "references")
"""What an entry about a call commits to."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the ledger holds of one decision."""

    decision: Written
    task: Mapping[str, Any]
    """The body of the entry that opened the task, or nothing."""
    later: tuple[Written, ...]
    """How a permit ended, or how often a denial came again."""
    arguments: Mapping[str, Any] | None
    """None where they are erased or there is no key to open them."""
    paths: Mapping[str, Any]
    """By name of an argument: where the paths that it names really led."""
    references: Mapping[str, Any]
    """By name of an argument: digests of the content that it refers to."""
    orders: tuple[Written, ...] = ()
    """About its task, or one above it, where one of them is why."""
    leases: tuple[Written, ...] = ()
    """Of the credential that it brought into being, or was lent: that it was to be made, and that it is over."""

    @property
    def body(self) -> Mapping[str, Any]:
        return self.decision.body


@dataclass(frozen=True, slots=True)
class Account:
    found: Found
    explanation: Explanation | None
    notes: tuple[str, ...]
    """What the explanation cannot know."""
    remedy: str | None = None
    """What would have changed a refusal that was not policy's."""

    @property
    def changes(self) -> tuple[str, ...]:
        """What would have changed the decision, a sentence each."""
        if self.remedy is not None:
            return (self.remedy,)
        return self.explanation.changes if self.explanation else ()


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Say who asked for what, every fact, every policy that mattered, and what would have changed it."
    )
    parser.epilog = EPILOG
    parser.add_argument(
        "id", metavar="ID", help="of a decision, a task, an order or a credential, as a refusal or the log shows it"
    )
    parser.add_argument("--json", action="store_true", help="write one JSON object")


def run(args: argparse.Namespace) -> int:
    home = Home.find(args.home)
    reader = LogReader(home.ledger)
    story = story_of(reader, args.id)
    if story is not None:
        told_of = "\n".join(map(printable, story_text(story)))
        print(json.dumps(story_json(story), indent=2) if args.json else told_of)
        return 0
    found = records(reader, args.id)
    if found:
        told = {"records": [dict(entry.body) for entry in found]}
        print(json.dumps(told, indent=2) if args.json else "\n".join(map(printable, lines(found))))
        return 0
    account = examine(home, args.id)
    # An agent chose the names of tools, and this is a terminal.
    text = (printable(line.expandtabs(4)) for line in as_text(account))
    print(json.dumps(as_json(account), indent=2) if args.json else "\n".join(text))
    return 0


def examine(home: Home, name: str) -> Account:
    """Raises InvalidInput where the ledger knows no such decision."""
    found = find(home, name)
    other = remedy(found.body, found.task)
    if other is not None and found.body["reason"] not in PEOPLE:
        return Account(found, None, ("It was not policy that refused this.",), other)
    notes: list[str] = []
    if found.arguments is None:
        return Account(found, None, ("The arguments cannot be opened, so the policies were not asked again.",), other)
    try:
        known = catalogue.load_all(home.catalogue, home.declared)
        engine = CedarEngine.build(bundle.read(home.policy), list(known.all()), config.load(home).posture)
        tool = known.find(found.body["tool"]) or OWN.get(found.body["tool"])
        if tool is None:
            return Account(found, None, ("The tool is not in the catalogue, so no policy was asked.",), other)
        explanation = explain(
            engine, question_of(found.body, found.arguments, tool, found.task, found.paths, found.references)
        )
    except (InvalidInput, SetupError) as error:
        return Account(found, None, tuple(str(error).splitlines()), other)
    if engine.digest != found.body.get("policy_digest"):
        notes.append("The policy or the catalogue has changed since; what follows is what today's says.")
    if tool.pin != found.body["pin"]:
        notes.append("The tool was reviewed again since.")
    return Account(found, explanation, tuple(notes), other)


def find(home: Home, name: str) -> Found:
    reader = LogReader(home.ledger, _sealer(home))
    entries = reader.find(name)
    first = next((entry.body["first"] for entry in entries if entry.body["kind"] == Kind.REPEATED), name)
    if first != name:
        entries = reader.find(first)  # it was counted, under the denial that it repeated
    decisions = [entry for entry in entries if entry.body["kind"] in DECISIONS]
    if not decisions:
        raise InvalidInput(
            f"The ledger in {home.ledger} holds no decision, task, order or credential `{name}`; `forestall log` lists "
            "them. A denial that repeats another is written within a minute."
        )
    decision = decisions[0]
    opened = [one for one in reader.find(decision.body["task"]) if one.body["kind"] == Kind.OPENED]
    later = tuple(entry for entry in entries if entry is not decision)
    task = opened[0].body if opened else {}
    orders = tuple(orders_about(reader, task)) if task and decision.body.get("reason") in STOPPED else ()
    leases = tuple(_leases_of(reader, decision)) if decision.body.get("credential") else ()
    return Found(decision, task, later, *_sealed(reader, decision), orders, leases)


def _leases_of(reader: LogReader, permit: Written) -> list[Written]:
    return leases_about(reader, permit=permit.body["id"]) or handed_on(reader, permit)


def _sealer(home: Home) -> Any:
    try:
        return keys.load_sealer(home.keys)
    except SetupError:
        return None


def _sealed(
    reader: LogReader, decision: Written
) -> tuple[Mapping[str, Any] | None, Mapping[str, Any], Mapping[str, Any]]:
    """Arguments, real paths and digests of content as they were sealed, found to be what the decision commits to; None
    if unreadable.
    """
    try:
        sealed = reader.unseal(decision.position)
    except SetupError:
        return None, {}, {}
    if sealed is None:
        return None, {}, {}
    try:
        opened = json.loads(sealed)
        salt = base64.b64decode(opened["salt"], validate=True)
        forms = {name: opened[name] for name in SEALED if name in opened}
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise Tampered("What was sealed beside the decision is not what Forestall seals.") from None
    for name in SEALED:
        form = "sha256:" + hashlib.sha256(salt + canonical(forms[name])).hexdigest() if name in forms else None
        if form != decision.body.get(name):
            raise Tampered(f"The {name} that were sealed are not those that the decision commits to.")
    return forms["arguments"], forms.get("paths", {}), forms.get("references", {})


# -- for people


def as_text(account: Account) -> Iterator[str]:
    body, found = account.found.body, account.found
    yield f"{_verdict(body)}, {_time(body['at'])}"
    yield ""
    yield from _facts(found)
    yield ""
    yield from _policies(account)
    yield ""
    position = found.decision.position
    yield f"proof      entry {position.index} of {position.stream}; `forestall prove {body['id']}` exports it"


def _verdict(body: Mapping[str, Any]) -> str:
    reason = f" ({body['reason']})" if body.get("reason") else ""
    detail = f": {body['detail']}" if body.get("detail") else ""
    return f"{body['id']} was {body['kind']}{reason}{detail}"


def _facts(found: Found) -> Iterator[str]:
    body, task = found.body, found.task
    who = body.get("subject") or {"id": "nobody who could be verified", "assurance": "none", "asserted_name": ""}
    name = f", calls itself {who['asserted_name']!r}" if who["asserted_name"] else ""
    yield f"who        {who['id']} (assurance {who['assurance']}{name})"
    yield from _instance(who, task)
    purpose = f": {task['purpose']!r} under the mandate `{task['mandate']}`" if task else ""
    yield f"task       {body['task']}{purpose}"
    pinned = f", pinned {body['pin']}" if body["pin"] else ""
    yield f"tool       {body['tool']}{pinned}"
    if found.arguments is not None:
        yield f"arguments  {json.dumps(found.arguments)}"  # ASCII: an agent wrote it, and this is a terminal
    for name, each in found.paths.items():
        yield f"path       {name} leads to {', '.join(map(_place, each))}"
    for name, digests in found.references.items():
        yield f"content    of {name}: {', '.join(digests)}"
    yield from (
        f"content    of {name}: not bound, it could change after the decision" for name in body.get("unbound", ())
    )
    if "effects" in body:
        yield f"effects    {', '.join(body['effects'])} ({body['confidence']})"
        yield f"seen       {body['seen']['integrity']}, {body['seen']['confidentiality']}"
        yield f"own files  {'reached' if body['reaches_own_files'] else 'not reached'}"
        yield f"risk       {body.get('risk', 'not known')}"
        yield from (f"posture    {name}: {value}" for name, value in body.get("posture", {}).items())
        yield f"depth      {body['depth']}"
    if "output" in body:
        yield f"output     {body['output']['integrity']}, {body['output']['confidentiality']}"
    yield from (f"order      {line}" for line in lines(list(found.orders)))
    if body.get("credential"):
        yield f"credential {_credential_of(found)}"
    yield from (f"           {line}" for line in lines(list(found.leases)))
    for later in found.later:
        what = later.body.get("fate") or later.body.get("count", "")
        yield f"{later.body['kind']:<10} {what} {_time(later.body['at'])}"


def _place(path: Mapping[str, Any]) -> str:
    """Where it leads, and as which path inside the working directory."""
    inside = path["inside"]
    within = "outside the working directory" if inside is None else f"{json.dumps(inside)} in the working directory"
    return f"{json.dumps(path['real'])} ({within})"


def names_of(found: Found) -> list[str]:
    """Of the credential that it was lent; several where nobody can tell which of them it was."""
    return sorted({one.body["id"] for one in found.leases})


def _credential_of(found: Found) -> str:
    body, names = found.body, names_of(found)
    if not names:
        return f"{body['credential']}: none was made"
    own = any(one.body["permit"] == body["id"] for one in found.leases)
    where = "" if own else ", which was there for the task already"
    return f"{body['credential']}: {' or '.join(names)}{where}"


def _instance(who: Mapping[str, Any], task: Mapping[str, Any]) -> Iterator[str]:
    if who.get("instance"):
        yield f"instance   {who['instance']}"
    runs = executable_of(who, task)
    if runs is None:
        return
    path = json.dumps(runs["path"]) if runs["path"] else "a file whose path is not known"
    kind = "an interpreter, which is nobody's identity" if runs["interpreter"] else runs["digest"] or "no digest"
    user = "the decision point's own user" if runs["same_uid"] else "another user than the decision point's"
    yield f"runs       {path} ({kind}), as {user}"


def _policies(account: Account) -> Iterator[str]:
    body = account.found.body
    yield f"policies   {', '.join(body.get('policies', ())) or 'none'} (digest {body.get('policy_digest') or 'none'})"
    for note in account.notes:
        yield f"note       {note}"
    if account.explanation is not None:
        yield f"today      {describe(account.explanation.ruling)}"
        for one in account.explanation.considered:
            yield ""
            yield from _considered(one)
    if account.changes:
        yield ""
        yield "what would have changed it"
        yield from (f"  {change}" for change in account.changes)


def _considered(one: Considered) -> Iterator[str]:
    effect = "permit" if one.policy.permits else "forbid"
    verdict = "applies" if one.applied else f"does not apply: {one.stopped_by}"
    yield f"  {one.policy.file}:{one.policy.line}: {effect} `{one.policy.id}` {verdict}"
    yield from (f"      {line}" for line in one.policy.text.splitlines())


def _time(at: int) -> str:
    return datetime.fromtimestamp(at / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# -- for programs


def as_json(account: Account) -> dict[str, Any]:
    found, explanation = account.found, account.explanation
    position = found.decision.position
    return {
        "decision": dict(found.body),
        "task": dict(found.task) or None,
        "arguments": found.arguments,
        "paths": dict(found.paths),
        "references": dict(found.references),
        "orders": [dict(entry.body) for entry in found.orders],
        "credentials": names_of(found),
        "leases": [dict(entry.body) for entry in found.leases],
        "later": [dict(entry.body) for entry in found.later],
        "notes": list(account.notes),
        "today": describe(explanation.ruling) if explanation else None,
        "policies": [_policy_json(one) for one in explanation.considered] if explanation else [],
        "changes": list(account.changes),
        "proof": {"stream": position.stream.value, "index": position.index},
    }


def _policy_json(one: Considered) -> dict[str, Any]:
    return {
        "id": one.policy.id,
        "effect": "permit" if one.policy.permits else "forbid",
        "file": one.policy.file,
        "line": one.policy.line,
        "text": one.policy.text,
        "applied": one.applied,
        "stopped_by": one.stopped_by or None,
        "waits_for_approval": one.waits_for_approval,
    }
