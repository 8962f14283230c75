"""Backends that tests run against where a real product would be too much: each keeps its state outside of Forestall's
process, so that what it says of what lives is its own account.
"""

from __future__ import annotations

import json
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent.parent


def install(site: Path) -> Path:
    """The package of another vendor, with the backend `files` as its entry point. To be put on a program's path."""
    about = site / "forestall_files-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: forestall-files\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[forestall.brokers]\nfiles = tests.backends.files:open_broker\n")
    (site / "forestall_files.pth").write_text(f"{REPOSITORY}\n")
    return site


class Desk:
    """The backend `files` as its administrator sees it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def live(self) -> set[str]:
        """Names of the credentials that work."""
        found = self.folder / "live"
        return {path.name for path in found.iterdir()} if found.exists() else set()

    @property
    def asked(self) -> list[str]:
        notes = self.folder / "asked"
        return notes.read_text().splitlines() if notes.exists() else []

    def works(self, token: str) -> bool:
        return any(self._token(name) == token for name in self.live)

    def until(self, name: str) -> int:
        return int(json.loads((self.folder / "live" / name).read_text())["until"])

    def fault(self, **faults: str) -> None:
        """What happens to the next calls: `fault(issue="slow")`. Whatever is not named goes well."""
        self.folder.mkdir(exist_ok=True)
        new = self.folder / "faults-new"
        new.write_text("".join(f"{what} {fault}\n" for what, fault in faults.items()))
        new.rename(self.folder / "faults")

    def _token(self, name: str) -> str | None:
        """None once it is revoked, which another process may do between the listing and this."""
        try:
            return str(json.loads((self.folder / "live" / name).read_text())["token"])
        except FileNotFoundError:
            return None

    def leave(self, name: str) -> None:
        """One that nobody has written down."""
        (self.folder / "live").mkdir(parents=True, exist_ok=True)
        (self.folder / "live" / name).write_text('{"token": "lost", "handle": "lost"}')
