"""A projected token is what is in the file now."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from forestall.adapter.oidc.token_file import read_token
from forestall.core.errors import Unavailable
from forestall.proof.jws import MAX_TOKEN


def test_a_token_is_read_again_at_each_use(tmp_path: Path) -> None:
    """As the kubelet does it: a link to a link, the inner one moved at once."""
    for name in ("..1", "..2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "token").write_text(f"token-{name}\n")
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "token").symlink_to("..data/token")
    assert read_token(tmp_path / "token") == "token-..1"
    (tmp_path / "..new").symlink_to("..2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    assert read_token(tmp_path / "token") == "token-..2"


@pytest.mark.parametrize("data", [b"a.b.c", b"a.b.c\n", b"a.b.c\r\n"])
def test_a_line_break_at_its_end_is_not_the_tokens(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "token").write_bytes(data)
    assert read_token(tmp_path / "token") == "a.b.c"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"s3cret s3cret",
        b"s3cret\ns3cret",
        b"s3cret\r\nHost: x",
        b" s3cret",
        b"s3cret\0",
        b"s3cret\n\n",
        "s3crët".encode(),
        b"s3cret" * MAX_TOKEN,
        b"s" * (MAX_TOKEN + 1),
    ],
)
def test_what_is_not_one_token_is_refused_and_not_shown(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "token").write_bytes(data)
    with pytest.raises(Unavailable) as caught:
        read_token(tmp_path / "token")
    assert "s3cr" not in str(caught.value)
    assert str(tmp_path / "token") in str(caught.value)


def test_the_longest_token_is_read(tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(b"s" * MAX_TOKEN + b"\r\n")
    assert read_token(tmp_path / "token") == "s" * MAX_TOKEN


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, tmp_path / "missing", tmp_path / "pipe" / "token"):
        with pytest.raises(Unavailable):
            read_token(path)


def test_a_pipe_that_has_a_token_to_give_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    writer = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    try:
        os.write(writer, b"s3cret")
        with pytest.raises(Unavailable, match="is not a file"):
            read_token(tmp_path / "pipe")
    finally:
        os.close(writer)
