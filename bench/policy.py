"""What a policy decision costs: 50 policies, 24 tools, every fact; pre-parsed, sliced by action, the schema on.

python bench/policy.py [--json]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

from forestall.core.effects import Confidence, Effect
from forestall.core.label import CLEAN
from forestall.core.model import Assurance, Decision, Facts, Grant, Question, RealPath, Subject, Tool
from forestall.policy import bundle
from forestall.policy.cedar import CedarEngine

ROUNDS = 5_000
TOOLS = 24
EFFECTS = (Effect.READ, Effect.WRITE, Effect.EXTERNAL, Effect.DESTRUCTIVE)

SCHEMA = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "content": {"type": "string"},
        "mode": {"enum": ["append", "replace"]},
        "lines": {"type": "array", "items": {"type": "integer"}},
        "limit": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
    },
    "required": ["path"],
}


def tools() -> list[Tool]:
    return [
        Tool(
            f"server{number % 4}",
            f"tool{number}",
            f"sha256:{number}",
            frozenset({EFFECTS[number % 4]}),
            Confidence.DECLARED,
            control=frozenset({"path"}),
            input_schema=SCHEMA,
        )
        for number in range(TOOLS)
    ]


def policies() -> str:
    """40 permits and 10 forbids; eight or so apply to any one tool."""
    texts = [
        f'permit (principal, action == Action::"server{n % 4}/tool{n % TOOLS}", resource)\n'
        f'when {{ context.paths has path.inside && context.paths.path.inside like "work/{n}/*" }};'
        for n in range(36)
    ]
    texts += [
        f'permit (principal, action in Action::"{effect}", resource)\nwhen {{ context.task.purpose == "p{effect}" }};'
        for effect in ("read", "write", "external", "destructive")
    ]
    texts += [
        f'forbid (principal, action == Action::"server{n % 4}/tool{n}", resource)\n'
        f'when {{ context.labels.integrity == "untrusted" && context.args.path == "{n}" }};'
        for n in range(8)
    ]
    texts += [
        'forbid (principal, action in Action::"external", resource)\nwhen { context.labels.integrity == "untrusted" };',
        """@approvers("ann") forbid (principal, action in Action::"destructive", resource)
        unless { context has approval && context.approval.granted };""",
    ]
    return "\n".join(texts)


def question(tool: Tool, inside: str, subject: str = "uid:1000") -> Question:
    arguments = {"path": inside, "content": "x" * 200, "mode": "append", "lines": [1, 2, 3], "limit": None}
    return Question(
        Subject(subject, Assurance.LOCAL, "a client"),
        Grant("task-0123456789abcdef", "uid:1000", "a purpose", "default", ("*",), frozenset(Effect), 0),
        tool,
        arguments,
        Facts(CLEAN, tool.effects, tool.confidence, False, paths={"path": (RealPath(f"/home/{inside}", inside),)}),
    )


def measure(action: Callable[[], Any], rounds: int = ROUNDS) -> dict[str, float]:
    """Median and 99th percentile, in microseconds."""
    for _ in range(min(rounds, 200)):
        action()
    times = []
    for _ in range(rounds):
        start = time.perf_counter_ns()
        action()
        times.append(time.perf_counter_ns() - start)
    times.sort()
    return {"p50_us": round(times[rounds // 2] / 1000, 1), "p99_us": round(times[rounds * 99 // 100] / 1000, 1)}


def run() -> dict[str, dict[str, float]]:
    known, read = tools(), bundle.from_texts({"bench.cedar": policies()})
    engine = CedarEngine.build(read, known)
    asked = {
        Decision.PERMIT: (known[1], "work/1/a"),
        Decision.DENY: (known[1], "other/a"),
        Decision.HOLD: (known[3], "work/3/a"),
    }
    results = {}
    for decision, (tool, inside) in asked.items():
        got = engine.evaluate(question(tool, inside))
        if got.decision is not decision:
            raise SystemExit(f"The benchmark's {decision} was {got}.")
        others = (question(tool, inside, f"uid:{number}") for number in count())  # each is asked of Cedar anew
        results[decision.value] = measure(partial(next, map(engine.evaluate, others)))
    remembered = question(*asked[Decision.PERMIT])
    results["permit, remembered"] = measure(lambda: engine.evaluate(remembered))
    wrong = question(known[1], "work/1/a")
    bad = Question(wrong.subject, wrong.grant, wrong.tool, {"path": 1}, wrong.facts)
    results["invalid arguments"] = measure(lambda: engine.evaluate(bad))
    results["could_permit"] = measure(lambda: engine.could_permit(known[1]))
    results["build (50 policies, 24 tools)"] = measure(lambda: CedarEngine.build(read, known), 5)
    results["self_test"] = measure(engine.self_test, 5)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="write one JSON object")
    args = parser.parse_args()
    results = run()
    if args.json:
        print(json.dumps(results, indent=2))
        return
    print(f"{'':32}{'p50 us':>12}{'p99 us':>12}")
    for name, result in results.items():
        print(f"{name:32}{result['p50_us']:>12.1f}{result['p99_us']:>12.1f}")


if __name__ == "__main__":
    main()
