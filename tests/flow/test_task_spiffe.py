"""SPIFFE workloads over HTTPS: one speaks by a JWT-SVID and DPoP, the other by its X.509-SVID alone."""

from __future__ import annotations

import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from forestall.adapter.workload.follow import Waits
from forestall.adapter.workload.spiffe import WorkloadApi
from forestall.agent import Agent, ClientCertificate, Held, JwtSvid, TaskRefused
from forestall.core.errors import Unavailable
from forestall.pep.blocking import Connection
from forestall.proof.spiffe_id import parse_workload_id
from forestall.testing.authority import Authority, Issued
from forestall.testing.workload_api import WorkloadApiServer
from tests import points
from tests.flow.test_task_command import POLICY, WORK
from tests.unit.adapter.oidc.site import roots
from tests.unit.server.http.test_tls import write_server

SUPPORT, SHIPPING = "spiffe://example.org/support", "spiffe://example.org/shipping"

SETTINGS = """\
[http]
listen = "127.0.0.1:0"
tls_certificate = "server.pem"
tls_key = "server.key"
"""


def now() -> int:
    return time.time_ns() // 1_000_000


def waits() -> Waits:
    return Waits(random=lambda: 0.0, wait=threading.Event.wait)


@dataclass
class Domain:
    authority: Authority
    server: WorkloadApiServer
    url: str
    ca: Path

    def speaking(self, name: str) -> Agent:
        api = WorkloadApi(self.server.endpoint, clock=now, waits=waits())
        identity = JwtSvid(lambda audience: api.jwt_svid(audience, parse_workload_id(name)))
        return Agent(self.url, identity, ca_file=self.ca)

    def showing(self, svid: Issued) -> Agent:
        chain = "".join(map(ssl.DER_cert_to_PEM_cert, svid.chain)).encode()
        key = ssl.DER_cert_to_PEM_cert(svid.key).replace("CERTIFICATE", "PRIVATE KEY").encode()
        return Agent(self.url, ClientCertificate(lambda: (chain, key)), ca_file=self.ca, bound_to_certificate=True)


@pytest.fixture
def domain(tmp_path: Path) -> Iterator[Domain]:
    home = points.make_home(tmp_path, policy=POLICY, settings=SETTINGS)
    home.mandates.mkdir(exist_ok=True)
    (home.mandates / "work.toml").write_text(WORK)
    write_server(home.root)
    ca = tmp_path / "ca.pem"
    ca.write_text(roots())
    authority = Authority("example.org", now)
    # a socket's path may have 107 bytes, which pytest's own folders can exceed
    with (
        tempfile.TemporaryDirectory() as folder,
        WorkloadApiServer(Path(folder) / "agent.sock", authority) as server,
    ):
        server.register("/support")
        (home.root / "identity.toml").write_text(
            f'workload_api = "{server.endpoint}"\n'
            '[[trust_domains]]\nname = "example.org"\ntenant = "acme"\nbundle = "workload_api"\n'
        )
        with points.process(home) as started:
            points.wait_for_socket(home, started)
            with Connection(home.socket, points.WAIT_S) as connection:
                url = connection.ask("status")["http"]
            yield Domain(authority, server, url, ca)


@pytest.mark.slow
def test_a_task_goes_from_a_jwt_svid_to_an_x509_svid_and_ends(domain: Domain) -> None:
    support = domain.speaking(SUPPORT)
    held = _when_ready(lambda: support.open("work", parameters={"order": "4711"}))
    svid = domain.authority.x509_svid("/shipping", through=(domain.authority.subordinate(),))
    shipping = domain.showing(svid)
    child = shipping.accept(support.delegate(held, to=SHIPPING))
    assert child.key is None
    shown = shipping.introspect(child.token)
    assert (shown["active"], shown["client_id"], shown["act"]["act"]["sub"]) == (True, SHIPPING, SUPPORT)
    assert set(shown["cnf"]) == {"x5t#S256"}

    # another certificate of the very same workload does not hold this grant
    with pytest.raises(TaskRefused):
        domain.showing(domain.authority.x509_svid("/shipping")).complete(child)
    assert support.introspect(child.token)["active"] is True
    support.complete(held)
    assert support.introspect(child.token) == shipping.introspect(child.token) == {"active": False}


@pytest.mark.slow
def test_workloads_of_an_authority_that_was_taken_back_are_nobody_without_a_restart(domain: Domain) -> None:
    svid = domain.authority.x509_svid("/shipping")
    _when_ready(lambda: domain.showing(svid).open("work", parameters={"order": "4711"}))
    domain.authority.rotate()
    domain.authority.retire()
    domain.server.push()
    points.until(lambda: not _gets_in(domain.showing(svid)))
    fresh = domain.showing(domain.authority.x509_svid("/shipping"))
    fresh.open("work", parameters={"order": "4711"})


@pytest.mark.slow
def test_a_stranger_of_the_same_name_is_nobody(domain: Domain) -> None:
    _when_ready(lambda: domain.speaking(SUPPORT).open("work", parameters={"order": "4711"}))
    stranger = Authority("example.org", now)
    with pytest.raises((Unavailable, TaskRefused)):
        domain.showing(stranger.x509_svid("/shipping")).open("work", parameters={"order": "4711"})


def _when_ready(asks: Callable[[], Held]) -> Held:
    """The decision point serves before its own Workload API has told it the first bundle."""
    found: list[Held] = []

    def tried() -> bool:
        try:
            found.append(asks())
        except (TaskRefused, Unavailable):
            return False
        return True

    points.until(tried)
    return found[0]


def _gets_in(agent: Agent) -> bool:
    try:
        agent.open("work", parameters={"order": "4711"})
    except (TaskRefused, Unavailable):
        return False
    return True
