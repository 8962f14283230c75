"""GitHub Actions as a job sees it: an address to ask for a token, and the issuer that others check it by.

It is not GitHub: its tokens have the real one's claims and header, in both shapes of subject, and whoever asks for one
needs the job's own request token.
"""

from __future__ import annotations

import secrets
import time
import uuid
from typing import Any
from urllib.parse import parse_qs, urlsplit

from interop.https import Answer, Site, run
from interop.tokens import Signer

LIFE_S = 300


class GitHub(Site):
    def __init__(self) -> None:
        self.signer = Signer()
        self.jobs: dict[str, dict[str, Any]] = {}
        """By request token."""

    def ask_job(self, **claims: str) -> dict[str, Any]:
        """A job that may ask for tokens: `permissions: id-token: write`."""
        token, run_id = secrets.token_urlsafe(32), str(secrets.randbelow(10**10))
        self.jobs[token] = {"run_id": run_id, "run_attempt": "1", **claims}
        address = f"{self.issuer}/pipelines/idtoken?api-version=2.0"
        return {"ACTIONS_ID_TOKEN_REQUEST_TOKEN": token, "ACTIONS_ID_TOKEN_REQUEST_URL": address}

    def get(self, path: str, bearer: str) -> Answer:
        parts = urlsplit(path)
        if parts.path == "/.well-known/openid-configuration":
            return 200, {
                "issuer": self.issuer,
                "jwks_uri": f"{self.issuer}/.well-known/jwks",
                "subject_types_supported": ["public", "pairwise"],
                "response_types_supported": ["id_token"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "scopes_supported": ["openid"],
            }
        if parts.path == "/.well-known/jwks":
            return 200, {"keys": [self.signer.jwk]}
        if parts.path != "/pipelines/idtoken" or bearer not in self.jobs:
            return 401, {}
        return 200, {"value": self._token(self.jobs[bearer], parse_qs(parts.query)["audience"][0])}

    def _token(self, claims: dict[str, Any], audience: str) -> str:
        now = int(time.time())
        times = {"iat": now, "nbf": now - 5, "exp": now + LIFE_S}
        said = {"iss": self.issuer, "aud": audience, "jti": str(uuid.uuid4()), **times, **claims}
        return self.signer.sign(said, typ="JWT", x5t=self.signer.kid[:27])


if __name__ == "__main__":
    run(GitHub())
