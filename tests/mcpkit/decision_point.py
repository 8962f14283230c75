"""A decision point that does as it is told: the other end of the socket, for tests of the gateway alone."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forestall.core.canonical import digest
from forestall.frame import HEAD, PROTOCOL, decode, encode, length

Frame = dict[str, Any]
CANARY = "forestall-canary"
_ids = itertools.count(1)

LEASE_MS = 60_000
"""Milliseconds for what a busy machine does in a few."""


def permit(frame: Frame, **changes: Any) -> Frame:
    """Leave for exactly what was asked, unless `changes` say otherwise."""
    granted = {
        "id": f"permit-{next(_ids)}",
        "tool": frame["tool"],
        "pin": frame["pin"],
        "digest": digest(frame["arguments"]),
        "expires_at": int(time.time() * 1000) + LEASE_MS,
        "start_by": int(time.time() * 1000) + LEASE_MS,
    }
    return {"type": "permit", "permit": {**granted, **changes}}


def deny(reason: str = "no_policy", decision: str = "deny") -> Frame:
    shown = {"decision": decision, "reason": reason, "decision_id": f"decision-{next(_ids)}", "retry": "final"}
    return {"type": decision, "decision": {**shown, "sentence": "Nothing permits this call."}}


def permit_all(frame: Frame) -> Frame | None:
    """The answer to any frame, of a decision point that denies nothing but canaries."""
    match frame["type"]:
        case "hello":
            return {"type": "welcome", "protocol": PROTOCOL, "task": "task-1", "subject": "test", "assurance": "local"}
        case "tools":
            return {"type": "tools", "tools": [{"name": t["name"], "show": True, "pin": ""} for t in frame["tools"]]}
        case "ask" if frame["tool"].endswith(CANARY):
            return deny("unknown_tool")
        case "ask":
            return permit(frame)
        case "performed":
            return {"type": "release"}
        case "refused":
            return deny(frame["reason"])
        case "method":
            return deny("unknown_method")
        case _:
            return None


class DecisionPoint:
    """Listens on a real Unix socket. `answer` is asked for every frame; None is silence. Every frame is kept.

    A frame is in `frames` before its answer is sent, and in `answered` after.
    """

    def __init__(self, path: Path, answer: Callable[[Frame], Frame | None] = permit_all) -> None:
        self.path = path
        self.challenge: Frame = {"type": "challenge", "protocol": PROTOCOL, "nonce": "nonce-1"}
        """What is said to whoever connects."""
        self.answer = answer
        self.frames: list[Frame] = []
        self.answered: list[Frame] = []
        self.arrived = threading.Condition()
        self._connections: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def close(self) -> None:
        """Gone, and its connections with it."""
        with contextlib.suppress(OSError):  # it may be called twice
            self._listener.shutdown(socket.SHUT_RDWR)
        # before the descriptor is free: the next listener of this process may get the same, and its clients be taken
        self._accepting.join()
        self._listener.close()
        self.path.unlink(missing_ok=True)
        self.drop()

    def drop(self) -> None:
        """End every connection that there is now. Who was on one may be back before the next is ended."""
        dropped, self._connections = self._connections, []
        for connection in dropped:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            connection.close()

    def of_type(self, kind: str) -> list[Frame]:
        """Of those that came. One is there before the gateway can act on its answer."""
        with self.arrived:
            return _of_type(self.frames, kind)

    def wait_for(self, kind: str, count: int = 1, seconds: float = 60) -> list[Frame]:
        """Those that were answered, once there are `count`."""
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(_of_type(self.answered, kind)) >= count, seconds), f"no {kind}"
            return _of_type(self.answered, kind)

    def send(self, frame: Frame) -> None:
        for connection in self._connections:
            connection.sendall(encode(frame))

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection.makefile("rb") as stream:
            connection.sendall(encode(self.challenge))
            while len(head := stream.read(HEAD)) == HEAD:
                frame = decode(stream.read(length(head)))
                with self.arrived:
                    self.frames.append(frame)
                answer = self.answer(frame)
                if answer is not None:
                    connection.sendall(encode({**({"id": frame["id"]} if "id" in frame else {}), **answer}))
                with self.arrived:
                    self.answered.append(frame)
                    self.arrived.notify_all()


def _of_type(frames: list[Frame], kind: str) -> list[Frame]:
    return [f for f in frames if f["type"] == kind and not str(f.get("tool")).endswith(CANARY)]
