"""Two trust domains that run, and workloads of the first: one chosen by its path, one by its digest, and Forestall."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest

from interop.authority import Authority
from interop.point import Point
from interop.spire.domain import Domain
from interop.spire.place import PACKAGES, Executable, Process

HERE = Path(__file__).parent
ACTOR = "interop.spire.agent"
IDENTITY = """\
workload_api = "{endpoint}"

[[trust_domains]]
name = "example.org"
tenant = "acme"
bundle = "workload_api"
bound_s = 20
"""

Make = Callable[[str], Executable]


class Start(Protocol):
    def __call__(self, executable: Executable, domain: Domain, program: str = ...) -> Process: ...


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    # a socket's path may have 107 bytes, which pytest's own folders can exceed
    with tempfile.TemporaryDirectory(prefix="spire-") as name:
        yield Path(name).resolve()


@pytest.fixture(scope="session")
def programs() -> Path:
    done = subprocess.run([HERE / "install.sh"], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def domain(programs: Path, folder: Path) -> Iterator[Domain]:
    (folder / "a").mkdir()
    with Domain(programs, folder / "a", "example.org", key_type="ec-p256") as running:
        yield running


@pytest.fixture(scope="session")
def partner(programs: Path, folder: Path) -> Iterator[Domain]:
    (folder / "b").mkdir()
    with Domain(programs, folder / "b", "partner.example", key_type="rsa-2048") as running:
        yield running


@pytest.fixture(scope="session")
def executable(folder: Path) -> Callable[[str], Executable]:
    """Makes one, of a name that no other has."""
    return lambda name: Executable(folder / name)


@pytest.fixture(scope="session")
def running() -> Iterator[Start]:
    """Starts a process that is gone in the end."""
    with ExitStack() as stack:

        def start(executable: Executable, domain: Domain, program: str = "interop.spire.workload") -> Process:
            process = Process(executable, domain.endpoint, program)
            stack.callback(process.stop)
            return process

        yield start


@pytest.fixture(scope="session")
def one(domain: Domain, executable: Make, running: Start) -> Process:
    made = executable("one")
    domain.register("/one", [made.by_path])
    return running(made, domain)


@pytest.fixture(scope="session")
def two(domain: Domain, executable: Make, running: Start) -> Process:
    made = executable("two")
    domain.register("/two", [made.by_digest])
    return running(made, domain)


@pytest.fixture(scope="session")
def forestall(domain: Domain, partner: Domain, executable: Make, running: Start) -> Process:
    """The decision point: itself a workload, and the only one that is told of the partner's bundle."""
    made = executable("forestall")
    domain.federate(partner)
    domain.register("/forestall", [made.by_path], "-federatesWith", f"spiffe://{partner.trust_domain}")
    return running(made, domain)


@pytest.fixture(scope="session")
def stranger(partner: Domain, executable: Make, running: Start) -> Process:
    """A workload of the partner's."""
    made = executable("stranger")
    partner.register("/stranger", [made.by_path])
    return running(made, partner)


@pytest.fixture(scope="session")
def authority(folder: Path) -> Authority:
    (folder / "tls").mkdir()
    return Authority(folder / "tls")


@pytest.fixture(scope="session")
def python(domain: Domain, partner: Domain, executable: Make) -> str:
    """The interpreter of decision points, which is what SPIRE knows them by. They are told of the partner's bundle."""
    made = executable("point")
    domain.federate(partner)
    domain.register("/point", [made.by_path, made.by_digest], "-federatesWith", f"spiffe://{partner.trust_domain}")
    return str(made.path)


@pytest.fixture
def point(domain: Domain, authority: Authority, python: str) -> Iterator[Point]:
    """A new one, which takes its bundles from the Workload API, as the workload that it is itself."""
    with tempfile.TemporaryDirectory(prefix="spire-point-") as name:
        identity = IDENTITY.format(endpoint=domain.endpoint)
        with Point(Path(name).resolve(), authority, identity, python=[python], env=PACKAGES) as running:
            yield running


@pytest.fixture(scope="session")
def support(domain: Domain, executable: Make, running: Start) -> Process:
    made = executable("support")
    domain.register("/support", [made.by_path])
    return running(made, domain, ACTOR)


@pytest.fixture(scope="session")
def shipping(domain: Domain, executable: Make, running: Start) -> Process:
    made = executable("shipping")
    domain.register("/shipping", [made.by_digest])
    return running(made, domain, ACTOR)


@pytest.fixture(scope="session")
def stranger_actor(partner: Domain, executable: Make, running: Start) -> Process:
    """An agent of the partner's."""
    made = executable("partner")
    partner.register("/support", [made.by_path])
    process = running(made, partner, ACTOR)
    process.live()
    return process
