"""The part of a Kubernetes API server that identity is about, over HTTPS, in a process of its own.

It is not Kubernetes: no other program's code runs here. What it serves is what a real one serves (discovery, JWKS and
TokenReview, to those who may ask), its tokens have the real ones' claims, and it checks what a real one checks: who
asks, and whether they may; the token's key, signature, issuer, times and audience; and that the account, the pod and
the node that it is bound to are still there, under the very uids. It shares no code with Forestall.

What `kubectl` and the kubelet would do is asked by lines of JSON on its input: `start`, `run`, `delete`, `project`,
`forbid`, `rotate`.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import ssl
import sys
import threading
import time
import uuid
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

OWN_AUDIENCE = "https://kubernetes.default.svc.cluster.local"
"""`--api-audiences`: of whoever asks the API server for something."""

REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
DISCOVERY, JWKS = "/.well-known/openid-configuration", "/openid/v1/jwks"
EXTRA = "authentication.kubernetes.io/"
LEAST_S = 600
"""Seconds that a projected token lives at the least (TokenRequestSpec.expirationSeconds)."""

MAX_BODY = 3 * 1024 * 1024
"""Bytes, as the real one has it."""


def encoded(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decoded(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


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


class Signer:
    """A key of the issuer's; `kid` as the real one makes it."""

    def __init__(self) -> None:
        self.key = rsa.generate_private_key(65537, 2048)
        public = self.key.public_key()
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        self.kid = encoded(hashlib.sha256(der).digest())
        numbers = public.public_numbers()
        self.jwk = {
            "use": "sig",
            "kty": "RSA",
            "kid": self.kid,
            "alg": "RS256",
            "n": number(numbers.n),
            "e": number(numbers.e),
        }

    def sign(self, claims: Mapping[str, Any]) -> str:
        parts = [encoded(json.dumps(each).encode()) for each in ({"alg": "RS256", "kid": self.kid}, claims)]
        signed = ".".join(parts)
        return f"{signed}.{encoded(self.key.sign(signed.encode(), padding.PKCS1v15(), SHA256()))}"


class Refused(Exception):
    """A token that does not count; says why, as the real one's log would."""


class Cluster:
    def __init__(self) -> None:
        self.issuer = ""
        self.signers = [Signer()]
        self.node = Thing("node-1")
        self.accounts: dict[tuple[str, str], Thing] = {}
        self.pods: dict[tuple[str, str], Pod] = {}
        self.reviewers: set[str] = set()
        """Accounts that are bound to `system:auth-delegator`."""
        self.lock = threading.Lock()

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


class Handler(BaseHTTPRequestHandler):
    """One request: who asks is authenticated, then authorized, then answered."""

    protocol_version = "HTTP/1.1"
    cluster: ClassVar[Cluster]

    def do_GET(self) -> None:
        with self.cluster.lock:
            served = {DISCOVERY: self.cluster.discovery, JWKS: self.cluster.jwks}
            if self._who() is None:
                self._say(401, {"kind": "Status", "reason": "Unauthorized"})
            elif self.path not in served:
                self._say(404, {"kind": "Status", "reason": "NotFound"})
            else:
                self._say(200, served[self.path]())

    def do_POST(self) -> None:
        body = self.rfile.read(min(int(self.headers["Content-Length"]), MAX_BODY))
        with self.cluster.lock:
            who = self._who()
            if who is None:
                self._say(401, {"kind": "Status", "reason": "Unauthorized"})
            elif self.path != REVIEWS:
                self._say(404, {"kind": "Status", "reason": "NotFound"})
            elif who not in self.cluster.reviewers:
                self._say(403, {"kind": "Status", "reason": "Forbidden"})
            else:
                asked = json.loads(body)
                good = (asked.get("apiVersion"), asked.get("kind")) == ("authentication.k8s.io/v1", "TokenReview")
                self._say(*((201, self.cluster.review(asked)) if good else (400, {"kind": "Status"})))

    def log_message(self, *_: Any) -> None: ...

    def _who(self) -> str | None:
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        try:
            claims = self.cluster.authenticate(token, [OWN_AUDIENCE]) if kind == "Bearer" else {}
        except Refused:
            return None
        return claims.get("sub")

    def _say(self, status: int, document: Mapping[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    certificate, key = sys.argv[1:]
    cluster = Cluster()
    Handler.cluster = cluster
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    cluster.issuer = f"https://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for line in sys.stdin:
        asked = json.loads(line)
        with cluster.lock:
            name = asked.pop("ask")
            answer = {"issuer": cluster.issuer} if name == "start" else getattr(cluster, f"ask_{name}")(**asked)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
