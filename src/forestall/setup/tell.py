"""What `forestall init` says, to people and to programs. Nothing of a server's reaches a terminal unescaped."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from forestall.catalogue.read import ServerFile
from forestall.catalogue.statement import Statement
from forestall.core.effects import groups, highest
from forestall.setup.client import Configuration, Server
from forestall.setup.review import Changed, Review
from forestall.setup.steps import Outcome, Written
from forestall.setup.token import find_tokens, printable, shown_command, shown_url

WIDTH = 14
"""Characters for a server's name, before what is said of it."""


def consent_lines(servers: Sequence[Server]) -> Iterator[str]:
    """Each command that would be started, and each address that would be asked, with the names of the variables, or of
    the headers, that it gets.
    """
    for server in servers:
        names = ", ".join(sorted(server.environment if server.url is None else server.headers))
        what = shown_command(server) if server.url is None else f"connects to {shown_url(server)}"
        yield f"  {_name(server.name)}{what}" + (f"   with {printable(names)}" if names else "")


def outcome_lines(outcome: Outcome) -> Iterator[str]:
    name = _name(outcome.server.name)
    if outcome.failure is not None:
        yield f"  {name}failed: {printable(str(outcome.failure))}"
    elif outcome.review is None:
        yield f"  {name}{_not_started(outcome.server)}"
    else:
        yield f"  {name}{_summary(outcome.review)}"
        yield from _review_lines(outcome.name, outcome.review)
    if outcome.left:
        yield f"      not guarded: {printable(outcome.left)}"


def _not_started(server: Server) -> str:
    return f"not guarded: {printable(server.obstacle)}" if server.obstacle else "not asked"


def _name(name: str) -> str:
    return f"{printable(name):<{WIDTH}} "


def _summary(review: Review) -> str:
    """`12 tools: 7 read, 4 write, 1 destructive`, by what holds now."""
    count = Counter(highest(groups(tool.effects)) for tool in review.file.tools())
    kinds = ", ".join(f"{count[effect]} {effect.value}" for effect in sorted(count, key=lambda effect: effect.rank))
    total = sum(count.values())
    waiting = f"; {len(review.waiting)} not accepted yet" if review.waiting else ""
    return f"{total} tool{'s' * (total != 1)}" + (f": {kinds}{waiting}" if total else "")


def _review_lines(server: str, review: Review) -> Iterator[str]:
    for name in review.waiting:
        why = review.new[name].reasons.get("effects", "") if name in review.new else "proposed earlier"
        yield f"      ? {printable(name)}: {_effects(review.file.statements[name])}  ({printable(why)})"
    for name, changed in review.changed.items():
        yield from _change_lines(f"{server}/{name}", changed)
    for name in review.removed:
        yield f"      - {printable(name)}: left out, because you took it out of {server}.toml"
    for name in review.gone:
        yield f"      - {printable(name)}: no longer offered"


def _change_lines(tool: str, changed: Changed) -> Iterator[str]:
    grave = "what it takes, gives or hints" if changed.change == "authority" else "only its wording"
    state = "accepted now" if changed.accepted else "quarantined"
    yield f"      ! {printable(tool)} changed ({grave}); {state}"
    yield from (f"          {difference}" for difference in changed.differences)


def _effects(said: Statement) -> str:
    return ", ".join(effect.value for effect in sorted(said.effects, key=lambda effect: effect.rank))


def token_lines(configuration: Configuration) -> Iterator[str]:
    found = [(server.name, find_tokens(server)) for server in configuration.servers]
    if any(places for _, places in found):
        yield f"Standing tokens in {configuration.path}: whatever can read the file has them."
        yield from (f"  {_name(name)}{printable(', '.join(places))}" for name, places in found if places)


def written_lines(written: Written) -> Iterator[str]:
    for path in written.files:
        yield f"Wrote {path}"
    if written.problem:
        yield f"The policy's schema and tests were not written: {written.problem}"
    for tool in written.duplicates:
        yield f"{printable(tool)} is hidden: another server has its name. Set accept_duplicate on the one you mean."
    if written.reloaded:
        yield written.reloaded


def next_lines(
    outcomes: Sequence[Outcome], catalogue: Path, file: str, *, applied: bool, left: Sequence[str] = ()
) -> Iterator[str]:
    """What to do now. `file`: the configuration as it was named; empty where it was not. `left`: servers that the
    rewritten file starts without a gateway.
    """
    init = f"forestall init {shlex.quote(file)}" if file else "forestall init"
    waiting = sorted({f"{o.name}.toml" for o in outcomes if o.review and o.review.waiting})
    changed = [
        f"{o.name}/{name}" for o in outcomes if o.review for name, what in o.review.changed.items() if not what.accepted
    ]
    if waiting:
        yield f'Review {", ".join(waiting)} in {catalogue}: until you write "declared" there (or run'
        yield f"`{init} --accept`), what is proposed (?) counts as destructive and external."
    if changed:
        yield "What changed (!) cannot be called. Once you have read the difference:"
        yield from (f"  {init} --accept-change {printable(shlex.quote(tool))}" for tool in changed)
    if left:
        yield f"NOT guarded: {printable(', '.join(left))}. The client uses what is named here without Forestall."
    if applied and len(left) < len(outcomes):
        yield f"Restart the client. `{init} --undo` takes it back; `forestall status` shows what is guarded."
    elif any(outcome.server.guardable for outcome in outcomes):
        yield f"Next: `{init} --apply` puts the gateway before every server."


def as_data(outcome: Outcome) -> dict[str, Any]:
    server = outcome.server
    data: dict[str, Any] = {
        "server": server.name,
        "guarded": server.guarded_as is not None,
        "obstacle": server.obstacle or outcome.left or None,
        "tokens": list(find_tokens(server)),
        "failure": str(outcome.failure) if outcome.failure else None,
        "listed": outcome.review is not None,
    }
    if outcome.review is not None:
        data |= _review_data(outcome.review)
    return data


def _review_data(review: Review) -> dict[str, Any]:
    return {
        "about": review.about,
        "protocol": review.protocol,
        "tools": _tools_data(review.file),
        "new": list(review.new),
        "waiting": list(review.waiting),
        "changed": {
            name: {"change": what.change, "accepted": what.accepted, "differences": list(map(str, what.differences))}
            for name, what in review.changed.items()
        },
        "removed": list(review.removed),
        "gone": list(review.gone),
    }


def _tools_data(file: ServerFile) -> dict[str, Any]:
    return {
        tool.name: {
            "effects": sorted(tool.effects, key=lambda effect: effect.rank),
            "confidence": tool.confidence,
            "pin": tool.pin,
        }
        for tool in file.tools()
    }
