"""The part of a Kubernetes API server that identity is about, over HTTPS, in a process of its own.

It is not Kubernetes: no other program's code runs here. What it serves is what a real one serves (discovery, JWKS and
TokenReview, to those who may ask), its tokens have the real ones' claims, and it checks what a real one checks: who
asks, and whether they may; the token's key, signature, issuer, times and audience; and that the account, the pod and
the node that it is bound to are still there, under the very uids. It shares no code with Forestall.

What `kubectl` and the kubelet would do is asked by lines of JSON on its input: `start`, `run`, `delete`, `project`,
`forbid`, `rotate`.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.hashes import SHA256

from interop.https import Answer, Site, run
from interop.tokens import Signer, decoded

OWN_AUDIENCE = "https://kubernetes.default.svc.cluster.local"
"""`--api-audiences`: of whoever asks the API server for something."""

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
DISCOVERY, JWKS = "/.well-known/openid-configuration", "/openid/v1/jwks"
EXTRA = "authentication.kubernetes.io/"
LEAST_S = 600
"""Seconds that a projected token lives at the least (TokenRequestSpec.expirationSeconds)."""


@dataclass(frozen=True)
class Thing:
    """An object of the cluster: whoever has its name later has another uid."""

    name: str
    uid: str = field(default_factory=lambda: str(uuid.uuid4()))

    def json(self) -> dict[str, str]:
        return {"name": self.name, "uid": self.uid}


@dataclass(frozen=True)
class Pod:
    itself: Thing
    account: str
    node: Thing


class Refused(Exception):
    """A token that does not count; says why, as the real one's log would."""


