"""A pod by its projected token, with the cluster's own word on whether the token still counts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.oidc.checking import check_blocking
from forestall.adapter.oidc.review import require_live
from forestall.adapter.oidc.token_file import read_token
from forestall.adapter.oidc.verifier import Verifier
from forestall.adapter.oidc.web import Web
from forestall.core.errors import Unavailable
from forestall.home import Home
from forestall.identities import load_identities
from forestall.proof.fault import Fault
from forestall.proof.oidc import Workload
from forestall.proof.spiffe_id import parse_workload_id
from tests.tokens import refused
from tests.unit.adapter.oidc.cluster import API_SERVER, EXTRA, REVIEWS, Cluster
from tests.unit.adapter.oidc.site import WAIT_S, roots

AUDIENCE = "https://forestall.example"

RULES = """
[[trust_domains]]
name = "example.org"
tenant = "acme"

[[issuers]]
kind = "kubernetes"
issuer = "{issuer}"
audience = "https://forestall.example"
trust_domain = "example.org"
prefix = "/cluster-a"
namespaces = ["shop"]
ca_file = "cluster-ca.pem"
token_file = "own-token"

[issuers.review]
api = "{issuer}"
ca_file = "cluster-ca.pem"
token_file = "own-token"
"""


class World:
    def __init__(self, cluster: Cluster, root: Path) -> None:
        self.cluster, self.root = cluster, root
        cluster.run("forestall", "decision-point", "forestall-0")
        cluster.run("shop", "agent", "agent-1")
        (root / "cluster-ca.pem").write_text(roots())
        self.renew()
        self.projected = root / "projected"
        self.projected.write_text(cluster.project("shop", "agent-1", AUDIENCE))
        (root / "identity.toml").write_text(RULES.format(issuer=cluster.url))
        self.web = Web(total_s=WAIT_S, silence_s=WAIT_S)
        self.verifier = Verifier(load_identities(Home(root)), fetch=self.web)

    def renew(self) -> None:
        """As the kubelet does with our own token."""
        (self.root / "own-token").write_text(self.cluster.project("forestall", "forestall-0", API_SERVER) + "\n")

    def check(self, wait_s: float = WAIT_S) -> Workload:
        check = self.verifier.workload(read_token(self.projected), now=time.time_ns() // 1_000_000)
        return check_blocking(check, wait_s=wait_s)

    def reviews(self) -> int:
        return sum(path == REVIEWS for _, path, _, _ in self.cluster.site.asked)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with Cluster() as cluster:
        world = World(cluster, tmp_path)
        yield world
        world.web.close()
        world.verifier.close()


def test_a_pod_is_its_service_account(world: World) -> None:
    found = world.check()
    assert str(found.id) == "spiffe://example.org/cluster-a/ns/shop/sa/agent"
    assert (found.facts["pod"], found.facts["node"]) == ("agent-1", "node-1")
    assert world.reviews() == 1


def test_each_use_is_reviewed_anew(world: World) -> None:
    assert world.check() == world.check()
    assert world.reviews() == 2


def test_a_pod_that_was_deleted_is_nobody_though_its_token_lives_on(world: World) -> None:
    world.check()
    world.cluster.delete("shop", "agent-1")
    with refused(Fault.REVOKED):
        world.check()
    world.cluster.run("shop", "agent", "agent-1")  # the same name, and another pod
    with refused(Fault.REVOKED):
        world.check()
    world.projected.write_text(world.cluster.project("shop", "agent-1", AUDIENCE))
    assert world.check().facts["pod"] == "agent-1"


def test_our_own_token_is_read_again_at_each_use(world: World) -> None:
    world.check()
    world.cluster.delete("forestall", "forestall-0")
    with pytest.raises(Unavailable, match="status 401"):
        world.check()
    world.cluster.run("forestall", "decision-point", "forestall-0")
    world.renew()
    assert world.check().facts["pod"] == "agent-1"


def test_a_cluster_that_does_not_say_is_no_yes(world: World) -> None:
    world.check()
    world.cluster.may_review = False
    with pytest.raises(Unavailable, match="auth-delegator") as caught:
        world.check()
    for secret in (world.projected, world.root / "own-token"):
        assert secret.read_text().strip()[-40:] not in str(caught.value)


def test_a_cluster_that_knows_no_audiences_looked_at_none(world: World) -> None:
    world.cluster.knows_audiences = False
    with refused(Fault.WRONG_AUDIENCE):
        world.check()


def test_a_token_that_does_not_verify_is_not_asked_about(world: World) -> None:
    text = world.projected.read_text()
    for audience in (API_SERVER, "https://another.example"):
        world.projected.write_text(world.cluster.project("shop", "agent-1", audience))
        with refused(Fault.WRONG_AUDIENCE):
            world.check()
    world.projected.write_text(text[:-4] + "AAAA")
    with refused(Fault.BAD_SIGNATURE):
        world.check()
    world.cluster.run("other", "agent", "agent-2")
    world.projected.write_text(world.cluster.project("other", "agent-2", AUDIENCE))
    with refused(Fault.WRONG_SUBJECT):
        world.check()
    assert world.reviews() == 0


def test_a_review_that_takes_too_long_is_no_yes(world: World) -> None:
    world.check()
    world.cluster.answers.clear()
    try:
        with pytest.raises(Unavailable, match="in time"):
            world.check(wait_s=0.05)
    finally:
        world.cluster.answers.set()


WORKLOAD = Workload(
    id=parse_workload_id("spiffe://example.org/ns/shop/sa/agent"),
    issuer="https://cluster.example",
    subject="system:serviceaccount:shop:agent",
    expires_at=0,
    facts={"serviceaccount_uid": "u", "pod": "agent-1", "pod_uid": "p"},
)
STATUS: dict[str, Any] = {
    "authenticated": True,
    "audiences": [AUDIENCE],
    "user": {
        "username": "system:serviceaccount:shop:agent",
        "uid": "u",
        "extra": {EXTRA + "pod-name": ["agent-1"], EXTRA + "pod-uid": ["p"]},
    },
}


def answer(status: Any, **members: Any) -> bytes:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": status, **members}
    return json.dumps(review).encode()


def user(**members: Any) -> dict[str, Any]:
    return {**STATUS, "user": {**STATUS["user"], **members}}


def test_a_review_says_that_it_is_this_workload() -> None:
    require_live(answer(STATUS), WORKLOAD, audience=AUDIENCE)


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", Fault.MALFORMED),
        (b"[]", Fault.MALFORMED),
        (answer(STATUS, kind="Status"), Fault.MALFORMED),
        (answer(STATUS, apiVersion="authentication.k8s.io/v1beta1"), Fault.MALFORMED),
        (answer(None), Fault.MALFORMED),
        (answer({}), Fault.REVOKED),
        (answer({**STATUS, "authenticated": False}), Fault.REVOKED),
        (answer({**STATUS, "authenticated": "true"}), Fault.REVOKED),
        (answer({**STATUS, "authenticated": 1}), Fault.REVOKED),
        (answer({**STATUS, "error": "token lookup failed"}), Fault.REVOKED),
        (answer({**STATUS, "audiences": []}), Fault.WRONG_AUDIENCE),
        (answer({**STATUS, "audiences": None}), Fault.WRONG_AUDIENCE),
        (answer({**STATUS, "audiences": AUDIENCE}), Fault.WRONG_AUDIENCE),
        (answer({**STATUS, "audiences": [API_SERVER]}), Fault.WRONG_AUDIENCE),
        (answer({**STATUS, "user": None}), Fault.MALFORMED),
        (answer(user(extra=[])), Fault.MALFORMED),
        (answer(user(username="system:serviceaccount:shop:other")), Fault.WRONG_SUBJECT),
        (answer(user(uid="other")), Fault.WRONG_SUBJECT),
        (answer(user(extra={})), Fault.WRONG_SUBJECT),
        (answer(user(extra={EXTRA + "pod-name": ["agent-1"], EXTRA + "pod-uid": ["q"]})), Fault.WRONG_SUBJECT),
        (answer(user(extra={EXTRA + "pod-name": ["agent-2"], EXTRA + "pod-uid": ["p"]})), Fault.WRONG_SUBJECT),
    ],
)
def test_a_review_that_says_something_else_is_no_yes(data: bytes, fault: Fault) -> None:
    with refused(fault):
        require_live(data, WORKLOAD, audience=AUDIENCE)
