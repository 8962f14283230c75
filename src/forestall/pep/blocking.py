"""One question to the decision point, answered before anything else is done: for commands, which have time to wait."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from forestall.core.errors import InvalidInput, Unavailable
from forestall.frame import HEAD, PROTOCOL, decode, encode, length
from forestall.pep.trusted import require_believed

TIMEOUT_S = 5.0
"""Seconds for one answer."""


class Connection:
    """A context: a connection of kind `cli` (docs/adr/0003-socket-protocol.md). Starts no decision point."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._id = 0
        self.welcome: Mapping[str, Any] = {}

    def __enter__(self) -> Self:
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(self._timeout_s)
            self._socket.connect(str(self._path))
            require_believed(self._socket, self._path)
            self.welcome = self._greet()
        except OSError as error:
            self._socket.close()
            why = error.strerror or error
            raise Unavailable(
                f"No decision point answers on {self._path} ({why}); `forestall serve` starts one."
            ) from None
        except BaseException:
            self._socket.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def _greet(self) -> Mapping[str, Any]:
        deadline = time.monotonic() + self._timeout_s
        nonce = _require(self._receive(deadline), "challenge").get("nonce")
        hello = {"type": "hello", "protocol": PROTOCOL, "nonce": nonce, "kind": "cli"}
        return _require(self._exchange(hello, deadline), "welcome")

    def ask(self, kind: str, **members: Any) -> Mapping[str, Any]:
        """The answer to a request of this type: `status`, `reload` or `stop`.

        Raises:
            Unavailable: it was refused, or no answer came in time.
        """
        self._id += 1
        message = {"type": kind, "id": self._id, **members}
        answer = self._exchange(message, time.monotonic() + self._timeout_s)
        if answer["type"] == "refused" or answer.get("id") != self._id:
            raise Unavailable(f"The decision point refuses: {answer.get('sentence', 'it does not say why')}")
        return answer

    def _exchange(self, message: dict[str, Any], deadline: float) -> Mapping[str, Any]:
        try:
            self._socket.sendall(encode(message))
        except OSError as error:
            raise Unavailable(f"The decision point on {self._path} does not answer: {error}.") from None
        return self._receive(deadline)

    def _receive(self, deadline: float) -> Mapping[str, Any]:
        try:
            return decode(self._exactly(length(self._exactly(HEAD, deadline)), deadline))
        except InvalidInput as error:
            raise Unavailable(f"The decision point sent what is no frame: {error}") from None
        except OSError as error:
            raise Unavailable(f"The decision point on {self._path} does not answer: {error}.") from None

    def _exactly(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._socket.settimeout(max(0.001, deadline - time.monotonic()))
            part = self._socket.recv(size - len(data))
            if not part or time.monotonic() > deadline:
                raise Unavailable(f"The decision point on {self._path} ended the connection, or is too slow.")
            data += part
        return bytes(data)


def _require(answer: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    if answer["type"] == kind:
        return answer
    raise Unavailable(f"The decision point refuses: {answer.get('sentence', 'it does not say why')}")
