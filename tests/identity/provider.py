"""The real provider as a process: started, told what to get wrong, stopped and started again, and always gone after."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from forestall.proof.algorithm import Algorithm
from forestall.proof.client_assertion import ASSERTION_TYPE, make_assertion
from forestall.proof.encoding import encode
from forestall.proof.jwk import SigningKey
from forestall.testing.ports import free_port

HERE = Path(__file__).parent

WAIT_S = 60
"""Seconds after which something that has to happen has failed to; nothing waits for it to pass."""

CALLBACK = "https://front-end.example/callback"

AUDIENCE = "https://forestall.example"


def private_jwk(key: SigningKey) -> dict[str, str]:
    """As the provider wants its keys."""
    members = {**key.public.bare(), "kid": key.public.kid or "", "use": "sig", "alg": key.algorithm.value}
    private = key.private
    if isinstance(private, rsa.RSAPrivateKey):
        numbers = private.private_numbers()
        named = {"d": numbers.d, "p": numbers.p, "q": numbers.q, "dp": numbers.dmp1, "dq": numbers.dmq1}
        whole = {**named, "qi": numbers.iqmp}
        return members | {name: encode(n.to_bytes((n.bit_length() + 7) // 8, "big")) for name, n in whole.items()}
    if isinstance(private, ec.EllipticCurvePrivateKey):
        size = (private.key_size + 7) // 8
        return {**members, "d": encode(private.private_numbers().private_value.to_bytes(size, "big"))}
    assert isinstance(private, ed25519.Ed25519PrivateKey)
    return {**members, "d": encode(private.private_bytes_raw())}


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    cookies: Mapping[str, str]
    body: str

    @property
    def json(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.body)
        return document


@dataclass
class Provider:
    """`keys`: its own, the first signs. `client`: the key that the client `billing-agent` signs its assertions with."""

    keys: tuple[SigningKey, ...]
    client: SigningKey
    log: Path
    algorithm: Algorithm = Algorithm.RS256
    port: int = field(default_factory=free_port)
    """The same after a restart, while nobody else is given it."""
    issuer: str = ""
    _process: subprocess.Popen[str] | None = field(default=None, repr=False)

    def start(self) -> Self:
        """Again, too, and where it was before."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["node", "provider.mjs"],
                cwd=HERE,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        settings = {
            "port": self.port,
            "keys": [private_jwk(each) for each in self.keys],
            "client_key": self.client.public.to_json(),
            "algorithm": self.algorithm.value,
        }
        self.issuer = self._tell(settings)["issuer"]
        return self

    def stop(self) -> None:
        """At once, as a machine that fails. May be called twice."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=WAIT_S)
        self._process = None

    def hang_up(self) -> int:
        """As when the process that started it is gone. Its exit code."""
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        process, self._process = self._process, None
        with process.stdin, process.stdout:
            process.stdin.close()
            return process.wait(WAIT_S)

    def reset(self, *keys: SigningKey) -> None:
        """As it was when it started with these keys."""
        if self._process is None:
            self.start()
        self.keys = keys
        self._tell({"do": "reset", "keys": [private_jwk(each) for each in keys]})

    def mode(self, name: str) -> None:
        self._tell({"do": "mode", "name": name})

    def rotate(self, *keys: SigningKey) -> None:
        self.keys = keys
        self._tell({"do": "keys", "keys": [private_jwk(each) for each in keys]})

    def asked(self, path: str = "/jwks") -> int:
        """How often."""
        count: int = self._tell({"do": "counts"}).get(path, 0)
        return count

    def workload_token(self, *, now: int, jti: str, resource: str = AUDIENCE, scope: str | None = "identity") -> str:
        """An access token for `billing-agent`, who shows an assertion of ours."""
        answer = self.token(self.assertion(now=now, jti=jti), resource=resource, scope=scope)
        assert answer.status == 200, answer.body
        token: str = answer.json["access_token"]
        return token

    def assertion(self, *, now: int, jti: str) -> str:
        return make_assertion(self.client, client="billing-agent", audience=self.issuer, now=now, jti=jti)

    def token(self, assertion: str, *, resource: str = AUDIENCE, scope: str | None = "identity") -> Answer:
        fields = {
            "grant_type": "client_credentials",
            "client_id": "billing-agent",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
            "resource": resource,
        }
        return self.post("/token", fields | ({} if scope is None else {"scope": scope}))

    def sign_in(self, user: str, *, nonce: str) -> tuple[str, str]:
        """What a browser would do: an ID token, and the access token that came with it."""
        verifier = "v" * 43
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        asked = {
            "client_id": "front-end",
            "response_type": "code",
            "redirect_uri": CALLBACK,
            "scope": "openid",
            "nonce": nonce,
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        cookies: dict[str, str] = {}
        place = f"/auth?{urlencode(asked)}"
        for _ in range(12):
            answer = self.ask("GET", place, cookies=cookies)
            cookies |= answer.cookies
            if answer.status == 200:  # a page: sign in, then consent
                prompt = re.search(r'name="prompt" value="(\w+)"', answer.body)
                assert prompt is not None, answer.body
                answer = self.post(place, {"prompt": prompt[1], "login": user, "password": "any"}, cookies=cookies)
                cookies |= answer.cookies
            assert answer.status in {302, 303}, answer.body
            place = answer.headers["Location"].removeprefix(self.issuer)
            if place.startswith(CALLBACK):
                break
        code = parse_qs(urlsplit(place).query)["code"][0]
        given = {"grant_type": "authorization_code", "client_id": "front-end", "code": code, "redirect_uri": CALLBACK}
        answer = self.post("/token", given | {"code_verifier": verifier})
        assert answer.status == 200, answer.body
        return answer.json["id_token"], answer.json["access_token"]

    def post(self, path: str, fields: Mapping[str, str], *, cookies: Mapping[str, str] | None = None) -> Answer:
        return self.ask("POST", path, body=urlencode(fields), cookies=cookies or {})

    def ask(self, method: str, path: str, *, body: str | None = None, cookies: Mapping[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        try:
            connection.request(method, path, body=body, headers=headers)
            answer = connection.getresponse()
            baked = SimpleCookie()
            for line in answer.headers.get_all("Set-Cookie") or []:
                baked.load(line)
            kept = {name: morsel.value for name, morsel in baked.items()}
            return Answer(answer.status, dict(answer.headers), kept, answer.read().decode())
        finally:
            connection.close()

    def _tell(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self.log.read_text()
        answer: dict[str, Any] = json.loads(line)
        return answer
