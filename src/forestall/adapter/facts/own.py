"""Which files are Forestall's own, or tell a client which servers to start and how."""

from __future__ import annotations

import os
import pwd
import re
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

IN_HOMES = (
    ".forestall",
    ".claude",
    ".claude.json",
    ".codex",
    ".continue",
    ".cursor/cli-config.json",
    ".cursor/hooks.json",
    ".cursor/mcp.json",
    ".codeium/windsurf/mcp_config.json",
    ".copilot/mcp-config.json",
    ".gemini/settings.json",
    ".kiro/settings/mcp.json",
    ".lmstudio/mcp.json",
    ".vscode/mcp.json",
    ".config/Claude",
    ".config/claude",
    ".config/Code/User/mcp.json",
    ".config/Code/User/settings.json",
    ".config/goose/config.yaml",
    ".config/opencode",
    ".config/zed/settings.json",
    "Library/Application Support/Claude",
    "Library/Application Support/Code/User/mcp.json",
    "Library/Application Support/Code/User/settings.json",
)
"""Below a user's home directory. What clients read to know which servers to start, with which hooks."""

ANYWHERE = (
    ".forestall",
    ".mcp.json",
    ".claude.json",
    ".claude/settings.json",
    ".claude/settings.local.json",
    ".codex/config.toml",
    ".cursor/hooks.json",
    ".cursor/mcp.json",
    ".vscode/mcp.json",
    ".gemini/settings.json",
    ".kiro/settings/mcp.json",
    ".roo/mcp.json",
    ".amazonq/mcp.json",
    "claude_desktop_config.json",
    "cline_mcp_settings.json",
    "opencode.json",
)
"""In whichever directory: a client that is started there reads it."""

MAX_OWN_FILES = 10_000
"""Files of our own that are compared with one of several names. More than that is not ours."""

_TAIL = re.compile("/(?:" + "|".join(re.escape(name.casefold()) for name in ANYWHERE) + ")(?=/|$)")
_PROCESS = re.compile(r"/proc/(?:\d+|self|thread-self)(?=/|$)|/dev/(?:k?mem|port)$")
_GLOB = re.compile(r"[*?\[{]")


def home_directories(uids: Iterable[int]) -> tuple[str, ...]:
    """Where the users live whose clients may connect."""
    homes = [os.path.expanduser("~")]  # noqa: PTH111 - Path.home() raises where this stays as it is
    for uid in uids:
        with suppress(KeyError):
            homes.append(pwd.getpwuid(uid).pw_dir)
    return tuple(dict.fromkeys(home for home in homes if home.startswith("/") and home != "/"))


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """Answers for absolute paths. Case is not told apart: not every file system does."""

    roots: tuple[str, ...]
    """Each with everything below it, as written and as it resolves, case folded."""
    originals: tuple[str, ...] = field(repr=False)
    """The same, as they are on disk."""
    _inside: re.Pattern[str] = field(repr=False)
    _above: Mapping[str, tuple[str, ...]] = field(repr=False)

    @classmethod
    def of(cls, own: Iterable[str], homes: Iterable[str]) -> OwnFiles:
        """`own`: Forestall's home, its socket, and whatever else is protected."""
        paths = [os.path.abspath(path) for path in own]  # noqa: PTH100 - text in, text out
        paths += [f"{home}/{name}" for home in homes for name in IN_HOMES]
        originals = tuple(dict.fromkeys(form for path in paths for form in (path, os.path.realpath(path))))
        roots = tuple(path.casefold() for path in originals)
        inside = re.compile(f"(?:{'|'.join(map(re.escape, roots))})(?=/|$)")
        return cls(roots, originals, inside, _ancestors(originals))

    def holds(self, path: str) -> bool:
        """Is it one of them, or inside one of them? Processes count: a process's memory and files are behind them."""
        folded = path.casefold()
        return bool(self._inside.match(folded) or _TAIL.search(folded) or _PROCESS.match(folded))

    def named(self, word: str) -> bool:
        """Does a relative path end where only one of them could be, wherever it starts?"""
        return _TAIL.search(f"/{word.casefold()}") is not None

    def below(self, path: str) -> bool:
        """Is one of them, that exists, somewhere below this directory?"""
        return any(map(os.path.lexists, self._above.get(path.casefold(), ())))

    def linked(self, status: os.stat_result) -> bool:
        """Is this file, of several names, one of them under another name?"""
        if status.st_nlink < 2 or not stat.S_ISREG(status.st_mode):
            return False
        return any(own == (status.st_dev, status.st_ino) for own in self._inodes())

    def matched(self, pattern: str) -> bool:
        """Could an absolute pattern with `*`, `?`, `[…]` or `{…}` match one of them, or something inside?"""
        if not _GLOB.search(pattern):
            return False
        parts = re.sub(r"\{[^/]*\}", "*", pattern.casefold()).split("/")
        return any(_meets(parts, root.split("/")) for root in self.roots)

    def _inodes(self) -> Iterator[tuple[int, int]]:
        count = 0
        for root in self.originals:
            for file in _files(root):
                count += 1
                with suppress(OSError):
                    status = file.stat()
                    yield status.st_dev, status.st_ino
                if count > MAX_OWN_FILES:
                    return


def _ancestors(originals: Iterable[str]) -> dict[str, tuple[str, ...]]:
    above: dict[str, tuple[str, ...]] = {}
    for original in originals:
        for parent in map(str, Path(original).parents):
            above[parent.casefold()] = (*above.get(parent.casefold(), ()), original)
    return above


def _files(root: str) -> Iterator[Path]:
    path = Path(root)
    if path.is_dir():
        for directory, _, names in os.walk(root):
            yield from (Path(directory, name) for name in names)
    elif path.exists():
        yield path


def _meets(parts: list[str], root: list[str]) -> bool:
    for part, name in zip(parts, root, strict=False):
        if part == "**":
            return True
        if not fnmatchcase(name, part):
            return False
    return len(parts) >= len(root)
