"""What a permit costs at the edge: its check at the resource with a fresh proof, the burn's sync apart, and its making.

python bench/edge.py [--json]

Every permit and every proof is another, as in use. The check ends with a burn in memory, whose cost is in the time; the
burn in SQLite, on disk before it is acknowledged, is measured by itself.
"""

from __future__ import annotations

import argparse
import json
import secrets
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from forestall.core.canonical import digest
from forestall.core.effects import Effect
from forestall.core.label import WORST
from forestall.core.model import Permit
from forestall.pep.presenting import Presenter
from forestall.proof.algorithm import Algorithm
from forestall.proof.jwk import SigningKey, key_set
from forestall.proof.permit import Edge, sign_permit
from forestall_edge import FixedKeys, MemoryBurns, SqliteBurns, Verifier, read_trust

ROUNDS = 3_000
BURNS = 300
AUDIENCE, ISSUER, TOOL = "https://files.example/mcp", "bench.example/forestall", "files/write_file"
ARGUMENTS = {"path": "reports/2026/november.md", "content": "A line of the report, as long as lines are.\n" * 4}
PIN = "sha256:" + "a" * 64


def wall() -> int:
    return time.time_ns() // 1_000_000


def quantiles(times: list[int]) -> dict[str, float]:
    times = sorted(times)
    return {
        "p50_us": round(times[len(times) // 2] / 1000, 1),
        "p99_us": round(times[len(times) * 99 // 100] / 1000, 1),
    }


def timed(work: Callable[[], object]) -> int:
    start = time.perf_counter_ns()
    work()
    return time.perf_counter_ns() - start


def permit() -> Permit:
    return Permit(
        id=secrets.token_hex(16),
        task=secrets.token_hex(16),
        tool=TOOL,
        pin=PIN,
        digest=digest(ARGUMENTS),
        effects=frozenset({Effect.WRITE}),
        output=WORST,
        policies=("p",),
        policy_digest=PIN,
        expires_at=wall() + 10_000,
    )


def checking() -> dict[str, dict[str, float]]:
    signing = SigningKey.generate(Algorithm.ES256, secrets.token_bytes)
    holder = Presenter.make(secrets.token_bytes, wall, lambda: secrets.token_urlsafe(16))
    trust = read_trust(json.dumps({"issuer": ISSUER, "epoch": 0, **key_set([signing]).to_json()}).encode())
    verifier = Verifier(FixedKeys(trust), AUDIENCE, MemoryBurns(lambda: time.time() - 60), "one")
    where = Edge(ISSUER, AUDIENCE, "spiffe://example.org/agent", 0, holder.key.public.thumbprint, "one")
    checks, making, proving = [], [], []
    for _ in range(ROUNDS):
        given, made = permit(), list[str]()
        making.append(timed(lambda: made.append(sign_permit(given, where, signing, wall()))))  # noqa: B023 - called at once
        proving.append(timed(lambda: made.append(holder.present(made[0], AUDIENCE))))  # noqa: B023 - as above
        checks.append(timed(lambda: verifier.verify(made[0], made[1], TOOL, dict(ARGUMENTS), pin=PIN)))  # noqa: B023
    return {
        "check, fresh proof": quantiles(checks),
        "permit made": quantiles(making),
        "proof made": quantiles(proving),
    }


def burning(root: Path) -> dict[str, float]:
    store = SqliteBurns(root / "burns", time.time)
    now = int(time.time())
    times = [timed(lambda: store.burn(secrets.token_bytes(32), now + 12, now)) for _ in range(BURNS)]
    store.close()
    return quantiles(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="forestall-bench-") as folder:
        found = {**checking(), "burn, synced": burning(Path(folder))}
    if args.json:
        print(json.dumps(found))
        return
    for name, numbers in found.items():
        print(f"{name:22} " + "  ".join(f"{key} {value:>9.1f}" for key, value in numbers.items()))


if __name__ == "__main__":
    main()
