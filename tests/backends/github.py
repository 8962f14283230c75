"""A GitHub of ours with two installations, and the app's key."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from tests.backends.process import Answer, Backend

APP, INSTALLATION, ADMINISTRATOR = "Iv23liFORESTALL", 17, "administrator-of-the-test"

CLASS = """\
api = "{url}"
app = "Iv23liFORESTALL"
private_key_file = "app.pem"
installation = 17
account = "acme"
repositories = {repositories}
[credentials.under-test.permissions]
contents = "write"
issues = "write"
"""


@cache
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def key_pem(private: rsa.RSAPrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())


def write_key(folder: Path, private: rsa.RSAPrivateKey | None = None) -> Path:
    file = folder / "app.pem"
    file.touch(0o600)
    file.write_bytes(key_pem(private or key()))
    return file


def assertion(private: rsa.RSAPrivateKey | None = None, *, header: Any = None, **changes: Any) -> str:
    """The app's, as GitHub's documentation describes it. None takes a claim out."""
    now = int(time.time())
    claims = {"iat": now - 60, "exp": now + 500, "iss": APP, **changes}
    kept = {name: value for name, value in claims.items() if value is not None}
    signed = ".".join(encoded(json.dumps(part).encode()) for part in (header or {"alg": "RS256", "typ": "JWT"}, kept))
    return f"{signed}.{encoded((private or key()).sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class GitHubBackend(Backend):
    def create(self, assertion: str, body: Any = None, *, installation: int = INSTALLATION) -> Answer:
        """A token of somebody's who has the app's key."""
        return self.ask("POST", f"/app/installations/{installation}/access_tokens", body, bearer=assertion)

    def tokens(self) -> list[dict[str, Any]]:
        """Every one that is alive, as the administrator sees it."""
        said = self.ask("GET", "/-/tokens", bearer=ADMINISTRATOR)
        assert said.status == 200
        assert isinstance(said.body, list)
        return said.body

    def reset(self) -> None:
        assert self.ask("POST", "/-/reset", {}, bearer=ADMINISTRATOR).status == 200

    def limit(self, status: int, message: str = "slow down", **headers: str) -> None:
        """The next request is answered like this."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        said = {"status": status, "message": message, "headers": given}
        assert self.ask("POST", "/-/limit", said, bearer=ADMINISTRATOR).status == 200

    def read(self, token: str, repository: str = "acme/shop") -> Answer:
        return self.ask("GET", f"/repos/{repository}/contents/README.md", bearer=token)

    def write(self, token: str, repository: str = "acme/shop") -> Answer:
        return self.ask("PUT", f"/repos/{repository}/contents/README.md", {"content": "eA=="}, bearer=token)


@contextmanager
def github() -> Iterator[GitHubBackend]:
    public = key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    permissions = {"contents": "write", "issues": "write", "metadata": "read", "administration": "read"}
    settings = {
        "administrator": ADMINISTRATOR,
        "app": APP,
        "public_key": public,
        "installations": {
            "17": {"account": "acme", "repositories": ["shop", "docs", "secrets"], "permissions": permissions},
            "18": {"account": "rival", "repositories": ["shop"], "permissions": permissions},
        },
    }
    with GitHubBackend("github_server", settings) as backend:
        yield backend
