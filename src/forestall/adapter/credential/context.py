"""What every broker is given besides its own settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from forestall.core.model import Scope
from forestall.core.place import Place


@dataclass(frozen=True, slots=True)
class Context:
    owner: str
    """8 hex digits: which Forestall this is. Every name that it gives away begins with `forestall-OWNER-`."""
    now: Callable[[], int]
    """Milliseconds since the epoch."""
    random: Callable[[int], bytes]
    timeout_s: float
    """How long one call of the broker may take, all in all."""
    folder: Path
    """Where relative paths of the settings start: the home."""
    scope: Scope = Scope.ACTION
    """What the credentials of this class come into being for: the rights of one action, or all that its task has."""
    place: Place | None = None
    """Where they are put; None where a program of its own asks for them."""

    @property
    def prefix(self) -> str:
        return f"forestall-{self.owner}-"
