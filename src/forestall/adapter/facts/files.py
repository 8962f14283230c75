"""Where a call's arguments lead on this machine's disk, and whether that is to Forestall's own files.

The answer is for now: a link that is swapped between the decision and the deed is not seen here. What cannot be
resolved counts as reaching.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from forestall.adapter.facts.own import OwnFiles
from forestall.adapter.facts.reading import (
    PATH_MAX,
    Unresolvable,
    absolute,
    is_plain,
    is_prose,
    readings,
    tokens,
    unknown_to_a_shell,
)
from forestall.adapter.facts.straight import straight
from forestall.core.effects import Confidence, Effect
from forestall.core.label import Label
from forestall.core.model import Facts, RealPath, Tool
from forestall.core.repute import UNKNOWN, Repute

MAX_LINKS = 40
"""Symbolic links that the kernel follows in one path (path_resolution(7))."""

MAX_STRINGS = 10_000
"""Strings of one call that are looked at. More than that nobody can have meant one by one."""

MAX_CARRIED = 64 * 1024
"""Characters of a declared content argument that could still be a path."""

MAX_TEXT = 1024 * 1024
"""Characters of any other string that are read. A longer one counts as reaching: declare it as content."""

MAX_WALKED = 32 * 1024 * 1024
"""Characters of directories that are passed through on the way to what one call names. Ten thousand files, sixteen
levels deep, need half of it; what needs more counts as reaching."""

STEP = 64
"""Characters that a step counts for beside its name, because it costs time whatever its length."""

_AWAY = {errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG}
"""Nothing is there, so nothing more can be behind it than its name says."""

_REACHES_ABOVE = frozenset({Effect.DESTRUCTIVE, Effect.EXECUTE})
"""Effects that reach what is below the directory that they name."""


class Files:
    """`port.FactSource` for tools that run on this machine."""

    def __init__(self, own: OwnFiles, home: str, variables: Mapping[str, str]) -> None:
        """`home`: what `~` is; `variables`: of the environment, as far as a tool server is known to have them."""
        self._own = own
        self._home = home
        self._variables = dict(variables)

    def gather(
        self,
        tool: Tool,
        arguments: Mapping[str, Any],
        labels: Label,
        depth: int,
        directory: str,
        repute: Repute = UNKNOWN,
    ) -> Facts:
        call = _Call(self._own, self._home, {**self._variables, "PWD": directory}, directory, tool)
        return Facts(
            labels=labels,
            effects=tool.effects,
            confidence=tool.confidence,
            reaches_own_files=call.reaches(arguments),
            depth=depth,
            paths=call.paths(arguments),
            risk=repute.risk,
            posture=repute.posture,
        )


@dataclass(slots=True)
class _Call:
    """One look at the disk: what was found once is not asked again."""

    own: OwnFiles
    home: str
    variables: Mapping[str, str]
    directory: str
    tool: Tool
    statuses: dict[str, os.stat_result | None] = field(default_factory=dict)
    resolved: dict[str, tuple[str, os.stat_result | None]] = field(default_factory=dict)
    looked: dict[str, bool] = field(default_factory=dict)
    strings: int = 0
    walked: int = 0
    relative: set[str] = field(default_factory=set)
    above: set[str] = field(default_factory=set)

    def reaches(self, arguments: Mapping[str, Any]) -> bool:
        declared = self.tool.input_schema.get("properties") or {}
        try:
            for name, value in arguments.items():
                carried = name in self.tool.content and self.tool.confidence is Confidence.DECLARED
                carried = carried and Effect.EXECUTE not in self.tool.effects
                if name not in declared and self._counted(name, carried=True):
                    return True
                for text in (value,) if isinstance(value, str) else _strings(value):
                    if self._counted(text, carried=carried):
                        return True
            return any(self._leads(f"{top}/{path}") for top in tuple(self.above) for path in tuple(self.relative))
        except (Unresolvable, ValueError, OSError):
            return True

    def paths(self, arguments: Mapping[str, Any]) -> dict[str, tuple[RealPath, ...]]:
        """What the control arguments name, for those that resolve as a whole."""
        found = {}
        for name in self.tool.control & arguments.keys():
            value = arguments[name]
            values = value if isinstance(value, list) else [value]
            if not 0 < len(values) <= MAX_STRINGS or not all(isinstance(item, str) for item in values):
                continue
            try:
                found[name] = tuple(map(self._real_path, values))
            except (Unresolvable, ValueError, OSError):
                continue
        return found

    def _counted(self, text: str, *, carried: bool) -> bool:
        self.strings += 1
        return self.strings > MAX_STRINGS or self._string(text, carried=carried)

    def _string(self, text: str, *, carried: bool) -> bool:
        """`carried`: it is a declared content argument, and only as a whole could it be a path."""
        if carried and (len(text) > MAX_CARRIED or is_prose(text)):
            return False
        if len(text) > MAX_TEXT:
            return True
        if is_plain(text):
            return self._names(text)
        if any(map(self._names, readings(text, self.variables))):
            return True
        if carried:
            return False
        executes = Effect.EXECUTE in self.tool.effects
        if executes and unknown_to_a_shell(text, self.variables):
            return True
        return any(
            self._names(form)
            for word in tokens(text, every=executes)
            if word != text
            for form in readings(word, self.variables)
        )

    def _names(self, path: str) -> bool:
        known = self.looked.get(path)
        if known is None:
            known = self.looked[path] = self._look(path)
        return known

    def _look(self, path: str) -> bool:
        if self.own.named(path):
            return True
        if path and not path.startswith(("/", "~")):
            self.relative.add(path)
        if path.startswith("~") and not path.startswith("~/"):
            path = os.path.expanduser(path) if path != "~" else path  # noqa: PTH111 - `~user`, as text
        return any(map(self._leads, absolute(path, self.directory, self.home)))

    def _leads(self, path: str) -> bool:
        if self.own.holds(path) or self.own.matched(path):
            return True
        if "\0" in path:
            return False
        real, status = self._resolve(path)
        if (real != path and self.own.holds(real)) or (status is not None and self.own.linked(status)):
            return True
        if self.own.below(real):
            self.above.add(real)
            return not self.tool.effects.isdisjoint(_REACHES_ABOVE)
        return False

    def _real_path(self, text: str) -> RealPath:
        if "://" in text or "\0" in text or len(text) > PATH_MAX:
            raise Unresolvable
        if not self.directory and not text.startswith(("/", "~/")):
            raise Unresolvable
        expanded = self.home + text[1:] if text == "~" or text.startswith("~/") else text
        path = expanded if expanded.startswith("/") else f"{self.directory}/{expanded}"
        real, _ = self._resolve(path)
        real.encode()  # raises ValueError for a name that is not UTF-8: neither policy nor the ledger could hold it
        if real == path and self.directory and path.startswith(f"{self.directory}/"):
            return RealPath(real, real[len(self.directory) + 1 :])  # no link on the way to it, so none to the directory
        root, _ = self._resolve(self.directory or "/")
        if real == root:
            return RealPath(real, "")
        within = root.rstrip("/") + "/"
        return RealPath(real, real[len(within) :] if self.directory and real.startswith(within) else None)

    def _resolve(self, path: str) -> tuple[str, os.stat_result | None]:
        """The path without links and `..`, and what is there now. Raises as `_walk` does."""
        found = self.resolved.get(path)
        if found is None:
            self._walked(path)
            status = straight(path)
            found = self.resolved[path] = self._walk(path) if status is None else (path, status)
        return found

    def _walked(self, path: str) -> None:
        """Count it, whoever walks: the kernel's way is short for us, and as long for it."""
        self.walked += len(path) + STEP
        if self.walked > MAX_WALKED:
            raise Unresolvable

    def _walk(self, path: str) -> tuple[str, os.stat_result | None]:
        """As `_resolve`, step by step.

        Raises:
            Unresolvable: a directory on the way may not be looked into, links go round in a circle, or it is too far.
        """
        current, status, links = "", None, 0
        above, _, last = path.rpartition("/")
        if above and straight(above) is not None:  # a file that is still to be made, or a link to one
            current, left = above, [last]
        else:
            left = path.split("/")[::-1]
        while left:
            part = left.pop()
            if part in {"", "."}:
                continue
            self._walked(current)
            if part == "..":
                current, status = current.rpartition("/")[0], None
                continue
            step = f"{current}/{part}"
            status = self.statuses[step] if step in self.statuses else self._status(step)
            if status is None or not stat.S_ISLNK(status.st_mode):
                current = step
                continue
            links += 1
            if links > MAX_LINKS:
                raise Unresolvable
            target = os.readlink(step)  # noqa: PTH115 - text in, text out
            current = "" if target.startswith("/") else current
            left += target.split("/")[::-1]
        return current or "/", status

    def _status(self, path: str) -> os.stat_result | None:
        try:
            found: os.stat_result | None = os.lstat(path)
        except OSError as error:
            if error.errno not in _AWAY:
                raise Unresolvable from None
            found = None
        self.statuses[path] = found
        return found


def _strings(value: Any) -> Iterator[str]:
    """Every string in a JSON value, names of members included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, member in value.items():
            yield str(name)
            yield from _strings(member)
    elif isinstance(value, list | tuple):
        for member in value:
            yield from _strings(member)
