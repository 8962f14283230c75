"""What a server lists now, beside what was reviewed of it: new tools are proposed, changed ones are shown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from forestall.catalogue.change import Change, Difference, classify_change, differences
from forestall.catalogue.known import find_known
from forestall.catalogue.propose import propose
from forestall.catalogue.read import ServerFile, read_server, read_text, read_texts
from forestall.catalogue.statement import Definition, Proposal
from forestall.catalogue.write import accept, accept_change, render_definitions, render_head, render_tool
from forestall.core.errors import InvalidInput, Unavailable
from forestall.core.pin import definition_digest
from forestall.setup.files import replace
from forestall.setup.listing import Listing
from forestall.setup.process import Command


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the person said beforehand."""

    accept: bool = False
    """Declare every proposal for a tool that was never reviewed."""
    accept_changes: frozenset[str] = frozenset()
    """`server/tool`: take this tool's changed definition as reviewed."""
    today: str = ""
    """The date that comments say."""


@dataclass(frozen=True, slots=True)
class Changed:
    """A tool whose definition is not the reviewed one."""

    change: Change
    differences: tuple[Difference, ...]
    accepted: bool


@dataclass(frozen=True, slots=True)
class Review:
    """One server, after its list was taken in."""

    about: str
    protocol: str
    file: ServerFile
    """As it is now on disk."""
    new: Mapping[str, Proposal]
    changed: Mapping[str, Changed]
    removed: tuple[str, ...]
    """Tools that the owner took out of the file, and that the server still offers."""
    gone: tuple[str, ...]
    """Reviewed tools that the server no longer offers."""

    @property
    def waiting(self) -> tuple[str, ...]:
        """Tools with facts that nobody has accepted."""
        return tuple(name for name, said in self.file.statements.items() if said.proposed)


def review(directory: Path, server: str, command: Command, listing: Listing, wishes: Wishes) -> Review:
    """Take a list in, and write what is new. A reviewed fact stays, but for what `wishes` accepts.

    Raises:
        SetupError: the server's files do not hold together, or cannot be written.
        Unavailable: a definition has no digest.
    """
    file = directory / f"{server}.toml"
    before, text = _before(file, server, listing)
    new = _new(before, listing, command)
    changed = _changed(before, listing, wishes)
    accepted = {name: listing.tools[name] for name, what in changed.items() if what.accepted}
    definitions = {**before.definitions, **{name: listing.tools[name] for name in new}, **accepted}
    for name, proposal in new.items():
        text += render_tool(server, definitions[name], proposal, wishes.today)
    for name, definition in accepted.items():
        text = accept_change(text, server, before.statements[name], definition, wishes.today)
    if wishes.accept:
        waiting = [name for name, said in read_texts(file, text, definitions).statements.items() if said.proposed]
        text = accept(text, waiting, wishes.today)
    after = read_texts(file, text, definitions)
    _store(file, text, render_definitions(server, definitions))
    removed = tuple(name for name in before.definitions if name not in before.statements and name in listing.tools)
    gone = tuple(name for name in before.statements if name not in listing.tools)
    return Review(listing.about, listing.protocol, after, new, changed, removed, gone)


def _before(file: Path, server: str, listing: Listing) -> tuple[ServerFile, str]:
    """What was reviewed so far, and the text that says so."""
    if file.exists():
        return read_server(file), read_text(file)
    return ServerFile(server, {}, {}), render_head(server, listing.about)


def _new(before: ServerFile, listing: Listing, command: Command) -> dict[str, Proposal]:
    known = find_known(command.argv)
    new = {name: definition for name, definition in listing.tools.items() if name not in before.definitions}
    for name, definition in new.items():
        _digest(before.server, name, definition)
    return {name: propose(definition, known) for name, definition in new.items()}


def _changed(before: ServerFile, listing: Listing, wishes: Wishes) -> dict[str, Changed]:
    found = {}
    for name, said in before.statements.items():
        definition = listing.tools.get(name)
        if definition is not None and said.pin != _digest(before.server, name, definition):
            old = before.definitions[name]
            accepted = f"{before.server}/{name}" in wishes.accept_changes
            found[name] = Changed(classify_change(old, definition), differences(old, definition), accepted)
    return found


def _digest(server: str, name: str, definition: Definition) -> str:
    try:
        return definition_digest(server, definition)
    except InvalidInput as error:
        raise Unavailable(f"the definition of {name!r} has no digest: {error}") from None


def _store(file: Path, text: str, definitions: str) -> None:
    """The definitions first: more of them than the other file speaks of does no harm."""
    for path, data in ((file.with_suffix(".json"), definitions.encode()), (file, text.encode())):
        if not path.exists() or path.read_bytes() != data:
            replace(path, data)
