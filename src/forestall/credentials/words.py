"""What a class says: by what it is known to be the same, and how it is kept while something that it made may be alive.

What a class made is ended as it was made, though `credentials.toml` says otherwise by the next start.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from forestall.core.errors import Unavailable, cure
from forestall.private_file import write_private_file

PREFIX = "sha256:"
_FILE = re.compile(r"[0-9a-f]{64}")


def digest_of(name: str, words: Mapping[str, Any]) -> str:
    """`sha256:` over the class's name and what it says, whatever the order, the spacing and the comments."""
    form = json.dumps([name, words], sort_keys=True, separators=(",", ":"), default=repr)
    return PREFIX + hashlib.sha256(form.encode()).hexdigest()


class Words:
    """One file for each class, named after its digest. Safe to use from several threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: set[str] = set()
        self._lock = threading.Lock()

    def keep(self, digest: str, name: str, words: Mapping[str, Any]) -> None:
        """Raises Unavailable where it is not on disk: then the class makes nothing."""
        with self._lock:
            if digest in self._kept:
                return
            path = self._folder / digest.removeprefix(PREFIX)
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_private_file(path, json.dumps({"name": name, "words": words}, default=repr).encode())
            except OSError as error:
                raise Unavailable(f"{path} cannot be written: {cure(error)}.") from None
            self._kept.add(digest)

    def find(self, digest: str) -> tuple[str, Mapping[str, Any]] | None:
        """The class's name and what it says; None where that was not kept, or does not read."""
        if not _FILE.fullmatch(digest.removeprefix(PREFIX)):
            return None
        with suppress(OSError, ValueError, KeyError, TypeError):
            found = json.loads((self._folder / digest.removeprefix(PREFIX)).read_bytes())
            return str(found["name"]), dict(found["words"])
        return None

    def keep_only(self, digests: Collection[str]) -> None:
        """Nothing that others made is alive."""
        names = {digest.removeprefix(PREFIX) for digest in digests}
        with self._lock, suppress(OSError):
            for path in self._folder.iterdir():
                if path.name not in names:
                    self._kept.discard(PREFIX + path.name)
                    path.unlink(missing_ok=True)
