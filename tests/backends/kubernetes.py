"""A cluster of ours, with Forestall's own account under the role that its page asks for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.backends.process import Answer, Backend

ADMINISTRATOR = "administrator-of-the-test"
NAMESPACE = "agents"

ROLE = [
    {"namespace": NAMESPACE, "resource": "secrets", "verbs": ["create", "delete", "list"]},
    {"namespace": NAMESPACE, "resource": "serviceaccounts/token", "verbs": ["create"], "names": ["viewer", "editor"]},
]
"""As in docs/credentials/kubernetes.md."""

READS = [{"namespace": "shop", "resource": "secrets", "verbs": ["get", "list"]}]
WRITES = [{"namespace": "shop", "resource": "secrets", "verbs": ["get", "list", "create", "delete"]}]

CLASS = """\
api = "{url}"
token_file = "own-token"
namespace = "agents"
{more}
[credentials.under-test.service_accounts]
read = "viewer"
write = "editor"
"""


class KubernetesBackend(Backend):
    def administer(self, method: str, path: str, body: Any = None) -> Answer:
        return self.ask(method, path, body, bearer=ADMINISTRATOR)

    def reset(self) -> None:
        assert self.administer("POST", "/-/reset").status == 200

    def remember(self, requests: int) -> None:
        assert self.administer("POST", "/-/remember", {"requests": requests}).status == 200

    def token_of(self, account: str) -> str:
        return str(self.administer("POST", "/-/token", {"account": account}).body["token"])

    def secrets(self, namespace: str = NAMESPACE) -> set[str]:
        """The administrator's list."""
        listed = self.administer("GET", f"/api/v1/namespaces/{namespace}/secrets")
        return {item["metadata"]["name"] for item in listed.body["items"]}

    def create(
        self, name: str, namespace: str = NAMESPACE, labels: dict[str, str] | None = None, bearer: str = ""
    ) -> Answer:
        metadata = {"name": name, "labels": labels or {}}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
        return self.ask("POST", f"/api/v1/namespaces/{namespace}/secrets", body, bearer=bearer or ADMINISTRATOR)

    def reads(self, token: str, namespace: str = "shop") -> int:
        return self.ask("GET", f"/api/v1/namespaces/{namespace}/secrets", bearer=token).status

    def authenticated(self, token: str, audience: str = "") -> bool:
        """A TokenReview, as the administrator."""
        spec = {"token": token, "audiences": [audience] if audience else []}
        said = self.administer("POST", "/apis/authentication.k8s.io/v1/tokenreviews", {"spec": spec})
        return bool(said.body["status"]["authenticated"])


def write_token(folder: Path, backend: KubernetesBackend, account: str = "agents/forestall") -> Path:
    file = folder / "own-token"
    file.write_text(backend.token_of(account) + "\n")
    return file


@contextmanager
def kubernetes() -> Iterator[KubernetesBackend]:
    settings = {
        "administrator": ADMINISTRATOR,
        "namespaces": [NAMESPACE, "shop"],
        "accounts": {
            "agents/forestall": {"rules": ROLE},
            "agents/viewer": {"rules": READS},
            "agents/editor": {"rules": WRITES},
            "agents/other": {},
        },
    }
    with KubernetesBackend("kubernetes_server", settings) as backend:
        yield backend
