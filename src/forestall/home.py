"""Where Forestall keeps things: one directory (docs/adr/0002-home.md)."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "FORESTALL_HOME"


@dataclass(frozen=True, slots=True)
class Home:
    root: Path

    @classmethod
    def find(cls, given: str | None = None) -> Home:
        """The directory given, else `$FORESTALL_HOME`, else `~/.forestall`. Absolute; need not exist."""
        return cls(Path(given or os.environ.get(VARIABLE) or "~/.forestall").expanduser().absolute())

    @property
    def config(self) -> Path:
        return self.root / "forestall.toml"

    @property
    def identities(self) -> Path:
        return self.root / "identity.toml"

    @property
    def credentials(self) -> Path:
        return self.root / "credentials.toml"

    @property
    def policy(self) -> Path:
        return self.root / "policy"

    @property
    def mandates(self) -> Path:
        return self.policy / "mandates"

    @property
    def catalogue(self) -> Path:
        return self.root / "catalogue"

    @property
    def declared(self) -> Path:
        """What programs declared in code, for commands to know of."""
        return self.root / "declared"

    @property
    def keys(self) -> Path:
        return self.root / "keys"

    @property
    def ledger(self) -> Path:
        return self.root / "ledger"

    @property
    def state(self) -> Path:
        return self.root / "state.sqlite"

    @property
    def run(self) -> Path:
        return self.root / "run"

    @property
    def socket(self) -> Path:
        return self.run / "socket"

    @property
    def backups(self) -> Path:
        return self.root / "backups"