class Cluster(Site):
    def __init__(self) -> None:
        self.signers = [Signer()]
        self.node = Thing("node-1")
        self.accounts: dict[tuple[str, str], Thing] = {}
        self.pods: dict[tuple[str, str], Pod] = {}
        self.reviewers: set[str] = set()
        """Accounts that are bound to `system:auth-delegator`."""

    # -- what kubectl and the kubelet do

    def ask_run(self, namespace: str, account: str, pod: str, reviewer: bool = False) -> dict[str, Any]:
        """A pod, and its account where there is none yet."""
        self.accounts.setdefault((namespace, account), Thing(account))
        self.pods[namespace, pod] = Pod(Thing(pod), account, self.node)
        if reviewer:
            self.reviewers.add(f"system:serviceaccount:{namespace}:{account}")
        return {"uid": self.pods[namespace, pod].itself.uid}

    def ask_delete(self, namespace: str, pod: str = "", account: str = "") -> dict[str, Any]:
        if pod:
            del self.pods[namespace, pod]
        if account:
            del self.accounts[namespace, account]
        return {}

    def ask_forbid(self) -> dict[str, Any]:
        """Nobody may ask for reviews any more."""
        self.reviewers.clear()
        return {}

    def ask_rotate(self) -> dict[str, Any]:
        """Another key signs from now on; the old one counts beside it."""
        self.signers.insert(0, Signer())
        return {"kid": self.signers[0].kid}

    def ask_project(
        self, namespace: str, pod: str, file: str, audience: str = "", expires_s: int = LEAST_S
    ) -> dict[str, Any]:
        """A fresh token into the pod's file, as the kubelet writes it: at once, or not at all."""
        found = self.pods[namespace, pod]
        account, now = self.accounts[namespace, found.account], int(time.time())
        claims = {
            "aud": [audience or OWN_AUDIENCE],
            "exp": now + max(expires_s, LEAST_S),
            "iat": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {
                "namespace": namespace,
                "node": found.node.json(),
                "pod": found.itself.json(),
                "serviceaccount": account.json(),
            },
            "nbf": now,
            "sub": f"system:serviceaccount:{namespace}:{found.account}",
        }
        partial = Path(f"{file}.{secrets.token_hex(4)}")
        partial.write_text(self.signers[0].sign(claims))
        partial.rename(file)
        return {}

    # -- what it serves

    def get(self, path: str, bearer: str) -> Answer:
        if self._who(bearer) is None:
            return 401, {"kind": "Status", "reason": "Unauthorized"}
        served = {DISCOVERY: self.discovery, JWKS: self.jwks}
        return (200, served[path]()) if path in served else (404, {"kind": "Status", "reason": "NotFound"})

    def post(self, path: str, bearer: str, document: Any) -> Answer:
        who = self._who(bearer)
        if who is None:
            return 401, {"kind": "Status", "reason": "Unauthorized"}
        if path != REVIEWS:
            return 404, {"kind": "Status", "reason": "NotFound"}
        if who not in self.reviewers:
            return 403, {"kind": "Status", "reason": "Forbidden"}
        if (document.get("apiVersion"), document.get("kind")) != ("authentication.k8s.io/v1", "TokenReview"):
            return 400, {"kind": "Status", "reason": "BadRequest"}
        return 201, self.review(document)

    def _who(self, bearer: str) -> str | None:
        try:
            return str(self.authenticate(bearer, [OWN_AUDIENCE])["sub"])
        except Refused:
            return None

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}{JWKS}",
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    def jwks(self) -> dict[str, Any]:
        return {"keys": [each.jwk for each in self.signers]}

    def review(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        wanted = asked["spec"].get("audiences") or [OWN_AUDIENCE]
        status: dict[str, Any]
        try:
            claims = self.authenticate(asked["spec"]["token"], wanted)
        except Refused as refused:
            status = {"user": {}, "error": f"[invalid bearer token, {refused}]"}
        else:
            status = {
                "authenticated": True,
                "user": self.user(claims),
                "audiences": [each for each in wanted if each in claims["aud"]],
            }
        return {**asked, "metadata": {"creationTimestamp": None}, "status": status}

    @staticmethod
    def user(claims: Mapping[str, Any]) -> dict[str, Any]:
        bound = claims["kubernetes.io"]
        extra = {"credential-id": f"JTI={claims['jti']}"}
        for kind in ("node", "pod"):
            extra |= {f"{kind}-name": bound[kind]["name"], f"{kind}-uid": bound[kind]["uid"]}
        return {
            "username": claims["sub"],
            "uid": bound["serviceaccount"]["uid"],
            "groups": [
                "system:serviceaccounts",
                f"system:serviceaccounts:{bound['namespace']}",
                "system:authenticated",
            ],
            "extra": {f"{EXTRA}{name}": [value] for name, value in extra.items()},
        }

    def authenticate(self, token: str, audiences: list[str]) -> Mapping[str, Any]:
        """Raises Refused."""
        claims = self._verified(token)
        now = time.time()
        if claims.get("iss") != self.issuer:
            raise Refused("another issuer")
        if not claims["nbf"] <= now < claims["exp"]:
            raise Refused("service account token has expired")
        if not set(audiences) & set(claims["aud"]):
            raise Refused(f"token audiences {claims['aud']} is invalid for the target audiences {audiences}")
        self._require_there(claims)
        return claims

    def _verified(self, token: str) -> dict[str, Any]:
        try:
            head, body, signature = map(decoded, token.split("."))
            header = json.loads(head)
            signer = next(each for each in self.signers if each.kid == header["kid"] and header["alg"] == "RS256")
            signed = token.rpartition(".")[0].encode()
            signer.key.public_key().verify(signature, signed, padding.PKCS1v15(), SHA256())
            claims: dict[str, Any] = json.loads(body)
        except (ValueError, KeyError, StopIteration, InvalidSignature):
            raise Refused("failed to validate any token") from None
        return claims

    def _require_there(self, claims: Mapping[str, Any]) -> None:
        """What the token is bound to is what it was, and not only of that name."""
        bound = claims["kubernetes.io"]
        namespace, name = bound["namespace"], bound["serviceaccount"]["name"]
        account, pod = self.accounts.get((namespace, name)), self.pods.get((namespace, bound["pod"]["name"]))
        if claims["sub"] != f"system:serviceaccount:{namespace}:{name}":
            raise Refused("the subject is another account")
        if account is None or account.uid != bound["serviceaccount"]["uid"]:
            raise Refused("service account has been deleted, or is another")
        if pod is None or pod.itself.uid != bound["pod"]["uid"] or pod.account != name:
            raise Refused("pod has been deleted, or is another")
        if self.node.uid != bound["node"]["uid"]:
            raise Refused("node is another")


if __name__ == "__main__":
    run(Cluster())
