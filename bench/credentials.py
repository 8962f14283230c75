"""What a credential costs at PostgreSQL: making a role, ending it, and until its open session is refused.

python bench/credentials.py [--json]

A real server of this machine, with its syncs, in a scratch folder. The role has four operations on one table, with a
row policy. Making it is split: what is decided about it (`plan`, a statement parsed) and what the server does. Each
password but the first was made ahead, while the role before it was ended; the server computes its iterations all the
same, which is what `1 iteration` leaves out.
"""

from __future__ import annotations

import argparse
import json
import select
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))  # the cluster and what is in it are those of the tests

from tests.postgres.shop import Shop, action, grant, issued, lease, open_shop, permit  # noqa: E402

from forestall.adapter.credential.postgresql import PostgresqlBroker  # noqa: E402
from forestall.core.model import Lease, Scope  # noqa: E402

ROUNDS = 200
WARM = 10
STATEMENT = "SELECT id, sum(total) FROM shop.orders WHERE status = 'new' GROUP BY id ORDER BY id"

Figures = dict[str, float]


def figures(times_ns: list[int], unit: str = "ms") -> Figures:
    by = {"ms": 1e6, "us": 1e3}[unit]
    ordered = sorted(times_ns)
    return {
        f"p50_{unit}": round(statistics.median(ordered) / by, 2),
        f"p99_{unit}": round(ordered[int(len(ordered) * 0.99) - 1] / by, 2),
    }


def timed(work: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - start


def until_refused(broker: PostgresqlBroker, made: Lease, session: psycopg.Connection[Any]) -> tuple[int, int]:
    """Until the broker says that it is over, and until the server has told the open session: nanoseconds."""
    start = time.perf_counter_ns()
    broker.revoke(made)
    revoked = time.perf_counter_ns() - start
    if not select.select([session.fileno()], [], [], 10.0)[0]:
        raise RuntimeError("the session goes on")
    return revoked, time.perf_counter_ns() - start


def measure(shop: Shop) -> dict[str, Figures]:
    broker = shop.broker()
    quick = shop.broker(limits="scram_iterations = 1")
    by_statement = shop.broker(scope=Scope.ACTION, statement="sql")
    asked = (permit(), action(sql=STATEMENT), grant())
    times: dict[str, list[int]] = {
        "plan": [],
        "mint": [],
        "mint, 1 iteration": [],
        "revoke": [],
        "to refusal": [],
        "first query": [],
    }
    for number in range(-WARM, ROUNDS):
        planned = timed(lambda: by_statement.plan(*asked))
        name = f"bench-{number + WARM}"
        wanted = lease(broker, name)
        minted = timed(lambda wanted=wanted: broker.issue(wanted))  # type: ignore[misc]
        broker.revoke(wanted)
        soon = lease(quick, f"{name}-quick")
        quickly = timed(lambda soon=soon: quick.issue(soon))  # type: ignore[misc]
        quick.revoke(soon)
        made = issued(broker, f"{name}-held")
        assert made.secret is not None
        start = time.perf_counter_ns()
        session = shop.connect(made.secret)
        session.execute("SELECT count(*) FROM shop.orders")
        first = time.perf_counter_ns() - start
        revoked, refused = until_refused(broker, made, session)
        session.close()
        if number >= 0:
            for key, value in zip(times, (planned, minted, quickly, revoked, refused, first), strict=True):
                times[key].append(value)
    broker.close()
    by_statement.close()
    quick.close()
    if shop.roles():
        raise RuntimeError("roles are left over")
    return {key: figures(each, "us" if key == "plan" else "ms") for key, each in times.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, open_shop(Path(folder), sync=True) as shop:
        found = {f"postgresql, {key}": value for key, value in measure(shop).items()}
    if args.json:
        print(json.dumps(found))
    else:
        for key, value in found.items():
            print(f"{key:28}", *(f"{name} {number:10,.2f}" for name, number in value.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
