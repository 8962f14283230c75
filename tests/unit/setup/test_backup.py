from __future__ import annotations

import json
import stat
import sys
from pathlib import Path

import pytest

from forestall.core.errors import SetupError
from forestall.home import Home
from forestall.setup import backup, client
from forestall.setup.files import make_directory, replace

START = ("/opt/forestall", "gateway")
TEXT = '{"mcpServers": {"a": {"command": "x"},\t"b": {"command": "y"}}}\r\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / ".mcp.json"
    path.write_bytes(TEXT.encode())
    path.chmod(0o640)
    return path


def apply(home: Home, file: Path, *names: str) -> Path:
    return backup.apply(home, client.read(file), names, START)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_is_restored_byte_for_byte(home: Home, file: Path) -> None:
    kept = apply(home, file, "a", "b")
    assert kept.read_bytes() == TEXT.encode()
    assert [server.guarded_as for server in client.read(file).servers] == ["a", "b"]
    assert mode(file) == 0o640
    backup.undo(home, file)
    assert file.read_bytes() == TEXT.encode()
    assert mode(file) == 0o640
    assert list(home.backups.iterdir()) == []


def test_a_backup_is_its_owners_alone(home: Home, file: Path) -> None:
    kept = apply(home, file, "a")
    assert {mode(path) for path in home.backups.iterdir()} == {0o600}
    assert mode(home.backups) == mode(home.root) == 0o700
    assert kept.parent == home.backups
    assert "command" not in kept.with_suffix(".json").read_text()


def test_nothing_is_left_beside_the_file(home: Home, file: Path) -> None:
    before = set(file.parent.iterdir())
    apply(home, file, "a")
    assert set(file.parent.iterdir()) == before | {home.root}


def test_a_link_is_followed_and_stays(home: Home, file: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.json"
    link.symlink_to(file)
    apply(home, link, "a")
    assert link.is_symlink()
    assert client.read(file).servers[0].guarded_as == "a"
    backup.undo(home, link)
    assert link.is_symlink()
    assert file.read_bytes() == TEXT.encode()


def test_each_undo_takes_one_apply_back(home: Home, file: Path) -> None:
    apply(home, file, "a")
    between = file.read_bytes()
    apply(home, file, "b")
    backup.undo(home, file)
    assert file.read_bytes() == between
    backup.undo(home, file)
    assert file.read_bytes() == TEXT.encode()


def test_what_was_changed_since_is_not_lost(home: Home, file: Path) -> None:
    kept = apply(home, file, "a")
    changed = file.read_bytes() + b"\n"
    file.write_bytes(changed)
    with pytest.raises(SetupError, match="was changed") as error:
        backup.undo(home, file)
    assert str(kept) in str(error.value)
    assert file.read_bytes() == changed
    backup.undo(home, file, force=True)
    assert file.read_bytes() == TEXT.encode()


def test_a_file_that_is_gone_is_restored(home: Home, file: Path) -> None:
    apply(home, file, "a")
    file.unlink()
    backup.undo(home, file)
    assert file.read_bytes() == TEXT.encode()
    assert mode(file) == 0o640


def test_a_file_that_is_as_it_was_only_loses_its_backup(home: Home, file: Path) -> None:
    apply(home, file, "a")
    file.write_bytes(TEXT.encode())
    backup.undo(home, file)
    assert file.read_bytes() == TEXT.encode()
    assert list(home.backups.iterdir()) == []


def test_without_a_backup_there_is_nothing_to_undo(home: Home, file: Path) -> None:
    with pytest.raises(SetupError, match="nothing to undo"):
        backup.undo(home, file)


def test_a_backup_that_was_changed_is_not_restored(home: Home, file: Path) -> None:
    kept = apply(home, file, "a")
    kept.write_bytes(b"{}")
    now = file.read_bytes()
    with pytest.raises(SetupError, match="not what was kept"):
        backup.undo(home, file, force=True)
    assert file.read_bytes() == now


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"path": 1, "more": 2}'])
def test_a_record_that_was_changed_is_refused(home: Home, file: Path, data: bytes) -> None:
    apply(home, file, "a").with_suffix(".json").write_bytes(data)
    with pytest.raises(SetupError, match="not a record"):
        backup.undo(home, file)


def test_a_backup_that_is_gone_is_said(home: Home, file: Path) -> None:
    apply(home, file, "a").unlink()
    with pytest.raises(SetupError, match="nothing was restored"):
        backup.undo(home, file)


def test_a_file_that_changes_meanwhile_is_left_alone(home: Home, file: Path) -> None:
    configuration = client.read(file)
    file.write_bytes(b"{}")
    with pytest.raises(SetupError, match="changed while"):
        backup.apply(home, configuration, ["a"], START)
    assert file.read_bytes() == b"{}"


def test_it_knows_what_was_rewritten(home: Home, file: Path) -> None:
    assert backup.configurations(home) == ()
    apply(home, file, "a")
    apply(home, file, "b")
    assert backup.configurations(home) == (file,)


def test_the_gateway_is_named_by_its_whole_path(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "bin" / "forestall"
    program.parent.mkdir()
    program.write_text("")
    assert backup.gateway_command(home, str(program)) == (str(program), "gateway", "--home", str(home.root))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    assert backup.gateway_command(home, "/usr/bin/pytest")[0] == str(program)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert backup.gateway_command(Home(tmp_path / ".forestall"), str(program)) == (str(program), "gateway")


def test_without_a_program_the_module_is_started_and_no_other_of_its_name(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    start = backup.gateway_command(home, "/usr/bin/pytest")
    assert start[:5] == (str(tmp_path / "python"), "-P", "-m", "forestall.cli", "gateway")


def test_a_directory_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SetupError, match="cannot be made"):
        make_directory(tmp_path / "file" / "x")


def test_a_file_that_cannot_be_written_is_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "directory" / "inside").write_text("")
    with pytest.raises(SetupError, match="Nothing was changed"):
        replace(tmp_path / "directory", b"x")
    with pytest.raises(SetupError, match="Nothing was changed"):
        replace(tmp_path / "none" / "file", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


def test_a_record_holds_no_more_than_it_says(home: Home, file: Path) -> None:
    record = json.loads(apply(home, file, "a").with_suffix(".json").read_text())
    assert set(record) == {"path", "mode", "original", "applied"}
