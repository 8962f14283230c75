"""Pods that are agents: by their projected tokens, with the cluster's own word on whether each still counts."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from forestall.agent import Agent, Held, TaskRefused, TokenFile
from forestall.core.errors import Unavailable
from interop.authority import Authority
from interop.point import Point, eventually
from interop.program import ROOT, Program
from interop.session import WAIT_S, Session, gateway

AUDIENCE = "https://forestall.example"
BILLING = "spiffe://example.org/cluster-a/ns/shop/sa/billing-agent"
ORDER = {"order": "4711"}


def rules(issuer: str, folder: Path, ca: Path) -> str:
    """Those of docs/identity.md, with this cluster's addresses and files in the place of a real one's."""
    blocks = re.findall(r"```toml\n(.*?)```", (ROOT / "docs" / "identity.md").read_text(), re.DOTALL)
    (found,) = (each for each in blocks if 'kind = "kubernetes"' in each)
    text, mounted = str(found), "/var/run/secrets/kubernetes.io/serviceaccount"
    for written, here in (
        ('"https://kubernetes.default.svc.cluster.local"', f'"{issuer}"'),
        ("https://kubernetes.default.svc", issuer),
        (f"{mounted}/ca.crt", str(ca)),
        (f"{mounted}/token", str(folder / "own-token")),
    ):
        assert written in text
        text = text.replace(written, here)
    return text


@dataclass
class Cluster:
    program: Program
    folder: Path
    issuer: str = ""

    def run(self, pod: str, account: str = "billing-agent", namespace: str = "shop", **more: Any) -> Path:
        """The file where the pod finds its token."""
        self.program.ask("run", namespace=namespace, account=account, pod=pod, **more)
        return self.project(pod, namespace)

    def project(self, pod: str, namespace: str = "shop", audience: str = AUDIENCE) -> Path:
        file = self.folder / f"{namespace}-{pod}-token"
        self.program.ask("project", namespace=namespace, pod=pod, file=str(file), audience=audience)
        return file

    def renew_own(self) -> None:
        own = str(self.folder / "own-token")
        self.program.ask("project", namespace="forestall", pod="decision-point-0", file=own)


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="kube-") as name:
        yield Path(name).resolve()


@pytest.fixture
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture
def cluster(folder: Path, authority: Authority) -> Iterator[Cluster]:
    files = [str(each) for each in authority.server("api")]
    program = Program([sys.executable, "-m", "interop.kubernetes.api_server", *files], {})
    try:
        found = Cluster(program, folder, program.ask("start")["issuer"])
        program.ask("run", namespace="forestall", account="decision-point", pod="decision-point-0", reviewer=True)
        found.renew_own()
        yield found
    finally:
        program.stop()


@pytest.fixture
def point(cluster: Cluster, authority: Authority, folder: Path) -> Iterator[Point]:
    with Point(folder / "home", authority, rules(cluster.issuer, folder, authority.ca)) as running:
        yield running


@pytest.fixture
def acts(point: Point, folder: Path) -> Iterator[Callable[[Held], dict[str, Any]]]:
    """A call under a grant, through its gateway, which is gone in the end."""
    sessions: dict[str, Session] = {}

    def act(held: Held) -> dict[str, Any]:
        if held.task not in sessions:
            file = folder / f"{held.task}.json"
            held.write(file)
            sessions[held.task] = Session(gateway(point.home.root, file))
        return sessions[held.task].call("read_order", ORDER)

    yield act
    for session in sessions.values():
        session.close()


def agent(point: Point, token: Path) -> Agent:
    return Agent(point.url, TokenFile(token), ca_file=point.ca)


def open_task(point: Point, token: Path) -> Held:
    return agent(point, token).open("work", parameters=ORDER)


def fault(point: Point, token: Path) -> str:
    """Why a task was not opened, in the words that the operator finds."""
    with pytest.raises(TaskRefused) as caught:
        open_task(point, token)
    assert caught.value.error == "invalid_client"
    return str(point.denial(caught.value.decision)["detail"])


def test_a_pod_is_its_service_account_and_acts_in_its_task(cluster: Cluster, point: Point, acts: Any) -> None:
    uid = cluster.program.ask("run", namespace="shop", account="billing-agent", pod="billing-1")["uid"]
    held = open_task(point, cluster.project("billing-1"))
    assert acts(held) == {"text": "order 4711: nothing"}
    (entry,) = point.entries("opened")
    subject = entry["subject"]
    assert (subject["id"], subject["assurance"]) == (BILLING, "oidc")
    assert subject["instance"] == f"{BILLING}#pod/{uid}"


def test_two_pods_of_one_account_are_told_as_one_identity_that_is_shared(cluster: Cluster, point: Point) -> None:
    one, two, other = cluster.run("billing-1"), cluster.run("billing-2"), cluster.run("mail-1", "mail-agent")
    open_task(point, one)
    open_task(point, other)
    assert point.status()["shared_identities"] == []
    open_task(point, two)
    told = {"tenant": "acme", "trust_domain": "example.org", "id": BILLING, "workloads": 2}
    assert point.status()["shared_identities"] == [told]
    configuration = cluster.folder / ".mcp.json"
    configuration.write_text('{"mcpServers": {}}')
    words = [sys.executable, "-m", "forestall.cli", "status", "--home", str(point.home.root), str(configuration)]
    shown = subprocess.run(words, capture_output=True, text=True, timeout=WAIT_S, check=False).stdout
    assert f"{BILLING} is shared: 2 workloads act under it now" in shown


def test_a_deleted_pods_token_is_refused_though_it_has_not_ended(cluster: Cluster, point: Point, acts: Any) -> None:
    token = cluster.run("billing-1")
    held = open_task(point, token)
    cluster.program.ask("delete", namespace="shop", pod="billing-1")
    assert "revoked" in fault(point, token)
    cluster.program.ask("run", namespace="shop", account="billing-agent", pod="billing-1")
    assert "revoked" in fault(point, token)  # of the same name, and another pod
    open_task(point, cluster.project("billing-1"))
    # what it had opened is its key's until somebody ends it
    assert "text" in acts(held)
    assert point.order("kill", held.task)["tasks_ended"] == 1
    assert acts(held)["reason"] == "revoked"


def test_a_deleted_account_takes_all_of_its_pods_with_it(cluster: Cluster, point: Point) -> None:
    tokens = [cluster.run("billing-1"), cluster.run("billing-2")]
    cluster.program.ask("delete", namespace="shop", account="billing-agent")
    assert ["revoked" in fault(point, token) for token in tokens] == [True, True]


def test_a_kill_of_the_account_reaches_every_pod_and_none_opens_a_task_until_it_is_resumed(
    cluster: Cluster, point: Point, acts: Any
) -> None:
    one, two = cluster.run("billing-1"), cluster.run("billing-2")
    held = [open_task(point, one), open_task(point, two)]
    assert all("text" in acts(each) for each in held)
    assert point.order("kill", "--agent", BILLING)["tasks_ended"] == 2
    assert [acts(each)["reason"] for each in held] == ["revoked", "revoked"]
    with pytest.raises(TaskRefused) as caught:
        open_task(point, cluster.run("billing-3"))
    assert caught.value.reason == "revoked"
    point.order("resume", "--agent", BILLING)
    open_task(point, two)


@pytest.mark.parametrize(
    ("namespace", "audience", "says"),
    [
        ("elsewhere", AUDIENCE, "wrong_subject"),
        ("shop", "https://other.example", "wrong_audience"),
        ("shop", "", "wrong_audience"),  # the cluster's own
    ],
)
def test_a_token_of_elsewhere_or_for_somebody_else_is_refused(
    cluster: Cluster, point: Point, namespace: str, audience: str, says: str
) -> None:
    cluster.run("billing-1", namespace=namespace)
    assert says in fault(point, cluster.project("billing-1", namespace, audience))


def test_a_token_that_was_changed_is_refused(cluster: Cluster, point: Point) -> None:
    token = cluster.run("billing-1")
    text = token.read_text()
    token.write_text(text[:-8] + ("A" * 8 if not text.endswith("A" * 8) else "B" * 8))
    assert "bad_signature" in fault(point, token)


def test_what_the_kubelet_and_the_cluster_renew_needs_no_restart(cluster: Cluster, point: Point) -> None:
    token = cluster.run("billing-1")
    holder = agent(point, token)
    held = holder.open("work", parameters=ORDER, lifetime_s=300)
    old = token.read_text()
    cluster.program.ask("rotate")
    cluster.renew_own()
    cluster.project("billing-1")
    assert token.read_text() != old

    def renewed() -> dict[str, Any]:
        """A key that is not known is asked for, though not sooner than ten seconds after the last time."""
        try:
            return {"task": holder.extend(held, expires_at=held.expires_at + 60_000).task}
        except TaskRefused as refused:
            return {"refused": refused.error}

    assert eventually(renewed, lambda said: "task" in said) == {"task": held.task}


def test_a_cluster_that_does_not_say_is_no_yes_and_what_is_open_goes_on(
    cluster: Cluster, point: Point, acts: Any
) -> None:
    token = cluster.run("billing-1")
    held = open_task(point, token)
    cluster.program.ask("forbid")
    with pytest.raises(Unavailable):
        open_task(point, token)
    cluster.program.stop()
    with pytest.raises(Unavailable):
        open_task(point, token)
    assert "text" in acts(held)
    assert len(point.entries("opened")) == 1
