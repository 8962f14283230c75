"""From values to text that a person reviews: TOML with the reason beside each proposal. Text in, text out.

Whatever was there is kept as it is, comments included; a reviewed fact is never changed but for what was accepted.
tomlkit is imported here and nowhere else.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import tomlkit
from tomlkit.items import AbstractTable, Item

from forestall.catalogue.propose import hinted
from forestall.catalogue.read import FORMAT
from forestall.catalogue.statement import FACTS, Definition, Proposal, Statement, argument_names, names_all_arguments
from forestall.core.effects import Confidence, Effect
from forestall.core.label import Label
from forestall.core.pin import definition_digest

SHOWN = 160
"""Characters of a server's own words that a comment repeats."""

_HEAD = """\
# What Forestall knows about the tools of the server {server!r}.
#
# This file is yours: review it, correct it, keep it under version control. What it says holds, with one exception: a
# fact that is only "assumed" makes nothing milder. Until you declare it, the tool counts as destructive and external,
# all its arguments choose what happens, and its output is untrusted and secret.
#
#   effects   what a call does: read, write, external, destructive, execute, credential, privilege
#   control   arguments that choose the target or the effect; one that is in neither list counts as one of these
#   content   arguments that are only carried
#   output    integrity: trusted, untrusted; confidentiality: public, internal, confidential, secret
#   from      where each fact comes from; to accept a proposal, correct it and write "declared"
#   pin       digest of the definition in {server}.json that was reviewed; a server that sends another is quarantined
#
# The rest is in docs/catalogue.md: record_of, reversible, opaque, hidden, references, accept_undeclared,
# accept_duplicate.

format = {format}
server = {name}
about = {about}
"""


def render_head(server: str, about: str) -> str:
    """The beginning of a new file. `about` is the server's own name for itself."""
    return _HEAD.format(server=server, format=FORMAT, name=_toml(server), about=_toml(about))


def render_tool(server: str, definition: Definition, proposal: Proposal, today: str) -> str:
    """One tool's table, with a blank line before it."""
    said, reasons = proposal.statement, proposal.reasons
    settled = reasons.get("review") or f"proposed {today}; nobody has accepted it yet"
    lines = [
        f"[tools.{_key(definition['name'])}]",
        f"# The server says: {comment_text(str(definition.get('description', '')) or 'nothing')}",
        _line("effects", _effects(said.effects), reasons.get("effects")),
        _line("control", list(said.control), reasons.get("arguments")),
        *([_line("content", list(said.content))] if said.content else []),
        _line("output", _output(said.output), reasons.get("output")),
        _line("from", {fact: said.origin[fact].value for fact in FACTS if fact in said.origin}, settled),
        _line("pin", definition_digest(server, definition)),
    ]
    return "\n" + "\n".join(lines) + "\n"


def render_definitions(server: str, definitions: Mapping[str, Definition]) -> str:
    """NAME.json: the definitions as the server sent them, sorted, so that two versions compare line by line."""
    tools = [definitions[name] for name in sorted(definitions)]
    data = {"format": FORMAT, "server": server, "tools": tools}
    return json.dumps(data, ensure_ascii=False, sort_keys=True, indent=2) + "\n"


def accept(text: str, names: Collection[str], today: str) -> str:
    """The text with every assumed fact of these tools declared."""
    document: Any = tomlkit.parse(text)
    for name in names:
        origin = document["tools"][name]["from"]
        waiting = [fact for fact in origin if origin[fact] == Confidence.ASSUMED.value]
        for fact in waiting:
            origin[fact] = Confidence.DECLARED.value
        if waiting:
            _comment(document["tools"][name], "from", f"accepted with --accept {today}")
    return tomlkit.dumps(document)


def accept_change(text: str, server: str, said: Statement, definition: Definition, today: str) -> str:
    """The text with one tool pinned to another definition.

    Arguments that are no more are taken out; new ones are in neither list, and so control. Hints can add an effect.
    """
    document: Any = tomlkit.parse(text)
    table = document["tools"][definition["name"]]
    if names_all_arguments(definition):
        for key in {"control", "content", "opaque", "hidden", "references"} & set(table):
            table[key] = [name for name in table[key] if name in argument_names(definition)]
    graver = hinted(definition) - said.effects - {Effect.READ}
    if graver:
        table["effects"] = _effects(said.effects | graver)
        _comment(table, "effects", f"raised by the server's hints {today}")
    table["pin"] = definition_digest(server, definition)
    _comment(table, "pin", f"changed definition accepted {today}")
    return tomlkit.dumps(document)


def comment_text(text: str) -> str:
    """Another's words on one line of ours: nothing invisible, nothing that turns text around, not too long."""
    plain = " ".join(text.split())
    shown = "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in plain)
    return shown if len(shown) <= SHOWN else shown[: SHOWN - 3] + "..."


def _comment(table: Any, key: str, text: str) -> None:
    """Beside the key, where tomlkit can: a table in several pieces keeps no comments, and nothing depends on one."""
    item = table.item(key) if isinstance(table, AbstractTable) else None
    if isinstance(item, Item):
        item.comment(text)
        item.trivia.comment_ws = "  "


def _line(key: str, value: object, why: str | None = None) -> str:
    return f"{key} = {_toml(value)}" + (f"  # {comment_text(why)}" if why else "")


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(inner)}" for name, inner in value.items()) + " }"
    return tomlkit.item(value).as_string()


def _key(name: str) -> str:
    return name if name.isascii() and name.replace("_", "").replace("-", "").isalnum() else _toml(name)


def _effects(effects: Iterable[Effect]) -> list[str]:
    return [effect.value for effect in sorted(effects, key=lambda effect: effect.rank)]


def _output(label: Label) -> dict[str, str]:
    return {"integrity": label.integrity.value, "confidentiality": label.confidentiality.value}
