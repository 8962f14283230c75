"""What a credential costs at the other backends: deciding about it, having it made, having it ended.

python bench/backends.py [--json]

Each against the server that the tests have it talk to, on this machine: a GitHub and a cluster of ours, the real
oidc-provider, moto. So the times are Forestall's part, a connection over loopback, and that server's own work; what a
real one takes, and the way there, come on top. With the environment of the tests, where `make setup` has made it: what
is in neither is said to be absent. OpenBao and Vault are not among them, since they have to be built first.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the servers are those of the tests

from tests.backends.leases import EVERYTHING, OWNER, action, context, grant, permit, table  # noqa: E402

from forestall.core.effects import Effect  # noqa: E402
from forestall.core.model import Action, Grant, Lease, Permit, Scope, Secret  # noqa: E402
from forestall.port import Broker  # noqa: E402

ROUNDS = 25
"""As many ended sessions as a role of AWS has room for, and some."""
WARM = 3
LIFETIME_MS = 60_000
TESTS = ROOT / ".venv" / "bin" / "python"

Figures = dict[str, dict[str, float]]


class Absent(Exception):
    """What it needs is not installed here."""


@dataclass(frozen=True)
class Given:
    broker: Broker
    permit: Permit
    action: Action
    grant: Grant

    def lease(self) -> Lease:
        return Lease(
            name=f"forestall-{OWNER}-{secrets.token_hex(16)}",
            credential="under-test",
            backend="under-test",
            task="task",
            permit=self.permit.id,
            scope=Scope.ACTION,
            rights=self.broker.plan(self.permit, self.action, self.grant),
            expires_at=time.time_ns() // 1_000_000 + LIFETIME_MS,
        )


@contextmanager
def static(folder: Path) -> Iterator[Given]:
    from forestall.credentials.static import open_broker

    (folder / "key").touch(0o600)
    (folder / "key").write_text("a key that stands\n")
    broker = open_broker(table(folder, 'secrets = { token = "file:key" }'), context(folder))
    yield Given(broker, permit(EVERYTHING), action(), grant())


@contextmanager
def github_app(folder: Path) -> Iterator[Given]:
    from tests.backends.github import CLASS, github, write_key

    from forestall.credentials.github import open_broker

    write_key(folder)
    with github() as backend:
        text = CLASS.format(url=backend.url, repositories='["{arguments.repo}"]')
        yield Given(open_broker(table(folder, text), context(folder)), permit(EVERYTHING), action(repo="shop"), grant())


@contextmanager
def cluster(folder: Path) -> Iterator[Given]:
    from tests.backends.kubernetes import CLASS, kubernetes, write_token

    from forestall.credentials.kubernetes import open_broker

    with kubernetes() as backend:
        write_token(folder, backend)
        broker = open_broker(table(folder, CLASS.format(url=backend.url, more="")), context(folder))
        yield Given(broker, permit(frozenset({Effect.READ})), action(), grant())


@contextmanager
def oauth(folder: Path) -> Iterator[Given]:
    require("pytest", "the test environment")
    if not (ROOT / "tests/identity/node_modules/.package-lock.json").exists() or shutil.which("node") is None:
        raise Absent("oidc-provider is not installed; tests/identity/install.sh does it")
    from tests.backends.upstream import Upstream, write_files, written

    from forestall.credentials.oauth import open_broker

    write_files(folder)
    upstream = Upstream(folder / "log")
    try:
        text = written(issuer=f'"{upstream.start().issuer}"')
        whose = replace(grant(), trust_domain="example.org", user="https://idp.example#alice")
        yield Given(open_broker(table(folder, text), context(folder)), permit(EVERYTHING), action(), whose)
    finally:
        upstream.stop()


@contextmanager
def sts(folder: Path) -> Iterator[Given]:
    require("moto", "moto")
    from tests.backends.aws import CLASS, aws, write_credentials

    from forestall.credentials.aws import open_broker

    with aws() as backend:
        write_credentials(folder, backend.own)
        broker = open_broker(table(folder, CLASS.format(url=backend.url, settle=0, more="")), context(folder))
        given = permit(frozenset({Effect.READ, Effect.WRITE}))
        yield Given(broker, given, action(customer="shop"), grant())


def require(module: str, name: str) -> None:
    if find_spec(module) is None:
        raise Absent(f"{name} is not installed here")


BACKENDS: Mapping[str, Callable[[Path], AbstractContextManager[Given]]] = {
    "static file": static,
    "GitHub App": github_app,
    "Kubernetes": cluster,
    "OAuth": oauth,
    "AWS STS": sts,
}


def timed(work: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - start


def figures(times_ns: list[int], unit: str, by: float) -> dict[str, float]:
    ordered = sorted(times_ns)
    p99 = ordered[int(len(ordered) * 0.99) - 1]
    return {f"p50_{unit}": round(statistics.median(ordered) / by, 2), f"p99_{unit}": round(p99 / by, 2)}


def measure(given: Given) -> Figures:
    plans, mints, ends = [], [], []
    for number in range(-WARM, ROUNDS):
        planned = timed(lambda: given.broker.plan(given.permit, given.action, given.grant))
        lease, made = given.lease(), list[Secret]()
        minted = timed(lambda lease=lease, made=made: made.append(given.broker.issue(lease)))  # type: ignore[misc]
        held = replace(lease, secret=made[0])
        ended = timed(lambda held=held: given.broker.revoke(held))  # type: ignore[misc]
        if number >= 0:
            plans.append(planned)
            mints.append(minted)
            ends.append(ended)
    return {
        "plan": figures(plans, "us", 1e3),
        "mint": figures(mints, "ms", 1e6),
        "revoke": figures(ends, "ms", 1e6),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, Figures] = {}
    for name, opened in BACKENDS.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                with opened(Path(folder)) as given:
                    found[name] = measure(given)
                    given.broker.close()
            except Absent as error:
                print(f"bench: {name} is left out: {error}.", file=sys.stderr)
    if args.json:
        print(json.dumps(found))
        return 0
    for name, parts in found.items():
        for part, numbers in parts.items():
            print(f"{f'{name}, {part}':24}", *(f"{key} {number:10,.2f}" for key, number in numbers.items()))
    return 0


if __name__ == "__main__":
    if TESTS.exists() and Path(sys.executable) != TESTS:
        os.execv(TESTS, [str(TESTS), __file__, *sys.argv[1:]])
    sys.exit(main())
