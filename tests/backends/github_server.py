"""GitHub's REST API, as far as installation tokens go: ours, written from its documentation.

Checks what GitHub checks of an app's assertion, of what is asked for against what was installed, and of a token at each
use. An administrator, who is known by a secret, sees every token that is alive, and sets limits on the rate.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from tests.backends.serving import Asked, Refusal, Said, serve

LEVELS = {"read": 1, "write": 2, "admin": 3}
LIFE_S = 3600
LONGEST_ASSERTION_S = 600
SKEW_S = 10


@dataclass(frozen=True)
class Token:
    installation: int
    repositories: frozenset[str]
    """`owner/name`"""
    permissions: Mapping[str, str]
    expires_at: float


@dataclass
class GitHub:
    """`installations`: by number, `account`, `repositories` (names) and `permissions`, as its owner accepted them."""

    settings: Mapping[str, Any]
    tokens: dict[str, Token] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    limits: list[Said] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, asked: Asked) -> Said:
        with self.lock:
            if asked.path.startswith("/-/"):
                return self._administer(asked)
            if not asked.headers.get("user-agent"):
                refuse(
                    403, "Request forbidden by administrative rules. Please make sure your request has a User-Agent."
                )
            if self.limits:
                return self.limits.pop(0)
            found = re.fullmatch(r"/app/installations/([0-9]+)/access_tokens", asked.path)
            if found and asked.method == "POST":
                return self._create(int(found[1]), asked)
            token = self._require_token(asked)
            if (asked.method, asked.path) == ("DELETE", "/installation/token"):
                del self.tokens[asked.bearer]
                return Said(204)
            if (asked.method, asked.path) == ("GET", "/rate_limit"):
                return Said(200, {"resources": {}, "rate": {"limit": 5000, "remaining": 4999}})
            found = re.fullmatch(r"/repos/([^/]+/[^/]+)/contents/([^/]+)", asked.path)
            return self._contents(token, asked, found[1], found[2]) if found else refuse(404, "Not Found")

    def _administer(self, asked: Asked) -> Said:
        if not secrets.compare_digest(asked.bearer, self.settings["administrator"]):
            refuse(404, "Not Found")
        if asked.path == "/-/limit":
            said = json.loads(asked.body)
            self.limits.append(Said(said["status"], {"message": said["message"]}, said["headers"]))
            return Said(200, {})
        if asked.path == "/-/reset":
            self.tokens, self.files, self.limits = {}, {}, []
            return Said(200, {})
        self._expire()
        living = [
            {"token": token, "repositories": sorted(each.repositories), "permissions": dict(each.permissions)}
            for token, each in self.tokens.items()
        ]
        return Said(200, living)

    def _expire(self) -> None:
        now = time.time()
        self.tokens = {token: each for token, each in self.tokens.items() if each.expires_at > now}

    def _create(self, number: int, asked: Asked) -> Said:
        self._require_app(asked.bearer)
        installation = self.settings["installations"].get(str(number)) or refuse(404, "Not Found")
        try:
            wanted = json.loads(asked.body or b"{}")
        except ValueError:
            refuse(400, "Problems parsing JSON")
        # as GitHub does: what is not said is everything
        names = wanted.get("repositories") or installation["repositories"]
        permissions = wanted.get("permissions") or installation["permissions"]
        if not all(isinstance(name, str) for name in names) or not set(names) <= set(installation["repositories"]):
            refuse(
                422, "There is at least one repository that does not exist or is not accessible to the installation."
            )
        for name, level in permissions.items():
            if LEVELS.get(level, 9) > LEVELS.get(installation["permissions"].get(name, ""), 0):
                refuse(422, "The permissions requested are not granted to this installation.")
        return self._created(number, installation, names, {**permissions, "metadata": "read"}, chosen=bool(wanted))

    def _created(
        self,
        number: int,
        installation: Mapping[str, Any],
        names: list[str],
        permissions: Mapping[str, str],
        *,
        chosen: bool,
    ) -> Said:
        token, until = f"ghs_{secrets.token_hex(18)}", int(time.time()) + LIFE_S
        whole = {name: f"{installation['account']}/{name}" for name in names}
        self.tokens[token] = Token(number, frozenset(whole.values()), permissions, until)
        repositories = [
            {"id": at, "name": name, "full_name": whole[name], "private": True} for at, name in enumerate(whole)
        ]
        answer: dict[str, Any] = {
            "token": token,
            "expires_at": datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "permissions": permissions,
            "repository_selection": "selected" if chosen else "all",
        }
        return Said(201, answer | {"repositories": repositories} if chosen else answer)

    def _require_app(self, assertion: str) -> None:
        """RS256 by the registered key, `iss` the app, begun, not ended, and of at most ten minutes."""
        try:
            head, body, tail = assertion.split(".")
            header, claims = json.loads(decoded(head)), json.loads(decoded(body))
            key = load_pem_public_key(self.settings["public_key"].encode())
            assert isinstance(key, rsa.RSAPublicKey)
            key.verify(decoded(tail), f"{head}.{body}".encode(), padding.PKCS1v15(), SHA256())
        except (ValueError, InvalidSignature):
            refuse(401, "A JSON web token could not be decoded")
        now = time.time()
        if header.get("alg") != "RS256" or str(claims.get("iss")) != self.settings["app"]:
            refuse(401, "A JSON web token could not be decoded")
        if type(claims.get("iat")) is not int or claims["iat"] > now + SKEW_S:
            refuse(401, "'Issued at' claim ('iat') must be an Integer representing the time that it was issued")
        if type(claims.get("exp")) is not int or claims["exp"] <= now:
            refuse(401, "'Expiration time' claim ('exp') must be a numeric value representing the future time")
        if claims["exp"] > now + LONGEST_ASSERTION_S + SKEW_S:
            refuse(401, "'Expiration time' claim ('exp') is too far in the future")

    def _require_token(self, asked: Asked) -> Token:
        self._expire()
        return self.tokens.get(asked.bearer) or refuse(401, "Bad credentials")

    def _contents(self, token: Token, asked: Asked, repository: str, name: str) -> Said:
        if repository not in token.repositories:
            refuse(404, "Not Found")  # as for one that does not exist
        needed = "read" if asked.method == "GET" else "write"
        if LEVELS.get(token.permissions.get("contents", ""), 0) < LEVELS[needed]:
            refuse(403, "Resource not accessible by integration")
        place = f"{repository}/{name}"
        if asked.method == "PUT":
            self.files[place] = json.loads(asked.body)["content"]
            return Said(201, {"content": {"path": name}})
        return Said(200, {"path": name, "content": self.files.get(place, "")})


def refuse(status: int, message: str) -> Any:
    raise Refusal(Said(status, {"message": message, "documentation_url": "https://docs.github.com/rest"}))


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


if __name__ == "__main__":
    serve(GitHub)
