"""SQL that an administrator runs: a name in it is that name, and nothing else."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.adapter.credential.postgresql_scram import verifier
from forestall.adapter.credential.postgresql_setup import Setup, identifier, literal, policy_script, setup_script
from forestall.core.errors import InvalidInput


def test_names_and_texts_are_quoted() -> None:
    assert identifier('a"; DROP TABLE x; --') == '"a""; DROP TABLE x; --"'
    assert literal("it's \\ so").strip() == "E'it''s \\\\ so'"


@given(st.text(min_size=1, max_size=20, alphabet=st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_quoted_name_ends_where_it_ends(name: str) -> None:
    if len(name.encode()) <= 63:
        assert identifier(name)[1:-1].replace('""', "").count('"') == 0
    assert literal(name).strip()[2:-1].replace("\\\\", "").replace("''", "").count("'") == 0


@pytest.mark.parametrize("name", ["", "x" * 64, "é" * 32, "a\0b"])
def test_what_the_server_would_cut_is_no_name(name: str) -> None:
    with pytest.raises(InvalidInput, match="no name in PostgreSQL"):
        identifier(name)


@pytest.mark.parametrize(
    ("setup", "sentence"),
    [
        (Setup("nothex!!", "forestall", "shop", 60), "8 hex digits"),
        (Setup("0BADF00D", "forestall", "shop", 60), "8 hex digits"),
        (Setup("0badf00d", "", "shop", 60), "no name"),
        (Setup("0badf00d", "x$$y", "shop", 60), r"\$\$"),
        (Setup("0badf00d", "forestall", "shop", 0), "at least a second"),
    ],
)
def test_a_setup_that_cannot_be_is_refused(setup: Setup, sentence: str) -> None:
    with pytest.raises(InvalidInput, match=sentence):
        setup_script(setup)


def test_no_mark_is_left_and_a_mark_in_a_name_is_not_filled_in() -> None:
    script = setup_script(Setup("0badf00d", 'odd"\n@DATABASE@', "shop", 60))
    assert '"odd""\n@DATABASE@"' in script
    assert script.replace("@DATABASE@", "").count("@") == 0
    comments = script.partition("\\set ON_ERROR_STOP")[0].splitlines()
    assert all(line.startswith("--") for line in comments)


@pytest.mark.parametrize("table", ["orders", "a.b.c", ".x", "x."])
def test_a_policy_is_for_a_table_with_its_schema(table: str) -> None:
    with pytest.raises(InvalidInput):
        policy_script(table, "customer_id", "customer")


def test_a_policy_is_found_by_its_name_so_it_is_not_cut() -> None:
    with pytest.raises(InvalidInput, match="63 bytes"):
        policy_script("shop.orders", "c" * 40, "p" * 40)


def test_a_verifier_is_what_the_server_makes_of_the_password() -> None:
    kind, rounds, keys = verifier("pencil", b"0" * 16).split("$")
    iterations, salt = rounds.split(":")
    stored, server = (b64decode(part) for part in keys.split(":"))
    assert (kind, iterations, b64decode(salt)) == ("SCRAM-SHA-256", "4096", b"0" * 16)
    salted = hashlib.pbkdf2_hmac("sha256", b"pencil", b"0" * 16, 4096)
    assert stored == hashlib.sha256(hmac.new(salted, b"Client Key", "sha256").digest()).digest()
    assert server == hmac.new(salted, b"Server Key", "sha256").digest()
