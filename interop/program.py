"""A program that is asked by lines of JSON on its input, and answers each with one."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from interop.daemon import WITH_US

ROOT = Path(__file__).resolve().parents[1]
END_S = 60.0
"""Seconds that it has to end once nobody asks any more."""


class Program:
    """Runs from the start; `stop` ends it."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [*WITH_US, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **env},
            start_new_session=True,
        )

    def ask(self, name: str, **asked: Any) -> dict[str, Any]:
        assert self._process.stdin is not None, "asked for above"
        assert self._process.stdout is not None, "asked for above"
        with suppress(BrokenPipeError):  # it ended, and said why
            self._process.stdin.write(json.dumps({"ask": name, **asked}) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("The program ended; its complaint is above.")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def stop(self) -> None:
        assert self._process.stdin is not None, "asked for above"
        assert self._process.stdout is not None, "asked for above"
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
