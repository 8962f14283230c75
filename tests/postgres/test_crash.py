"""A decision point that is killed while it makes a role, or ends it: whoever looks afterwards leaves none."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.postgres.shop import WAIT_S, Shop, lease, open_shop

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgres-faults")]

PROGRAM = """\
import os, signal, sys
from pathlib import Path
from forestall.adapter.credential import postgresql_session
from forestall.testing.postgresql import Cluster
from tests.postgres.shop import Shop, issued

port, folder = int(sys.argv[1]), Path(sys.argv[2])
steps = at = 0

def step():
    global steps
    if steps == at:
        os.kill(os.getpid(), signal.SIGKILL)
    steps += 1

def each(method):
    def wrapped(*arguments, **named):
        step()
        found = method(*arguments, **named)
        step()
        return found
    return wrapped

Session = postgresql_session.Session
Session.ask, Session.__init__, Session._wait = each(Session.ask), each(Session.__init__), each(Session._wait)
for line in sys.stdin:  # each attempt is a process of its own
    at = int(line)
    child = os.fork()
    if not child:
        broker = Shop(Cluster(Path("/nonexistent"), port), folder).broker()
        broker.revoke(issued(broker, "crashed"))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with open_shop(tmp_path_factory.mktemp("shop")) as found:
        yield found


def test_killed_at_every_step_nothing_stays(shop: Shop) -> None:
    """Before and after each exchange with the server and each wait for it: before the role is there, while, after."""
    states = set()
    steps = 0
    with attempts(shop) as attempt:
        while (ended := attempt(steps)) == -signal.SIGKILL:
            broker = shop.broker()
            shop.settle()
            orphans = list(broker.list_orphans(()))
            states.add(bool(orphans))
            assert set(orphans) == shop.roles()
            broker.revoke(lease(broker, "crashed"))
            assert shop.roles() == set()
            assert list(broker.list_orphans(())) == []
            broker.close()
            steps += 1
        assert ended == 0
    assert steps > 10
    assert states == {True, False}, "it was killed with and without a role there"
    assert shop.roles() == set()


@contextmanager
def attempts(shop: Shop) -> Iterator[Callable[[int], int]]:
    """Makes a role and ends it, killed at that step: how the process ended."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(shop.cluster.port), str(shop.folder)],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    given, told = process.stdin, process.stdout

    def attempt(step: int) -> int:
        given.write(f"{step}\n")
        given.flush()
        return int(told.readline())

    try:
        yield attempt
    finally:
        given.close()
        told.close()
        assert process.wait(WAIT_S) == 0
