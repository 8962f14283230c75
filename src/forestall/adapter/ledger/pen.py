"""Signing while the disk syncs: a thread that signs a checkpoint for who waits for the disk meanwhile.

Neither needs the interpreter for that, so on two processors the signature costs nothing. A signature that the thread
has not begun is taken back: a thread that is late, busy or dead holds nobody up, and one that fails says so.
"""

from __future__ import annotations

import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forestall.adapter.ledger.checkpoint import Signer
    from forestall.core.merkle import Tree

WAIT_S = 30.0
"""Seconds to wait for a signature that was begun. It takes microseconds; a thread that is gone never ends it."""

JOIN_S = 10.0
"""Seconds that closing waits for the thread."""


class Signature:
    """Of one tree, which does not grow any more. Made once, by the pen or by who needs it, whoever is first."""

    __slots__ = ("_begun", "_ended", "_error", "_note", "_signer", "_tree")

    def __init__(self, signer: Signer, tree: Tree) -> None:
        self._signer = signer
        self._tree = tree
        self._begun = threading.Lock()
        self._ended = threading.Lock()
        self._ended.acquire()
        self._note = b""
        self._error: BaseException | None = None

    @property
    def size(self) -> int:
        """Entries that it covers."""
        return self._tree.size

    def make(self) -> None:
        """In the pen's thread: what goes wrong is told to who waits."""
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._note = self._signer.sign(self._tree.size, self._tree.root())
        except BaseException as error:  # noqa: BLE001 - whatever it is, nothing was signed
            self._error = error
        finally:
            self._ended.release()

    def note(self) -> bytes:
        """The signed checkpoint. To be called once.

        Raises:
            RuntimeError: it could not be made.
        """
        if self._begun.acquire(blocking=False):
            return self._signer.sign(self._tree.size, self._tree.root())
        if not self._ended.acquire(timeout=WAIT_S):
            raise RuntimeError(f"no signature within {WAIT_S:.0f} s")
        if self._error is not None:
            raise RuntimeError(f"no signature: {type(self._error).__name__}")
        return self._note


class Pen:
    """The thread. It is started by the first signature, so that a ledger on a quick disk has none."""

    def __init__(self) -> None:
        self._asked: SimpleQueue[Signature | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def begin(self, signer: Signer, tree: Tree) -> Signature:
        """`tree` is the pen's from now on."""
        signature = Signature(signer, tree)
        if self._thread is None:
            thread = threading.Thread(target=self._work, name="forestall-ledger-pen", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no more threads here: who needs the signature makes it
                return signature
            self._thread = thread
        self._asked.put(signature)
        return signature

    def close(self) -> None:
        """What is asked of it afterwards is signed by who needs it."""
        if self._thread is not None:
            self._asked.put(None)
            self._thread.join(JOIN_S)

    def _work(self) -> None:
        for signature in iter(self._asked.get, None):
            signature.make()
