"""A cluster as its API server shows itself: an issuer of projected tokens, and TokenReview, over https.

It checks what the real one checks: who asks and whether they may, the token's signature, its times, the audiences that
were asked about, and whether the account and the pod that the token names are still there. Its checks share no code
with `forestall.proof`.
"""

from __future__ import annotations

import json
import threading
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import Any, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from forestall.proof.algorithm import Algorithm
from tests.tokens import key, keys, token
from tests.unit.adapter.oidc.site import WAIT_S, Asked, Site

API_SERVER = "https://kubernetes.default.svc"
REVIEWS = "/apis/authentication.k8s.io/v1/tokenreviews"
EXTRA = "authentication.kubernetes.io/"


class Cluster:
    """`reviewer` is our own service account: it may ask for discovery, and for reviews unless `may_review` is off."""

    def __init__(self) -> None:
        self.signer = key(Algorithm.RS256)
        self.pods: dict[str, dict[str, str]] = {}
        self.accounts: dict[str, str] = {}
        self.may_review = True
        self.knows_audiences = True
        self.answers = threading.Event()
        """Off: reviews are taken, and not answered before it is on again."""
        self.answers.set()
        self.site = Site(self._answer)
        self._count = 0

    def __enter__(self) -> Self:
        self.site.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.site.__exit__()

    @property
    def url(self) -> str:
        return self.site.url

    def run(self, namespace: str, account: str, pod: str) -> None:
        self._count += 1
        self.accounts.setdefault(f"{namespace}:{account}", f"account-{self._count}")
        self.pods[f"{namespace}/{pod}"] = {"name": pod, "uid": f"pod-{self._count}", "account": account}

    def delete(self, namespace: str, pod: str) -> None:
        del self.pods[f"{namespace}/{pod}"]

    def project(self, namespace: str, pod: str, audience: str) -> str:
        """What the kubelet puts into the pod."""
        self._count += 1
        found, now = self.pods[f"{namespace}/{pod}"], int(time.time())
        account = found["account"]
        claims = {
            "iss": self.url,
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "aud": [audience],
            "iat": now,
            "nbf": now,
            "exp": now + 3600,
            "jti": f"token-{self._count}",
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": account, "uid": self.accounts[f"{namespace}:{account}"]},
                "pod": {"name": pod, "uid": found["uid"]},
                "node": {"name": "node-1", "uid": "node-uid"},
            },
        }
        return token(claims, self.signer, typ=None)

    def _answer(self, asked: Asked) -> None:
        shown = asked.headers.get("Authorization", "").removeprefix("Bearer ")
        who = self._authenticate(shown, [API_SERVER])
        if who is None:
            return asked.say(b"{}", 401)
        if asked.command == "POST" and asked.path == REVIEWS:
            return self._review(asked) if self.may_review else asked.say(b"{}", 403)
        served = {
            "/.well-known/openid-configuration": {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/openid/v1/jwks",
                "response_types_supported": ["id_token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
            },
            "/openid/v1/jwks": keys(self.signer).to_json(),
        }
        if asked.path not in served:
            return asked.say(b"{}", 404)
        return asked.say(json.dumps(served[asked.path]).encode())

    def _review(self, asked: Asked) -> None:
        assert self.answers.wait(WAIT_S)
        review = json.loads(asked.body)
        assert (review["apiVersion"], review["kind"]) == ("authentication.k8s.io/v1", "TokenReview")
        wanted = review["spec"].get("audiences", [API_SERVER])
        claims = self._authenticate(review["spec"]["token"], wanted)
        status: dict[str, Any] = {"user": {}, "error": "[invalid bearer token, token lookup failed]"}
        if claims is not None:
            bound = claims["kubernetes.io"]
            status = {
                "authenticated": True,
                "user": {
                    "username": claims["sub"],
                    "uid": bound["serviceaccount"]["uid"],
                    "groups": ["system:serviceaccounts", "system:authenticated"],
                    "extra": {
                        EXTRA + "credential-id": [f"JTI={claims['jti']}"],
                        EXTRA + "node-name": [bound["node"]["name"]],
                        EXTRA + "pod-name": [bound["pod"]["name"]],
                        EXTRA + "pod-uid": [bound["pod"]["uid"]],
                    },
                },
            }
            if self.knows_audiences:
                status["audiences"] = [each for each in wanted if each in claims["aud"]]
        asked.say(json.dumps({**review, "metadata": {"creationTimestamp": None}, "status": status}).encode(), 201)

    def _authenticate(self, shown: str, audiences: list[str]) -> Mapping[str, Any] | None:
        try:
            head, body, signature = (urlsafe_b64decode(part + "==") for part in shown.split("."))
            public = self.signer.private.public_key()
            assert isinstance(public, rsa.RSAPublicKey)
            public.verify(signature, shown.rpartition(".")[0].encode(), padding.PKCS1v15(), SHA256())
        except (ValueError, InvalidSignature):
            return None
        claims: dict[str, Any] = json.loads(body)
        bound = claims["kubernetes.io"]
        pod = self.pods.get(f"{bound['namespace']}/{bound['pod']['name']}", {})
        account = self.accounts.get(f"{bound['namespace']}:{bound['serviceaccount']['name']}")
        good = (
            json.loads(head)["alg"] == "RS256"
            and claims["iss"] == self.url
            and claims["nbf"] <= time.time() < claims["exp"]
            and set(audiences) & set(claims["aud"])
            and pod.get("uid") == bound["pod"]["uid"]
            and account == bound["serviceaccount"]["uid"]
        )
        return claims if good else None
