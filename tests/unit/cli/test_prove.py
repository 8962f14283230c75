"""`forestall prove`, checked by the stand-alone verifier."""

from __future__ import annotations

from pathlib import Path

import pytest

import forestall_verify
from forestall.adapter.ledger.frames import CHECKPOINT, encode
from forestall.cli import main
from tests.ledgers import Place, denied, join, permitted, settled, signed, split


@pytest.fixture
def place(tmp_path: Path) -> Place:
    place = Place(tmp_path / "home")
    with place.open() as ledger:
        signed(ledger, permitted("a"), permitted("b"))
        for entry in (settled("a"), denied("d")):
            ledger.append(entry)
    return place


def prove(place: Place, *arguments: str) -> int:
    return main(["prove", "--home", str(place.root), *arguments])


def check(place: Place, proof: Path) -> int:
    return forestall_verify.main(["--proof", str(proof), "--key", str(place.root / "keys" / "log.pub")])


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["a"], "Entry 0 (permitted a) is in example.org/test/permits"),
        (["a", "--kind", "settled"], "Entry 2 (settled a) is in example.org/test/permits"),
        (["d"], "Entry 0 (denied d) is in example.org/test/denials"),
    ],
)
def test_a_proof_is_written_and_verifies(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], what: str
) -> None:
    out = tmp_path / "a.tlog-proof"
    assert prove(place, *arguments, "--out", str(out)) == 0
    assert f"forestall-verify --proof {out}" in capsys.readouterr().out
    assert check(place, out) == 0
    assert what in capsys.readouterr().out


def test_a_proof_is_printed(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert prove(place, "b") == 0
    (tmp_path / "proof").write_text(capsys.readouterr().out)
    assert check(place, tmp_path / "proof") == 0


@pytest.mark.parametrize("arguments", [["x"], ["a", "--kind", "denied"], [""]])
def test_what_is_not_there_is_said(place: Place, capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert prove(place, *arguments) == 65
    assert "The ledger has no entry" in capsys.readouterr().err


def test_no_file_is_overwritten(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("mine")
    assert prove(place, "a", "--out", str(tmp_path / "mine")) == 65
    assert (tmp_path / "mine").read_text() == "mine"
    assert prove(place, "a", "--out", str(tmp_path / "no" / "where")) == 69
    assert "cannot be written: No such file" in capsys.readouterr().err


def test_an_entry_that_is_not_signed_yet_has_no_proof(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    head, parts = split(place.permits)
    join(place.permits, head, parts[:-1])
    assert prove(place, "a", "--kind", "settled") == 69
    assert "not signed yet" in capsys.readouterr().err


@pytest.mark.tampers
def test_a_log_that_does_not_verify_is_not_proved_from(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head, parts = split(place.permits)
    other = Place(tmp_path / "other")
    forged = other.keys.signer(permitted("a").stream).sign(3, bytes(32))
    unsigned, fewer = parts[1:3], [parts[0], *parts[4:]]
    for name, changed in (("b", [*parts[:-1], parts[-1]._replace(body=forged)]), ("b", fewer), ("a", unsigned)):
        join(place.permits, head, changed)
        assert prove(place, name) == 76
    place.permits.write_bytes(head + encode(CHECKPOINT, forged))
    assert prove(place, "d") == 0
    capsys.readouterr()


def test_without_a_key_nothing_is_proved(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    (place.root / "keys" / "log.pub").unlink()
    assert prove(place, "a") == 78
    assert "log.pub is missing" in capsys.readouterr().err
