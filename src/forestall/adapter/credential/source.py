"""Where a secret that was there before stands: it is read when it is used, and kept nowhere."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from forestall.core.ask import CannotDo
from forestall.core.errors import SetupError, cure
from forestall.core.reason import Reason
from forestall.private_file import read_private_file

MAX_SECRET = 65_536
"""Bytes. A key with its chain of certificates has a tenth."""


class SecretSource(Protocol):
    def read(self) -> str:
        """The secret as it is now, one line or several, never empty. Blocking. Raises CannotDo(unavailable)."""
        ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file of our own user, which nobody else can read."""

    path: Path

    def read(self) -> str:
        try:
            data = read_private_file(self.path, max_bytes=MAX_SECRET)
        except SetupError as error:
            raise _missing(str(error).removesuffix(".")) from None
        return plain(data, str(self.path))


@dataclass(frozen=True, slots=True)
class VariableSource:
    """A variable of the decision point's own environment. Whoever can read that has it, for as long as it runs."""

    name: str
    environment: Mapping[str, str]

    def read(self) -> str:
        value = self.environment.get(self.name)
        if value is None:
            raise _missing(f"the decision point was started without the variable {self.name}")
        return plain(value.encode(errors="surrogateescape"), f"the variable {self.name}")


@dataclass(frozen=True, slots=True)
class CommandSource:
    """A program that writes the secret to its standard output, such as one that asks a keyring."""

    words: tuple[str, ...]
    timeout_s: float
    run: Callable[[tuple[str, ...], float], bytes]

    def read(self) -> str:
        return plain(self.run(self.words, self.timeout_s), f"what {self.words[0]} wrote")


def output_of(words: tuple[str, ...], timeout_s: float) -> bytes:
    """What a program writes, in a session of its own, ended with all that it started when it takes too long.

    Raises:
        CannotDo: unavailable. It cannot be started, fails, is late, or writes too much.
    """
    try:
        started = subprocess.Popen(  # noqa: S603 - the owner's own words, without a shell
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError as error:
        raise _missing(f"{words[0]} cannot be started: {cure(error)}") from None
    try:
        deadline = time.monotonic() + timeout_s
        written = _read(started, deadline)
        if len(written) > MAX_SECRET:
            return written
        code = started.wait(max(0.0, deadline - time.monotonic()))
    except (TimeoutError, subprocess.TimeoutExpired):
        raise _missing(f"{words[0]} did not answer within {timeout_s:g} s") from None
    finally:
        _end(started)
    if code:
        raise _missing(f"{words[0]} failed with the exit code {code}")
    return written


def _read(started: subprocess.Popen[bytes], deadline: float) -> bytes:
    """Until it is at its end, or longer than any secret. Raises TimeoutError."""
    assert started.stdout is not None
    found = b""
    while len(found) <= MAX_SECRET:
        ready, _, _ = select.select([started.stdout], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            raise TimeoutError
        part = os.read(started.stdout.fileno(), MAX_SECRET)
        if not part:
            return found
        found += part
    return found


def _end(started: subprocess.Popen[bytes]) -> None:
    """With all that it started, unless it has ended by itself."""
    assert started.stdout is not None
    started.stdout.close()
    if started.poll() is None:
        os.killpg(started.pid, signal.SIGKILL)
        started.wait()


def plain(found: bytes, where: str) -> str:
    """A secret as text, without the line's end that editors and programs write."""
    if len(found) > MAX_SECRET:
        raise _missing(f"{where} is longer than {MAX_SECRET} bytes, which is no secret")
    try:
        text = found.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise _missing(f"{where} is no UTF-8") from None
    if not text or "\0" in text:
        raise _missing(f"{where} is empty, or holds a zero byte")
    return text


def _missing(what: str) -> CannotDo:
    return CannotDo(Reason.UNAVAILABLE, f"A standing secret cannot be had: {what}.")
