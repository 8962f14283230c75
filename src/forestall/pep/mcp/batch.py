"""The answers to a batch of requests, sent as one when the last has come (JSON-RPC 2.0 section 6)."""

from __future__ import annotations


class Batch:
    def __init__(self) -> None:
        self._outstanding = 1  # the batch itself, until it is read to its end
        self._answers: list[bytes] = []

    def expect(self) -> None:
        """One more answer will come, or be given up."""
        self._outstanding += 1

    def settle(self, answer: bytes | None = None) -> bytes | None:
        """One answer came, or was given up. The whole, if it was the last and there is anything to send."""
        self._outstanding -= 1
        if answer is not None:
            self._answers.append(answer)
        if self._outstanding or not self._answers:
            return None
        return b"[" + b",".join(self._answers) + b"]"
