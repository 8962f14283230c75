from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from forestall.catalogue import load
from forestall.core.effects import UNKNOWN, Confidence, Effect
from forestall.core.errors import SetupError
from forestall.setup.listing import Listing
from forestall.setup.process import Command
from forestall.setup.review import Review, Wishes, review
from tests.unit.catalogue.sample import LOOK, SEND, files

TODAY = "2026-11-21"


def take_in(
    directory: Path, *tools: dict[str, Any], accept: bool = False, changes: frozenset[str] = frozenset()
) -> Review:
    listing = Listing("scripted 1.0", "2025-11-25", {tool["name"]: tool for tool in tools})
    return review(directory, "mail", Command(("scripted",)), listing, Wishes(accept, changes, TODAY))


def text(directory: Path) -> str:
    return (directory / "mail.toml").read_text()


def test_the_first_list_is_proposed(tmp_path: Path) -> None:
    found = take_in(tmp_path, SEND, LOOK)
    assert list(found.new) == ["send", "look"]
    assert found.waiting == ("send", "look")
    tools = load(tmp_path).all()
    assert all(tool.effects >= UNKNOWN and tool.confidence is Confidence.ASSUMED for tool in tools)
    assert (tmp_path / "mail.toml").stat().st_mode & 0o777 == 0o600


def test_the_same_list_changes_no_byte(tmp_path: Path) -> None:
    take_in(tmp_path, SEND, LOOK)
    before = {path: path.stat() for path in tmp_path.iterdir()}
    found = take_in(tmp_path, LOOK, SEND)
    assert (found.new, found.changed, found.gone, found.removed) == ({}, {}, (), ())
    assert {path: path.stat() for path in tmp_path.iterdir()} == before


def test_what_was_reviewed_is_kept_and_new_tools_are_appended(tmp_path: Path) -> None:
    path = files(tmp_path, definitions=[SEND])
    before = path.read_text()
    found = take_in(tmp_path, SEND, LOOK)
    assert list(found.new) == ["look"]
    assert text(tmp_path).startswith(before)
    tools = {tool.name: tool for tool in load(tmp_path).all()}
    assert tools["send"].effects == {Effect.EXTERNAL}
    assert tools["look"].effects >= UNKNOWN


def test_accepting_declares_proposals_old_and_new(tmp_path: Path) -> None:
    take_in(tmp_path, SEND)
    found = take_in(tmp_path, SEND, LOOK, accept=True)
    assert found.waiting == ()
    assert {tool.confidence for tool in load(tmp_path).all()} == {Confidence.DECLARED}
    assert f"accepted with --accept {TODAY}" in text(tmp_path)


def test_a_changed_tool_is_shown_and_left_alone(tmp_path: Path) -> None:
    files(tmp_path)
    take_in(tmp_path, SEND, LOOK)  # written once as it is kept
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    changed = copy.deepcopy(SEND)
    changed["inputSchema"]["properties"]["bcc"] = {"type": "string"}
    found = take_in(tmp_path, changed, LOOK, accept=True)
    assert found.changed["send"].change == "authority"
    assert not found.changed["send"].accepted
    assert [difference.path for difference in found.changed["send"].differences] == ["inputSchema.properties.bcc"]
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_change_is_accepted_by_name(tmp_path: Path) -> None:
    files(tmp_path)
    changed = {**SEND, "description": "Sends a message, truly."}
    found = take_in(tmp_path, changed, changes=frozenset({"mail/send"}))
    assert found.changed["send"].change == "cosmetic"
    assert found.changed["send"].accepted
    assert load(tmp_path).definition("mail/send") == changed
    assert take_in(tmp_path, changed).changed == {}


def test_a_change_of_another_servers_tool_is_not_accepted(tmp_path: Path) -> None:
    files(tmp_path)
    found = take_in(tmp_path, {**SEND, "description": "x"}, changes=frozenset({"chat/send", "send"}))
    assert not found.changed["send"].accepted


def test_a_tool_that_its_owner_took_out_stays_out(tmp_path: Path) -> None:
    files(tmp_path)
    found = take_in(tmp_path, SEND, LOOK, accept=True)
    assert found.removed == ("look",)
    assert load(tmp_path).find("mail/look") is None


def test_a_tool_that_is_no_longer_offered_is_said_and_kept(tmp_path: Path) -> None:
    files(tmp_path)
    found = take_in(tmp_path)
    assert found.gone == ("send",)
    assert load(tmp_path).find("mail/send") is not None


def test_files_that_do_not_hold_together_are_not_touched(tmp_path: Path) -> None:
    path = files(tmp_path)
    path.write_text(path.read_text() + "[tools.\n")
    before = path.read_bytes()
    with pytest.raises(SetupError, match=r"mail\.toml"):
        take_in(tmp_path, SEND, LOOK, accept=True)
    assert path.read_bytes() == before
