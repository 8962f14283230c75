from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from forestall.adapter.ledger.checkpoint import Signer, Verifier
from forestall.core.errors import SetupError, Tampered
from forestall.core.merkle import EMPTY

ORIGIN = "example.org/test/permits"
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = Signer(ORIGIN, PRIVATE)
NOTE = SIGNER.sign(7, EMPTY)

C2SP_KEY = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
C2SP_SIGNATURE = (
    "\u2014 example.com/foo "
    "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM="
)


def test_the_example_of_the_standard_verifies() -> None:
    verifier = Verifier.parse(C2SP_KEY)
    assert str(verifier) == C2SP_KEY
    verifier._require_signature(b"This is an example message.\n", [C2SP_SIGNATURE])
    with pytest.raises(Tampered):
        verifier._require_signature(b"This is another message.\n", [C2SP_SIGNATURE])


def test_what_was_signed_verifies() -> None:
    checkpoint = SIGNER.verifier.verify(NOTE)
    assert (checkpoint.origin, checkpoint.size, checkpoint.root, checkpoint.note) == (ORIGIN, 7, EMPTY, NOTE)


def test_any_changed_byte_is_refused() -> None:
    for place in range(len(NOTE)):
        for flip in (0x01, 0x20, 0x80):
            changed = bytearray(NOTE)
            changed[place] ^= flip
            with pytest.raises(Tampered):
                SIGNER.verifier.verify(bytes(changed))


def test_signatures_of_others_are_ignored_and_do_not_count() -> None:
    other = Signer("witness.example", Ed25519PrivateKey.generate()).sign(7, EMPTY).split(b"\n\n")[1]
    assert SIGNER.verifier.verify(NOTE + other).size == 7
    text = NOTE.split(b"\n\n")[0]
    with pytest.raises(Tampered, match="not signed by"):
        SIGNER.verifier.verify(text + b"\n\n" + other)


def test_one_false_signature_of_ours_spoils_a_note() -> None:
    false = SIGNER.sign(8, EMPTY).split(b"\n\n")[1]
    with pytest.raises(Tampered, match="forged"):
        SIGNER.verifier.verify(NOTE + false)


def test_another_key_of_the_same_name_is_not_ours() -> None:
    with pytest.raises(Tampered, match="not signed by"):
        SIGNER.verifier.verify(Signer(ORIGIN, Ed25519PrivateKey.generate()).sign(7, EMPTY))


def signed(text: str) -> bytes:
    """A text with a true signature, whatever it says."""
    signature = base64.b64encode(SIGNER.verifier.key_id + PRIVATE.sign(text.encode())).decode()
    return f"{text}\n\u2014 {ORIGIN} {signature}\n".encode()


ROOT = base64.b64encode(EMPTY).decode()


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{ORIGIN}\n7\n",
        f"{ORIGIN}\n07\n{ROOT}\n",
        f"{ORIGIN}\n-7\n{ROOT}\n",
        f"{ORIGIN}\n{10**17}\n{ROOT}\n",
        f"{ORIGIN}\n7\n{ROOT[:-2]}\n",
        f"{ORIGIN}\n7\n{ROOT}\nextension\n",
        f"example.org/other\n7\n{ROOT}\n",
        f"{ORIGIN}\n7\t\n{ROOT}\n",
    ],
)
def test_a_signed_text_that_is_no_checkpoint_of_this_log_is_refused(text: str) -> None:
    with pytest.raises(Tampered):
        SIGNER.verifier.verify(signed(text))


@pytest.mark.parametrize("note", [b"", b"\n\n", b"\xff", b"a\n\nb", NOTE[:-1], NOTE + b"x" * 5000])
def test_what_is_no_note_is_refused(note: bytes) -> None:
    with pytest.raises(Tampered):
        SIGNER.verifier.verify(note)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "example.com/foo",
        C2SP_KEY.replace("+530d903a", "+530d903b"),
        C2SP_KEY.replace("/foo", "/fox"),
        C2SP_KEY.replace("/foo", "/f o"),
        C2SP_KEY[:-4],
        C2SP_KEY[:-1] + "!",
        C2SP_KEY.replace("+Aek", "+Bek"),
    ],
)
def test_what_is_no_verifier_key_is_a_setup_error(text: str) -> None:
    with pytest.raises(SetupError):
        Verifier.parse(text)


def test_a_signer_does_not_show_its_key() -> None:
    assert repr(SIGNER) == f"Signer({ORIGIN})"
