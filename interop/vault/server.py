"""A server of Vault or OpenBao of one's own, and its administrator. Shares no code with the broker."""

from __future__ import annotations

import hashlib
import json
import os
import ssl
import stat
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from forestall.testing.ports import free_port
from interop.authority import HOST, Authority
from interop.daemon import Daemon

WAIT_S = 60.0
"""Seconds in which it answers its administrator."""

SETTINGS = """\
storage "raft" {{
  path    = "{folder}"
  node_id = "one"
}}
listener "tcp" {{
  address       = "{host}:{port}"
  tls_cert_file = "{certificate}"
  tls_key_file  = "{key}"
}}
api_addr         = "https://{host}:{port}"
cluster_addr     = "https://{host}:{cluster}"
plugin_directory = "{plugins}"
disable_mlock    = true
"""


class Server:
    """A context: inside it the server runs, unsealed."""

    def __init__(self, program: Path, plugins: Path, folder: Path, authority: Authority) -> None:
        """`plugins`: the folder where its programs for databases are, if any. `folder`: its own, empty."""
        self.program, self._plugins, self._folder, self.authority = program, plugins, folder, authority
        self._ports = free_port(), free_port()
        self.address = f"https://{HOST}:{self._ports[0]}"
        self.root = ""
        """Its administrator's token."""
        self._unseal = ""
        self._trust = ssl.create_default_context(cafile=authority.ca)
        self._daemon: Daemon | None = None

    def __enter__(self) -> Self:
        certificate, key = self.authority.server("vault")
        settings = self._folder / "server.hcl"
        words = {"folder": self._folder, "host": HOST, "port": self._ports[0], "cluster": self._ports[1]}
        settings.write_text(SETTINGS.format(**words, certificate=certificate, key=key, plugins=self._plugins))
        with ExitStack() as undo:
            undo.callback(self.stop)
            self.start()
            made = self.ask("PUT", "sys/init", {"secret_shares": 1, "secret_threshold": 1}, token="")
            self.root, self._unseal = made["root_token"], made["keys"][0]
            self.unseal()
            undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def daemon(self) -> Daemon:
        assert self._daemon is not None, "it was started"
        return self._daemon

    def start(self) -> None:
        """Sealed, where it was initialised."""
        words = [str(self.program), "server", f"-config={self._folder / 'server.hcl'}"]
        self._daemon = Daemon("vault", words, {})
        self.daemon.wait_for("server started! Log data will stream in below")

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.stop()

    def seal(self) -> None:
        self.ask("PUT", "sys/seal")

    def unseal(self) -> None:
        said = self.daemon.said
        self.ask("PUT", "sys/unseal", {"key": self._unseal}, token="")
        self.daemon.wait_for("post-unseal setup complete", after=said)

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None) -> Any:
        """What it answers; None where that is nothing, or not there. Raises RuntimeError for what it refuses."""
        status, found = self._send(method, path, body, self.root if token is None else token)
        if status == 404:
            return None
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {found.decode()}")
        return json.loads(found) if found else None

    def status(self, method: str, path: str, body: Any = None, *, token: str) -> int:
        return self._send(method, path, body, token)[0]

    def _send(self, method: str, path: str, body: Any, token: str) -> tuple[int, bytes]:
        headers = {"X-Vault-Request": "true", "X-Vault-Token": token}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.address}/v1/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S, context=self._trust) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def run(self, script: str, folder: Path, more: Mapping[str, str]) -> None:
        """Lines for a shell, as an administrator would run them: `bao` is the server's own program."""
        tools = folder / "bin"
        tools.mkdir(exist_ok=True)
        command = tools / "bao"
        command.unlink(missing_ok=True)
        command.symlink_to(self.program)
        names = {"ADDR": self.address, "TOKEN": self.root, "CACERT": str(self.authority.ca)}
        environment = {f"{maker}_{name}": value for maker in ("BAO", "VAULT") for name, value in names.items()}
        path = f"{tools}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["/bin/sh", "-eu", "-c", script],
            cwd=folder,
            env={**os.environ, **environment, **more, "PATH": path},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{done.stdout}{done.stderr}")

    def register(self, name: str, program: Path) -> None:
        """A database that it does not come with."""
        body = {"command": program.name, "sha256": hashlib.sha256(program.read_bytes()).hexdigest()}
        self.ask("POST", f"sys/plugins/catalog/database/{name}", body)

    def tokens(self) -> dict[str, dict[str, Any]]:
        """All that there are, by accessor."""
        found = {}
        for each in self.ask("LIST", "auth/token/accessors")["data"]["keys"]:
            status, said = self._send("POST", "auth/token/lookup-accessor", {"accessor": each}, self.root)
            if status == 200:
                found[each] = json.loads(said)["data"]
            else:  # 403 of one that was half made, or is half gone: the administrator may look at any
                assert status in {400, 403}, said
        return found

    def leases(self, path: str) -> list[str]:
        """Ids of the secrets that there are at a path."""
        found = self.ask("LIST", f"sys/leases/lookup/{path}")
        return [f"{path}/{key}" for key in found["data"]["keys"]] if found else []


def is_program(path: Path) -> bool:
    return path.is_file() and bool(path.stat().st_mode & stat.S_IXUSR)
