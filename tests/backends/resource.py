"""Somebody else's resource server, which takes tokens of the real provider, with the proof that a bound one needs."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.backends.upstream import SECRET, Upstream
from tests.identity.provider import HERE, WAIT_S


class Resource:
    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self._process, self.url = process, url

    def seen(self, **settings: object) -> list[dict[str, Any]]:
        """What was looked at since this was asked last: verb, `authorization`, `dpop`, and why it was refused, if so.

        `settings` hold from now on: `nonce`, the one that it demands; `open`, whether what has no token passes.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(settings) + "\n")
        self._process.stdin.flush()
        found: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return found


@contextmanager
def resource(upstream: Upstream, target: str) -> Iterator[Resource]:
    """Before the server at `target`."""
    with subprocess.Popen(
        ["node", "resource.mjs"], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps({"issuer": upstream.issuer, "secret": SECRET, "target": target}) + "\n")
        process.stdin.flush()
        try:
            yield Resource(process, json.loads(process.stdout.readline())["url"])
        finally:
            process.stdin.close()
            process.wait(WAIT_S)
