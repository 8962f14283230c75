"""The real authorization server of somebody else's system, and the resource server that takes its tokens."""

from __future__ import annotations

import base64
import http.client
import json
import subprocess
from contextlib import closing
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote_plus, urlencode, urlsplit

from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from forestall.core.model import Secret
from forestall.proof.algorithm import Algorithm
from forestall.proof.jwk import SigningKey
from tests.identity.provider import HERE, WAIT_S, private_jwk
from tests.tokens import key

CRM = "https://crm.example"
FORESTALL = "https://forestall.example"
SECRET = "a secret: 100%+ of its own kind"

CLIENT = key(Algorithm.ES256, "our key as a client")
OWN = key(Algorithm.ES256, "the server's own")
WORDS = key(Algorithm.EDDSA, "our key for words about tasks")

FRESH: dict[str, Any] = {"nonce": False, "ttl": 40, "format": "opaque", "refresh": False}

ASSERTION = '{ issuer = "https://forestall.example", key_file = "words.pem" }'

NONE = ", ".join(f"{effect} = []" for effect in ("external", "destructive", "execute", "credential", "privilege"))

CLASS = {
    "grant": '"client_credentials"',
    "resource": '["https://crm.example"]',
    "introspect": "true",
    "scopes": f'{{ read = ["crm.read"], write = ["crm.write"], {NONE} }}',
    "client": '{ id = "forestall", key_file = "client.pem" }',
}


def written(**given: str) -> str:
    """The class as TOML, with these values; one that is empty is left out."""
    return "".join(f"{name} = {value}\n" for name, value in {**CLASS, **given}.items() if value)


def pem(signing: SigningKey) -> bytes:
    return signing.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_files(folder: Path) -> None:
    for name, data in {"client.pem": pem(CLIENT), "words.pem": pem(WORDS), "secret": SECRET.encode()}.items():
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(data)


class Upstream:
    """Runs from `start` until it is stopped."""

    def __init__(self, log: Path, words: SigningKey = WORDS, speaker: str = FORESTALL) -> None:
        """`words`, `speaker`: whose words about tasks it believes, and what they call themselves."""
        self._log, self._words, self._speaker = log, words, speaker
        self._process: subprocess.Popen[str] | None = None
        self.issuer = ""

    def start(self) -> Self:
        """As new. One that runs already goes on as it is, but for what `set` made it do."""
        if self._process is not None:
            self.set(**FRESH)
            return self
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["node", "upstream.mjs"], cwd=HERE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        settings = {
            "keys": [private_jwk(OWN)],
            "client_key": CLIENT.public.to_json(),
            "forestall": {"keys": [self._words.public.to_json()]},
            "forestall_issuer": self._speaker,
            "secret": SECRET,
        }
        self.issuer = self._tell(settings)["issuer"]
        return self

    @property
    def port(self) -> int:
        return urlsplit(self.issuer).port or 0

    def stop(self) -> None:
        """At once, as a machine that fails. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=WAIT_S)
        self._process = None

    def set(self, **settings: object) -> None:
        """`nonce`: demand one; `ttl`: seconds that a token lives; `format`; `refresh`: give such a token as well."""
        self._tell(settings)

    def told(self, token: str) -> dict[str, Any]:
        """What the server says of a token to the resource server."""
        return self.post("/token/introspection", {"token": token}, "crm", SECRET)[1]

    def works(self, secret: Secret) -> bool:
        """The resource server lets its holder read."""
        told = self.told(secret.fields["token"])
        return told["active"] is True and "crm.read" in told["scope"].split(" ") and told["aud"] == CRM

    def post(self, path: str, form: dict[str, str], client: str = "", secret: str = "") -> tuple[int, Any]:
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if client:
            pair = f"{quote_plus(client)}:{quote_plus(secret)}".encode()
            headers["Authorization"] = f"Basic {base64.b64encode(pair).decode()}"
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)) as connection:
            connection.request("POST", path, body=urlencode(form), headers=headers)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if data else None

    def _tell(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        answer: dict[str, Any] = json.loads(line)
        return answer
