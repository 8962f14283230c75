"""Backends that tests run against where a real product would be too much: each keeps its state outside of Forestall's
process, so that what it says of what lives is its own account.
"""

from __future__ import annotations

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
