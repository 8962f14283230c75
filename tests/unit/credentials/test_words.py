"""By what a class is known to be the same, and how its words are kept."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.errors import Unavailable
from forestall.credentials.words import Words, digest_of

SAID = {"backend": "files", "path": "desk", "lifetime_s": 300, "place": {"where": "header", "name": "X"}}
ONE = digest_of("desk", SAID)

TOML = st.recursive(
    st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.floats(allow_nan=False) | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def test_the_order_of_what_it_says_is_nothing_and_all_that_it_says_is_something() -> None:
    assert digest_of("desk", dict(reversed(SAID.items()))) == ONE
    for other in ({**SAID, "lifetime_s": 301}, {**SAID, "place": {"where": "header", "name": "Y"}}):
        assert digest_of("desk", other) != ONE
    assert digest_of("other", SAID) != ONE
    assert digest_of("desk", {**SAID, "lifetime_s": True}) != digest_of("desk", {**SAID, "lifetime_s": 1})


@given(st.dictionaries(st.text(), TOML, max_size=4))
def test_it_has_one_whatever_it_says(words: dict[str, object]) -> None:
    assert digest_of("desk", words) == digest_of("desk", dict(reversed(words.items())))


def test_what_was_kept_is_found_by_the_next_process_and_by_nobody_else(tmp_path: Path) -> None:
    folder = tmp_path / "classes"
    Words(folder).keep(ONE, "desk", SAID)
    assert Words(folder).find(ONE) == ("desk", SAID)
    (file,) = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert folder.stat().st_mode & 0o777 == 0o700
    assert Words(folder).find(digest_of("desk", {})) is None


@pytest.mark.parametrize("digest", ["", "sha256:", "sha256:../../keys/log.key", "sha256:" + "A" * 64])
def test_what_is_no_digest_finds_nothing(tmp_path: Path, digest: str) -> None:
    assert Words(tmp_path).find(digest) is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"name": "x", "words": 1}', b"\xff"])
def test_what_does_not_read_is_not_there_and_is_written_anew(tmp_path: Path, data: bytes) -> None:
    (tmp_path / ONE.removeprefix("sha256:")).write_bytes(data)
    words = Words(tmp_path)
    assert words.find(ONE) is None
    words.keep(ONE, "desk", SAID)
    assert words.find(ONE) == ("desk", SAID)


def test_where_it_cannot_be_written_that_is_said_each_time(tmp_path: Path) -> None:
    (tmp_path / "classes").touch()
    words = Words(tmp_path / "classes")
    for _ in range(2):
        with pytest.raises(Unavailable, match="cannot be written"):
            words.keep(ONE, "desk", SAID)
    (tmp_path / "classes").unlink()
    words.keep(ONE, "desk", SAID)
    assert words.find(ONE) == ("desk", SAID)


def test_of_what_made_nothing_that_lives_nothing_is_kept(tmp_path: Path) -> None:
    words, other = Words(tmp_path), digest_of("other", SAID)
    for digest, name in ((ONE, "desk"), (other, "other")):
        words.keep(digest, name, SAID)
    (tmp_path / "half-written.new").touch()
    words.keep_only({ONE})
    assert [file.name for file in tmp_path.iterdir()] == [ONE.removeprefix("sha256:")]
    words.keep(other, "other", SAID)
    assert words.find(other) == ("other", SAID)
