"""Starts a backend of `tests/backends`, asks it things as anybody could, and ends it."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]

WAIT_S = 60
"""Seconds after which something that has to happen has failed to; nothing waits for it to pass."""


@dataclass(frozen=True)
class Answer:
    status: int
    body: Any
    headers: Mapping[str, str]


class Backend:
    """Runs from `with` to its end, or until it is stopped."""

    def __init__(self, module: str, settings: Mapping[str, Any]) -> None:
        self._module, self._settings = module, settings
        self._process: subprocess.Popen[str] | None = None
        self.port = 0

    def __enter__(self) -> Self:
        words = [sys.executable, "-m", f"tests.backends.{self._module}"]
        self._process = subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(self._settings) + "\n")
        self._process.stdin.flush()
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """At once, as a machine that fails. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=WAIT_S)
        self._process = None

    def ask(self, method: str, path: str, body: object = None, *, bearer: str = "", **headers: str) -> Answer:
        given = {"User-Agent": "somebody", **{name.replace("_", "-"): value for name, value in headers.items()}}
        if bearer:
            given["Authorization"] = f"Bearer {bearer}"
        data = None if body is None else json.dumps(body).encode()
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)) as connection:
            connection.request(method, path, body=data, headers=given)
            answer = connection.getresponse()
            text = answer.read()
            return Answer(answer.status, json.loads(text) if text else None, dict(answer.headers.items()))
