"""The program of an agent: a workload that opens tasks, hands them on, takes them over, and acts in them.

It is whoever its own Workload API says it is, by `forestall.agent`; what it does goes through a gateway that it starts.
Asked as `workload.py` is. `"by"`: `jwt` (a JWT-SVID), `certificate` (its X.509-SVID over mutual TLS, with a key of the
task's own), or `bound` (the same, and tasks are bound to that certificate).
"""

from __future__ import annotations

import os
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from forestall.agent import Agent, ClientCertificate, Held, Identity, JwtSvid, TaskRefused
from forestall.core.errors import Unavailable
from interop.session import WAIT_S, Session, gateway
from interop.spire.workload import Asked, Workload, answer_all, now


class Actor(Workload):
    def __init__(self, endpoint: str) -> None:
        super().__init__(endpoint)
        self._sessions: dict[str, Session] = {}

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()
        super().close()

    def ask_open(self, asked: Asked) -> dict[str, Any]:
        return self._keep(asked, lambda: self._open(asked))

    def _open(self, asked: Asked) -> Held:
        lifetime_s: int | None = asked.get("lifetime_s")
        return self._agent(asked).open("work", parameters={"order": asked["order"]}, lifetime_s=lifetime_s)

    def ask_delegate(self, asked: Asked) -> dict[str, Any]:
        held = _held(asked)
        return _told(lambda: {"ticket": self._agent(asked).delegate(held, to=asked["to"], **asked["narrower"]).token})

    def ask_accept(self, asked: Asked) -> dict[str, Any]:
        return self._keep(asked, lambda: self._agent(asked).accept(asked["ticket"]))

    def ask_extend(self, asked: Asked) -> dict[str, Any]:
        held = _held(asked)
        return self._keep(asked, lambda: self._agent(asked).extend(held, expires_at=asked["expires_at"]))

    def ask_introspect(self, asked: Asked) -> dict[str, Any]:
        return _told(lambda: {**self._agent(asked).introspect(_held(asked).token)})

    def ask_complete(self, asked: Asked) -> dict[str, Any]:
        held = _held(asked)

        def complete() -> dict[str, Any]:
            self._agent(asked).complete(held)
            return {"done": True}

        return _told(complete)

    def ask_act(self, asked: Asked) -> dict[str, Any]:
        """A tool call under the grant, through one gateway for all calls under it."""
        file = asked["grant"]
        if file not in self._sessions:
            self._sessions[file] = Session(gateway(Path(asked["home"]), Path(file), sys.executable))
        return self._sessions[file].call(asked["tool"], asked["arguments"])

    def ask_command(self, asked: Asked) -> dict[str, Any]:
        """`forestall task`, run by this very executable."""
        line = [sys.executable, "-m", "forestall.cli", "task", *asked["words"], "--ca", asked["ca"]]
        env = {**os.environ, "SPIFFE_ENDPOINT_SOCKET": sys.argv[1], "FORESTALL_URL": asked["url"]}
        done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)
        return {"status": done.returncode, "said": done.stdout + done.stderr}

    def ask_leave(self, asked: Asked) -> dict[str, Any]:
        """The gateway of the grant is not needed any more."""
        session = self._sessions.pop(asked["grant"], None)
        return {"status": None if session is None else session.close()}

    def _agent(self, asked: Asked) -> Agent:
        bound = asked["by"] == "bound"
        return Agent(asked["url"], self._identity(asked), ca_file=Path(asked["ca"]), bound_to_certificate=bound)

    def _identity(self, asked: Asked) -> Identity:
        if asked["by"] != "jwt":
            return ClientCertificate(self._certificate)
        if "token" in asked:  # one that it was given before
            token: str = asked["token"]
            return JwtSvid(lambda _audience: token)
        return JwtSvid(self.api.jwt_svid)

    def _certificate(self) -> tuple[bytes, bytes]:
        own = self.api.svids(now())[0]
        chain = "".join(map(ssl.DER_cert_to_PEM_cert, own.chain))
        return chain.encode(), ssl.DER_cert_to_PEM_cert(own.key).replace("CERTIFICATE", "PRIVATE KEY").encode()

    def _keep(self, asked: Asked, asks: Callable[[], Held]) -> dict[str, Any]:
        def kept() -> dict[str, Any]:
            held = asks()
            held.write(Path(asked["grant"]))
            return {"task": held.task, "bound_to": sorted(held.claims["cnf"]), "expires_at": held.expires_at}

        return _told(kept)


def _held(asked: Asked) -> Held:
    return Held.read(Path(asked["grant"]))


def _told(asks: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return asks()
    except TaskRefused as refused:
        return {"refused": refused.error, "reason": refused.reason, "decision": refused.decision}
    except Unavailable as unavailable:
        return {"unavailable": str(unavailable)}


if __name__ == "__main__":
    answer_all(Actor(sys.argv[1]))
