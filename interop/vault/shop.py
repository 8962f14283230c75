"""What the tests here work on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from forestall.testing.postgresql import Cluster
from interop.vault.server import Server


@dataclass(frozen=True, slots=True)
class Shop:
    """What runs, set up as the page says."""

    server: Server
    cluster: Cluster
    role_id: str
    secret_id: Path
    ca: Path
