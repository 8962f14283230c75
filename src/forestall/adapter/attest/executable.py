"""What a process runs: the very file, through an open descriptor, and the path that the kernel gives for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass

from forestall.adapter.attest import mounts
from forestall.adapter.attest.digest import Digests, Unread
from forestall.adapter.attest.interpreter import Interpreters
from forestall.adapter.attest.mounts import Place
from forestall.adapter.attest.proc import Entry
from forestall.adapter.attest.value import Unknown

DELETED = " (deleted)"
"""What the kernel puts behind the path of a file that is no longer there. A file of such a name counts as deleted."""


@dataclass(frozen=True, slots=True)
class Program:
    """As the fields of the same names in `value.Process`. `place` tells whether it is still the same file."""

    place: Place | None
    path: str = ""
    gone: bool = False
    digest: str = ""
    is_interpreter: bool = True
    unknown: frozenset[Unknown] = frozenset({Unknown.HIDDEN})


@dataclass(frozen=True, slots=True)
class Looking:
    """What one attestation looks at executables with."""

    digests: Digests
    interpreters: Interpreters
    mounted: Mapping[int, str]
    """The decision point's own mounts, by id."""
    users: str
    """Its own user namespace."""
    deadline_ms: int

    def at(self, entry: Entry, held: ExitStack) -> Program:
        """The file stays open for as long as `held` does, so that no other can come to be in its `place`.

        Raises:
            Vanished: the process has ended.
        """
        try:
            descriptor = entry.executable()
        except PermissionError:
            return Program(None)
        held.callback(os.close, descriptor)
        return self._at(entry, descriptor)

    def _at(self, entry: Entry, descriptor: int) -> Program:
        place = mounts.place_of(descriptor)
        shown = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - a Path would tidy what the kernel said
        path, unknown = shown.removesuffix(DELETED), set()
        here = place.mount in self.mounted
        if not here:
            unknown.add(Unknown.ELSEWHERE)
        if not path.isprintable():
            unknown.add(Unknown.UNPRINTABLE)
        digest = ""
        try:
            digest = self._digest(entry, descriptor, place)
        except Unread as error:
            unknown.add(error.why)
        return Program(
            place,
            path="" if unknown & {Unknown.ELSEWHERE, Unknown.UNPRINTABLE} else path,
            gone=path != shown,
            digest=digest,
            is_interpreter=self.interpreters.includes(path, digest),
            unknown=frozenset(unknown),
        )

    def _digest(self, entry: Entry, descriptor: int, place: Place) -> str:
        kind = self.mounted.get(place.mount)
        stacked_here = kind is not None
        if kind is None:
            kind = _mounts_of(entry).get(place.mount, "")
            stacked_here = entry.namespace("user") == self.users != ""
        if kind not in mounts.LOCAL and not (kind in mounts.STACKED and stacked_here):
            raise Unread(Unknown.FOREIGN)
        return self.digests.of(descriptor, self.deadline_ms)


def place_now(entry: Entry) -> Place | None:
    """What it runs now; None where we may not look. Raises Vanished."""
    try:
        descriptor = entry.executable()
    except PermissionError:
        return None
    try:
        return mounts.place_of(descriptor)
    finally:
        os.close(descriptor)


def _mounts_of(entry: Entry) -> Mapping[int, str]:
    try:
        return mounts.read(entry.directory)
    except OSError:
        return {}
