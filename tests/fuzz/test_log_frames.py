"""Parsers of the ledger, fed anything: they answer, or refuse with an error of ours, and never hang or grow."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

import forestall_verify
from forestall.adapter.ledger.checkpoint import Signer, Verifier
from forestall.adapter.ledger.frames import LIMITS, encode, frames, header, read_header
from forestall.adapter.ledger.recovery import recover
from forestall.core.errors import SetupError, Tampered
from forestall.core.merkle import EMPTY

SIGNER = Signer("example.org/test/permits", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
HEADER = header(SIGNER.verifier.name)
BODIES = st.one_of(st.binary(max_size=80), st.just(SIGNER.sign(0, EMPTY)), st.just(b'{"sealed":true}'))
FRAMES = st.builds(encode, st.sampled_from([b"E", b"P", b"C", b"C", b"X"]), BODIES)
FILES = st.one_of(
    st.binary(max_size=200),
    st.lists(st.one_of(FRAMES, st.binary(max_size=20)), max_size=8).map(lambda parts: HEADER + b"".join(parts)),
)


def opened(content: bytes) -> int:
    fd = os.memfd_create("log")
    os.write(fd, content)
    return fd


@given(FILES)
def test_any_file_is_read_or_refused(content: bytes) -> None:
    fd = opened(content)
    try:
        with suppress(Tampered):
            head = read_header(fd, Path("log"))
            end = head[1] if head else 0
            for frame in frames(fd, end, len(content), Path("log")):
                assert frame.start == end
                assert content[frame.start : frame.end] == encode(frame.kind, frame.body)
                assert len(frame.body) <= LIMITS[frame.kind]
                end = frame.end
            assert end <= len(content)
    finally:
        os.close(fd)


@given(FILES)
def test_any_file_is_recovered_or_refused(content: bytes) -> None:
    fd = opened(content)
    try:
        with suppress(Tampered):
            state = recover(fd, Path("log"), SIGNER.verifier)
            assert state is None or len(HEADER) <= state.doubtful <= state.end <= len(content)
    finally:
        os.close(fd)


@given(st.one_of(st.binary(max_size=300), FILES.map(lambda content: SIGNER.sign(3, EMPTY)[:-1] + content)))
def test_no_bytes_are_a_note_but_those_that_were_signed(note: bytes) -> None:
    with suppress(Tampered):
        assert SIGNER.verifier.verify(note).note.startswith(SIGNER.sign(3, EMPTY)[:-1])


@given(st.text(max_size=120))
def test_any_text_is_a_verifier_key_or_refused(text: str) -> None:
    with suppress(SetupError):
        assert str(Verifier.parse(text)) == text.strip()


@settings(deadline=None)
@given(FILES, st.booleans())
def test_the_verifier_refuses_any_file_with_a_sentence(content: bytes, live: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        for name in ("permits.log", "denials.log"):
            (Path(directory) / name).write_bytes(content)
        arguments = [directory, "--key", str(SIGNER.verifier), *(["--live"] if live else [])]
        assert forestall_verify.main(arguments) in (76, 78)


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=60).map(lambda tail: b"c2sp.org/tlog-proof@v1\n" + tail)))
def test_the_verifier_refuses_any_proof_with_a_sentence(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "proof"
        path.write_bytes(content)
        assert forestall_verify.main(["--proof", str(path), "--key", str(SIGNER.verifier)]) in (76, 78)
