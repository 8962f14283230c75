"""Signing in another thread: made once, by whoever is first, and what goes wrong is told."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from forestall.adapter.ledger import pen as pens
from forestall.adapter.ledger.checkpoint import Signer
from forestall.adapter.ledger.pen import Pen, Signature
from forestall.core.merkle import Tree, leaf_hash

BOUND_S = 30
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


class Watched(Signer):
    """Says when it begins, goes on when it is let, and fails when it is told to."""

    def __init__(self) -> None:
        super().__init__("example.org/test/permits", KEY)
        self.begun = threading.Semaphore(0)
        self.let = threading.Semaphore(0)
        self.error: BaseException | None = None
        self.threads: list[int] = []

    def sign(self, size: int, root: bytes) -> bytes:
        self.threads.append(threading.get_ident())
        self.begun.release()
        assert self.let.acquire(timeout=BOUND_S)
        if self.error is not None:
            raise self.error
        return super().sign(size, root)


@pytest.fixture
def signer() -> Watched:
    return Watched()


@pytest.fixture
def pen(signer: Watched) -> Iterator[Pen]:
    pen = Pen()
    yield pen
    signer.let.release(100)
    pen.close()


def tree(size: int) -> Tree:
    tree = Tree()
    for number in range(size):
        tree.append(leaf_hash(b"%d" % number))
    return tree


def begun(pen: Pen, signer: Watched) -> Signature:
    """One that the pen's thread is at."""
    signature = pen.begin(signer, tree(3))
    assert signer.begun.acquire(timeout=BOUND_S)
    return signature


def test_what_the_thread_began_is_waited_for_and_made_once(pen: Pen, signer: Watched) -> None:
    signature = begun(pen, signer)
    signer.let.release()
    checkpoint = signer.verifier.verify(signature.note())
    assert (checkpoint.size, checkpoint.root, signature.size) == (3, tree(3).root(), 3)
    assert len(signer.threads) == 1
    assert signer.threads != [threading.get_ident()]


def test_what_the_thread_has_not_begun_is_taken_back_and_not_made_twice(pen: Pen, signer: Watched) -> None:
    first, second = begun(pen, signer), pen.begin(signer, tree(5))
    signer.let.release()  # one of the two that sign now; the other waits
    signer.let.release()
    assert signer.verifier.verify(second.note()).size == 5
    assert signer.verifier.verify(first.note()).size == 3
    pen.close()
    assert len(signer.threads) == 2


def test_a_thread_that_is_dead_holds_nobody_up(pen: Pen, signer: Watched) -> None:
    first = begun(pen, signer)
    signer.let.release()
    first.note()
    pen.close()
    signer.let.release()
    assert signer.verifier.verify(pen.begin(signer, tree(4)).note()).size == 4
    assert signer.threads[1] == threading.get_ident()


def test_a_machine_with_no_more_threads_holds_nobody_up(
    pen: Pen, signer: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    signer.let.release(2)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", none)
        assert signer.verifier.verify(pen.begin(signer, tree(1)).note()).size == 1
    assert signer.threads == [threading.get_ident()]
    assert signer.verifier.verify(pen.begin(signer, tree(2)).note()).size == 2


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError(), SystemExit(), KeyboardInterrupt()])
def test_what_fails_in_the_thread_is_told_and_the_next_is_made(pen: Pen, signer: Watched, error: BaseException) -> None:
    signature = begun(pen, signer)
    signer.error = error
    signer.let.release()
    with pytest.raises(RuntimeError, match=f"no signature: {type(error).__name__}"):
        signature.note()
    signer.error = None
    following = begun(pen, signer)
    signer.let.release()
    assert signer.verifier.verify(following.note()).size == 3
    assert threading.get_ident() not in signer.threads


def test_a_thread_that_began_and_never_ends_is_not_waited_for_for_ever(
    pen: Pen, signer: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pens, "WAIT_S", 0.01)
    with pytest.raises(RuntimeError, match="no signature within"):
        begun(pen, signer).note()


def test_a_pen_that_was_never_used_has_no_thread() -> None:
    before = threading.active_count()
    Pen().close()
    assert threading.active_count() == before
