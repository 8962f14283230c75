"""What the relay wants done: the whole of what a session can do to the world. Lines are without their line break."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ToClient:
    line: bytes


@dataclass(frozen=True, slots=True)
class ToServer:
    line: bytes


@dataclass(frozen=True, slots=True)
class ToDecisionPoint:
    frame: bytes


@dataclass(frozen=True, slots=True)
class Connect:
    """Find the decision point again, starting it if need be; then `connected` or `not_connected`."""


@dataclass(frozen=True, slots=True)
class Say:
    """Tell the user, on standard error."""

    sentence: str


Thing = ToClient | ToServer | ToDecisionPoint | Connect | Say
