"""`forestall credentials`: SQL for an administrator. That it runs, tests/postgres shows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forestall.adapter.ledger import keys
from forestall.cli import main
from forestall.credentials import owner_of


def test_the_setup_names_this_forestall(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = keys.create(tmp_path / "keys")
    assert main(["credentials", "--home", str(tmp_path), "postgresql-setup", "--database", "shop"]) == 0
    assert owner_of(pair.origin, pair.private.public_key().public_bytes_raw()) in capsys.readouterr().out


def test_without_a_home_it_has_to_be_told_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["credentials", "--home", str(tmp_path / "none"), "postgresql-setup", "--database", "shop"]
    assert main(words) != 0
    assert "is missing" in capsys.readouterr().err
    assert main([*words, "--owner", "1a2b3c4d"]) == 0
    assert "forestall-1a2b3c4d-" in capsys.readouterr().out


def test_a_policy_is_printed_as_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["credentials", "--json", "postgresql-policy", "shop.orders", "customer_id", "customer"]) == 0
    assert "CREATE POLICY" in json.loads(capsys.readouterr().out)["sql"]


@pytest.mark.parametrize(
    "words",
    [
        ["postgresql-policy", "orders", "customer_id", "customer"],
        ["postgresql-setup", "--database", "shop", "--owner", "x"],
        ["postgresql-setup", "--database", "", "--owner", "1a2b3c4d"],
    ],
)
def test_what_cannot_be_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["credentials", *words]) == 65
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err
