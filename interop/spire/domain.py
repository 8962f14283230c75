"""One trust domain: a SPIRE server, and one agent of it on this machine."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from forestall.testing.ports import free_port
from interop.daemon import Daemon

HERE = Path(__file__).parent
COMMAND_S = 60.0
"""Seconds that a command of the server may take."""


class Domain:
    """A context: inside it the server and the agent run, and after it they are gone."""

    def __init__(self, programs: Path, folder: Path, trust_domain: str, *, key_type: str) -> None:
        """`folder`: empty and short, for sockets are made in it. `key_type`: of the authorities, in SPIRE's words."""
        self.trust_domain, self.folder = trust_domain, folder
        self.bundle_port = free_port()
        self._programs = programs
        self._env = {
            "TRUST_DOMAIN": trust_domain,
            "FOLDER": str(folder),
            "SERVER_PORT": str(free_port()),
            "BUNDLE_PORT": str(self.bundle_port),
            "KEY_TYPE": key_type,
        }
        self._running = ExitStack()
        self.server: Daemon
        self.agent: Daemon

    def __enter__(self) -> Self:
        try:
            self._start_server()
            self._invite_agent()
            self.start_agent()
        except BaseException:
            self._running.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._running.close()

    @property
    def endpoint(self) -> str:
        """Where the agent's Workload API is, as SPIFFE_ENDPOINT_SOCKET has it."""
        return f"unix://{self.folder}/agent.sock"

    def id(self, path: str) -> str:
        return f"spiffe://{self.trust_domain}{path}"

    def start_agent(self) -> None:
        """Also again, after it was stopped: it was admitted once, and has its own SVID in its folder."""
        self.agent = self._run("spire-agent", "agent.conf")
        self.agent.wait_for("Starting Workload and SDS APIs")

    def bundle(self, form: str = "spiffe") -> str:
        return self._text("bundle", "show", "-format", form)

    def federate(self, other: Domain) -> None:
        """The server learns the other's bundle. Which workloads are told of it, their entries say."""
        self._text("bundle", "set", "-id", f"spiffe://{other.trust_domain}", "-format", "spiffe", stdin=other.bundle())

    def register(self, path: str, selectors: Sequence[str], *more: str) -> str:
        """The new entry's id."""
        chosen = [word for selector in selectors for word in ("-selector", selector)]
        answer = self._command(
            "entry", "create", "-spiffeID", self.id(path), "-parentID", self.id("/machine"), *chosen, *more
        )
        result = answer["results"][0]
        if result["status"]["code"] != 0:
            raise RuntimeError(f"No entry for {path}: {result['status']['message']}")
        return str(result["entry"]["id"])

    def delete(self, entry: str) -> None:
        self._command("entry", "delete", "-entryID", entry)

    def replace_authority(self, kind: str) -> str:
        """A new authority signs from now on; the old one still counts. `kind`: `x509` or `jwt`. The old one's id."""
        old = str(self._command("localauthority", kind, "show")["active"]["authority_id"])
        new = self._command("localauthority", kind, "prepare")["prepared_authority"]["authority_id"]
        self._command("localauthority", kind, "activate", "-authorityID", str(new))
        return old

    def taint_authority(self, kind: str, old: str) -> None:
        """What it signed is replaced, and still counts.

        Returns once the server and the agent have replaced their own: revoked before that, they trust each other no
        more, and the agent ends.
        """
        server, agent = self.server.said, self.agent.said
        self._command("localauthority", kind, "taint", "-authorityID", old)
        if kind == "x509":
            self.server.wait_for("Signed X509 SVID", f"{self.trust_domain}/spire/server", after=server)
            self.agent.wait_for("Successfully rotated agent SVID", after=agent)

    def revoke_authority(self, kind: str, old: str) -> None:
        """What it signed does not count any more."""
        self._command("localauthority", kind, "revoke", "-authorityID", old)

    def _start_server(self) -> None:
        (self.folder / "server").mkdir()
        self.server = self._run("spire-server", "server.conf")
        self.server.wait_for("Starting Server APIs", "network=tcp")
        self.server.wait_for("Starting Server APIs", "network=unix")

    def _invite_agent(self) -> None:
        (self.folder / "agent").mkdir()
        (self.folder / "bundle.pem").write_text(self.bundle("pem"))
        token = self._command("token", "generate", "-spiffeID", self.id("/machine"))["value"]
        with open(self.folder / "join-token", "x", opener=_private, encoding="ascii") as file:
            file.write(token)

    def _run(self, program: str, config: str) -> Daemon:
        words = [str(self._programs / program), "run", "-config", str(HERE / config), "-expandEnv"]
        daemon = Daemon(f"{program} of {self.trust_domain}", words, self._env)
        self._running.callback(daemon.stop)
        return daemon

    def _command(self, *words: str) -> Any:
        return json.loads(self._text(*words, "-output", "json"))

    def _text(self, *words: str, stdin: str = "") -> str:
        done = subprocess.run(
            [str(self._programs / "spire-server"), *words, "-socketPath", f"{self.folder}/server.sock"],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"spire-server {' '.join(words[:3])}: {done.stderr or done.stdout}")
        return done.stdout


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
