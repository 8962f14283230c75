"""The part of a Kubernetes API server that bound tokens are about: ours, written from its documentation and its API.

Checks who asks and whether a Role lets them, as RBAC does; names, labels and duplicates of Secrets; the account, the
bound object and the seconds of a TokenRequest; and of a token, at each use, its signature, times, audience, and that
its account and its Secret are still there under the same uid. It remembers good tokens, as a real one does for ten
seconds: here for as many requests as it is told. An administrator, who is known by a secret, has every right.
"""

from __future__ import annotations

import base64
import json
import re
import secrets
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from tests.backends.serving import Asked, Refusal, Said, serve

ISSUER = "https://kubernetes.default.svc.cluster.local"
SHORTEST_S, LONGEST_S = 600, 2**32
NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")


@dataclass
class Cluster:
    """`accounts`: `NAMESPACE/NAME` to `rules`, each with `namespace`, `verbs`, `resource` and, at will, `names`."""

    settings: Mapping[str, Any]
    key: rsa.RSAPrivateKey = field(default_factory=lambda: rsa.generate_private_key(65537, 2048))
    uids: dict[str, str] = field(default_factory=dict)
    things: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    """Secrets, by namespace and name."""
    remembers: int = 0
    """For how many further requests a token that was good stays good."""
    remembered: dict[str, int] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.uids = {name: str(uuid.uuid4()) for name in self.settings["accounts"]}

    def __call__(self, asked: Asked) -> Said:
        with self.lock:
            if asked.path.startswith("/-/"):
                return self._administer(asked)
            user = self._require_user(asked)
            if asked.path == "/version":
                return Said(200, {"major": "1", "minor": "34"})
            if asked.path == "/apis/authentication.k8s.io/v1/tokenreviews" and asked.method == "POST":
                return self._review(user, asked)
            found = re.fullmatch(r"/api/v1/namespaces/([^/]+)/serviceaccounts/([^/]+)/token", asked.path)
            if found and asked.method == "POST":
                self._require_right(user, "create", "serviceaccounts/token", found[1], found[2])
                return self._token(found[1], found[2], asked)
            found = re.fullmatch(r"/api/v1/namespaces/([^/]+)/secrets(?:/([^/]+))?", asked.path)
            return self._secrets(user, asked, found[1], found[2]) if found else refuse(404, "NotFound")

    def _administer(self, asked: Asked) -> Said:
        """`/-/token` gives the token of an account; `/-/remember`; `/-/finalizer` keeps a Secret from going."""
        if not self._is_administrator(asked.bearer):
            refuse(404, "NotFound")
        wanted = json.loads(asked.body or b"{}")
        if asked.path == "/-/token":
            claims = self._claims(wanted["account"], [ISSUER], LONGEST_S)
            return Said(200, {"token": self._signed(claims)})
        if asked.path == "/-/remember":
            self.remembers = wanted["requests"]
        elif asked.path == "/-/finalizer":
            self.things[wanted["namespace"], wanted["name"]]["metadata"]["finalizers"] = ["somebody/else"]
        elif asked.path == "/-/reset":
            self.things, self.remembered, self.remembers = {}, {}, 0
        return Said(200, {})

    def _is_administrator(self, bearer: str) -> bool:
        return secrets.compare_digest(bearer, self.settings["administrator"])

    # -- who asks, and whether they may

    def _require_user(self, asked: Asked) -> str:
        """`NAMESPACE/NAME`, or empty for the administrator."""
        if self._is_administrator(asked.bearer):
            return ""
        return str(self._good(asked.bearer, ISSUER)["sub"]).removeprefix("system:serviceaccount:").replace(":", "/")

    def _good(self, token: str, audience: str) -> dict[str, Any]:
        claims: dict[str, Any] = self._verified(token)
        if audience not in claims["aud"] or not claims["nbf"] - 10 <= time.time() < claims["exp"]:
            refuse(401, "Unauthorized")
        if self.remembered.get(token, 0) > 0:
            self.remembered[token] -= 1
            return claims
        own = claims["kubernetes.io"]
        account = f"{own['namespace']}/{own['serviceaccount']['name']}"
        if self.uids.get(account) != own["serviceaccount"]["uid"]:
            refuse(401, "Unauthorized")
        bound = own.get("secret")
        if bound is not None:
            thing = self.things.get((own["namespace"], bound["name"]))
            if thing is None or thing["metadata"]["uid"] != bound["uid"]:
                refuse(401, "Unauthorized")
        self.remembered[token] = self.remembers
        return claims

    def _verified(self, token: str) -> Any:
        try:
            head, body, tail = token.split(".")
            if json.loads(decoded(head)).get("alg") != "RS256":
                refuse(401, "Unauthorized")
            self.key.public_key().verify(decoded(tail), f"{head}.{body}".encode(), padding.PKCS1v15(), SHA256())
            return json.loads(decoded(body))
        except (ValueError, InvalidSignature):
            return refuse(401, "Unauthorized")

    def _require_right(self, user: str, verb: str, resource: str, namespace: str, name: str | None) -> None:
        """As RBAC: a rule that names names does not let anybody list, or create what has no name in its address."""
        if user == "":
            return
        for rule in self.settings["accounts"].get(user, {}).get("rules", []):
            speaks = (rule["namespace"], rule["resource"]) == (namespace, resource) and verb in rule["verbs"]
            if speaks and ("names" not in rule or name in rule["names"]):
                return
        refuse(403, "Forbidden")

    # -- what it does

    def _review(self, user: str, asked: Asked) -> Said:
        self._require_right(user, "create", "tokenreviews", "", None)
        spec = json.loads(asked.body)["spec"]
        try:
            claims = self._good(spec["token"], (spec.get("audiences") or [ISSUER])[0])
        except Refusal:
            return Said(201, {"status": {"authenticated": False}})
        return Said(201, {"status": {"authenticated": True, "user": {"username": claims["sub"]}}})

    def _secrets(self, user: str, asked: Asked, namespace: str, name: str | None) -> Said:
        verb = {"POST": "create", "DELETE": "delete"}.get(asked.method, "get" if name else "list")
        self._require_right(user, verb, "secrets", namespace, name)
        if namespace not in self.settings["namespaces"]:
            refuse(404, "NotFound")
        if verb == "create" and name is None:
            return self._create(namespace, asked)
        if verb == "list":
            return self._list(namespace, asked.query)
        if name is None or (namespace, name) not in self.things:
            refuse(404, "NotFound")
        thing = self.things[namespace, str(name)]
        if verb == "delete" and not thing["metadata"].get("finalizers"):
            del self.things[namespace, str(name)]
            return Said(200, {"kind": "Status", "apiVersion": "v1", "status": "Success", "details": {"name": name}})
        return Said(200, thing)

    def _create(self, namespace: str, asked: Asked) -> Said:
        try:
            thing = json.loads(asked.body)
            metadata = thing["metadata"]
            name, labels = metadata["name"], metadata.get("labels", {})
        except (ValueError, KeyError, TypeError):
            refuse(400, "BadRequest")
        if not NAME.fullmatch(name) or not all(LABEL.fullmatch(value) for value in labels.values()):
            refuse(422, "Invalid")
        if metadata.get("namespace", namespace) != namespace or (thing["apiVersion"], thing["kind"]) != (
            "v1",
            "Secret",
        ):
            refuse(400, "BadRequest")
        if (namespace, name) in self.things:
            refuse(409, "AlreadyExists")
        thing["metadata"] = {**metadata, "namespace": namespace, "uid": str(uuid.uuid4()), "resourceVersion": "1"}
        self.things[namespace, name] = thing
        return Said(201, thing)

    def _list(self, namespace: str, query: Mapping[str, str]) -> Said:
        wanted = dict(part.split("=") for part in query.get("labelSelector", "").split(",") if part)
        found = [
            thing
            for (where, _), thing in sorted(self.things.items())
            if where == namespace and wanted.items() <= thing["metadata"].get("labels", {}).items()
        ]
        start, limit = int(query.get("continue") or 0), int(query.get("limit") or 10_000)
        metadata: dict[str, Any] = {"resourceVersion": "1"}
        if start + limit < len(found):
            metadata["continue"] = str(start + limit)
        return Said(
            200, {"kind": "SecretList", "apiVersion": "v1", "metadata": metadata, "items": found[start : start + limit]}
        )

    def _token(self, namespace: str, name: str, asked: Asked) -> Said:
        account = f"{namespace}/{name}"
        if account not in self.uids:
            refuse(404, "NotFound")
        try:
            spec = json.loads(asked.body)["spec"]
        except (ValueError, KeyError, TypeError):
            refuse(400, "BadRequest")
        seconds = spec.get("expirationSeconds", 3600)
        if type(seconds) is not int or not SHORTEST_S <= seconds <= LONGEST_S:
            refuse(422, "Invalid")
        claims = self._claims(account, spec.get("audiences") or [ISSUER], seconds)
        bound = spec.get("boundObjectRef")
        if bound is not None:
            if (bound.get("apiVersion"), bound.get("kind")) != ("v1", "Secret"):
                refuse(422, "Invalid")
            thing = self.things.get((namespace, bound["name"])) or refuse(404, "NotFound")
            if bound.get("uid", thing["metadata"]["uid"]) != thing["metadata"]["uid"]:
                refuse(409, "Conflict")
            claims["kubernetes.io"]["secret"] = {"name": bound["name"], "uid": thing["metadata"]["uid"]}
        until = datetime.fromtimestamp(claims["exp"], UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        status = {"token": self._signed(claims), "expirationTimestamp": until}
        return Said(
            201, {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": spec, "status": status}
        )

    def _claims(self, account: str, audiences: list[str], seconds: int) -> dict[str, Any]:
        namespace, name = account.split("/")
        now = int(time.time())
        return {
            "iss": ISSUER,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "aud": audiences,
            "iat": now,
            "nbf": now,
            "exp": now + seconds,
            "jti": str(uuid.uuid4()),
            "kubernetes.io": {"namespace": namespace, "serviceaccount": {"name": name, "uid": self.uids[account]}},
        }

    def _signed(self, claims: Mapping[str, Any]) -> str:
        signed = f"{encoded({'alg': 'RS256', 'kid': 'one'})}.{encoded(claims)}"
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), SHA256())
        return f"{signed}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def refuse(status: int, reason: str) -> Any:
    raise Refusal(Said(status, {"kind": "Status", "status": "Failure", "reason": reason, "code": status}))


def encoded(part: Mapping[str, Any]) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


if __name__ == "__main__":
    serve(Cluster)
