"""Two trust domains that run, and workloads of the first: one chosen by its path, one by its digest, and Forestall."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from interop.spire.domain import Domain
from interop.spire.place import Executable, Process

HERE = Path(__file__).parent


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
def running() -> Iterator[Callable[[Executable, Domain], Process]]:
    """Starts a process that is gone in the end."""
    with ExitStack() as stack:

        def start(executable: Executable, domain: Domain) -> Process:
            process = Process(executable, domain.endpoint)
            stack.callback(process.stop)
            return process

        yield start


Make = Callable[[str], Executable]
Start = Callable[[Executable, Domain], Process]


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
