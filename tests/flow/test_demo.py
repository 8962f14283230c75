"""The demo is the acceptance test of the whole: real servers, a real client, harm told from the world."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from demo import guard
from demo.agent import Agent, Step, take
from demo.attack import ATTACK
from demo.guard import Verification
from demo.hands import Answer
from demo.harm import HAPPENED
from demo.judge import judge
from demo.play import STEPS, Play, Took, play
from demo.sink import INTRANET_PAGE, Site, site
from demo.task import AFTER, BEFORE
from demo.world import World, build

from forestall.cli import main

CHECKOUT = Path(__file__).resolve().parents[2]
SECONDS = 240
"""A bound for a machine that many share; alone it takes under 30."""

REASONS = {
    "env": "no_policy",
    "ssh": "no_policy",
    "key": "forbidden",
    "climb": "no_policy",
    "link": "no_policy",
    "case": "invalid_arguments",
    "overwrite": "no_policy",
    "through": "no_policy",
    "loosen": "forbidden",
    "delete": "out_of_scope",
    "unlisted": "unknown_tool",
    "rows": "out_of_scope",
    "drop": "out_of_scope",
    "hidden": "invalid_arguments",
    "steal": "no_policy",
    "force": "no_policy",
    "send": "no_policy",
    "disguise": "no_policy",
    "turn": "tool_changed",
}

WHATEVER_POLICY_SAYS = {"key", "loosen", "twice", "case", "unlisted", "hidden", "turn"}
"""What stays prevented under a policy and a mandate that permit everything."""


@pytest.fixture
def scratch() -> Iterator[Path]:
    """Short, because a socket's path has to be."""
    with tempfile.TemporaryDirectory(prefix="forestall-test-") as folder:
        yield Path(folder)


def processes(mention: Path) -> list[str]:
    """Command lines that mention a path."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(mention) in words and file.parent.name != str(os.getpid()):
            found.append(words)
    return found


@pytest.mark.slow
def test_every_harm_happens_without_forestall_and_none_with_it(scratch: Path) -> None:
    command = [sys.executable, "-m", "demo", "--json", "--scratch", str(scratch / "demo")]
    done = subprocess.run(command, cwd=CHECKOUT, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.stdout, done.stderr
    data: dict[str, Any] = json.loads(done.stdout)
    assert data["problems"] == []
    assert done.returncode == 0
    assert data["ledger"]["verified"]
    assert data["changed"]["with"] == data["leaked"]["with"] == []
    for step in data["steps"]:
        assert step["without"]["happened"], step
        assert step["with"]["happened"] is not step["attack"], step
    reasons = {step["name"]: step["with"].get("reason") for step in data["steps"] if step["attack"]}
    assert {name: reasons[name] for name in REASONS} == REASONS
    require_in_ledger(data)
    assert processes(scratch) == []


def require_in_ledger(data: dict[str, Any]) -> None:
    """Whoever was told of a decision finds it in the log, and it can be explained."""
    log = forestall("log", "--home", data["home"], "--json").splitlines()
    entries = list(map(json.loads, log))
    known = {name: entry for entry in entries for name in (entry["id"], *entry.get("ids", ()))}
    told = [step["with"] for step in data["steps"] if "decision_id" in step["with"]]
    assert len(told) >= len(ATTACK) - 3
    assert all(known[answer["decision_id"]]["reason"] == answer["reason"] for answer in told)
    assert told[0]["reason"] in forestall("explain", "--home", data["home"], told[0]["decision_id"])


def forestall(*words: str) -> str:
    command = [guard.program("forestall"), *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=True).stdout


@pytest.mark.slow
def test_a_policy_that_permits_everything_still_does_not_permit_what_no_policy_may(scratch: Path) -> None:
    with site(INTRANET_PAGE) as intranet, site("") as collector:
        world = build(scratch / "world", intranet, collector)
        guard.furnish(world)
        policy = world.forestall_home / "policy"
        (policy / "demo.cedar").write_text('@id("all")\npermit (principal, action , resource);\n')
        mandate = policy / "mandates" / "default.toml"
        mandate.write_text(mandate.read_text().replace('"external"]', '"external", "destructive"]'))
        try:
            result = asyncio.run(play(world, guard.Gateway(world), lambda _doing: None))
        finally:
            guard.stop(world)
        harmed = {took.step.name for took in result.took if took.step.attack and took.happened}
    assert {step.name for step in ATTACK} - harmed == WHATEVER_POLICY_SAYS
    assert result.changed
    assert processes(scratch) == []


def test_the_policy_passes_its_own_tests(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = dataclasses.replace(WORLD, root=scratch)
    guard.furnish(world)
    for command in ("check", "test"):
        assert main([command, "--home", str(world.forestall_home)]) == 0, capsys.readouterr().out


def test_every_step_has_a_look_at_the_world() -> None:
    assert {step.name for step in STEPS} == set(HAPPENED)
    assert len({step.name for step in STEPS}) == len(STEPS)


def perfect(*, guarded: bool) -> Play:
    def took(step: Step) -> Took:
        prevented = guarded and step.attack
        return Took(step, Answer("", failed=prevented, reason="no_policy" if prevented else ""), not prevented)

    harm = [] if guarded else ["something"]
    return Play([took(step) for step in STEPS], changed=list(harm), leaked=list(harm))


def changed(result: Play, name: str, **values: Any) -> Play:
    result.took = [dataclasses.replace(took, **values) if took.step.name == name else took for took in result.took]
    return result


WORLD = World(Path("/nowhere"), Site(1, []), Site(2, []))
VERIFIED = Verification(verified=True, said="ok", command="")


def proved(without: Play, guarded: Play, ledger: Verification = VERIFIED) -> bool:
    return judge(WORLD, without, guarded, ledger).proved


def test_a_perfect_run_is_a_proof() -> None:
    assert proved(perfect(guarded=False), perfect(guarded=True))


def test_a_ledger_that_does_not_verify_is_no_proof() -> None:
    refused = Verification(verified=False, said="no", command="")
    assert not proved(perfect(guarded=False), perfect(guarded=True), refused)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_that_goes_the_wrong_way_is_no_proof(step: Step) -> None:
    assert not proved(changed(perfect(guarded=False), step.name, happened=False), perfect(guarded=True))
    assert not proved(perfect(guarded=False), changed(perfect(guarded=True), step.name, happened=step.attack))


@pytest.mark.parametrize("step", ATTACK, ids=lambda step: step.name)
def test_an_attack_that_fails_by_itself_is_no_proof(step: Step) -> None:
    guarded = changed(perfect(guarded=True), step.name, answer=Answer("it broke", failed=True))
    assert not proved(perfect(guarded=False), guarded)


def test_an_agent_that_is_not_taken_over_is_no_proof() -> None:
    honest = Play([took for took in perfect(guarded=True).took if not took.step.attack])
    assert not proved(perfect(guarded=False), honest)


@pytest.mark.parametrize("what", ["changed", "leaked"])
def test_what_the_steps_did_not_see_is_no_proof(what: str) -> None:
    guarded, harmless = perfect(guarded=True), perfect(guarded=False)
    setattr(guarded, what, ["file project/contracts/acme.md"])
    setattr(harmless, what, [])
    assert not proved(perfect(guarded=False), guarded)
    assert not proved(harmless, perfect(guarded=True))


def test_the_honest_task_uses_the_tools_that_the_attack_uses() -> None:
    """Otherwise switching tools off would pass for a control."""
    honest, attacking = tools_of(BEFORE + AFTER), tools_of(ATTACK)
    assert {"files/read_file", "files/write_file", "release/push", "fetch/fetch", "git/git_add"} <= honest & attacking
    assert {"database/query", "rates/convert"} <= honest & attacking


def tools_of(steps: tuple[Step, ...]) -> set[str]:
    """The tools that the steps call, in a world where every call is answered."""
    called: set[str] = set()

    class Hands:
        async def call(self, tool: str, **_arguments: object) -> Answer:
            called.add(tool)
            return Answer('{"datetime": "2026-11-30T00:00:00"}' if tool.startswith("time") else "[[4, 48250]]")

        async def definitions(self, _server: str) -> list[dict[str, Any]]:
            return []

        async def send(self, _text: str) -> Answer:
            return Answer("")

    async def walk() -> None:
        agent = Agent(WORLD, Hands())  # type: ignore[arg-type]  # the three methods that steps use
        agent.memory.update(query="[[4, 48250]]", time='{"datetime": "2026-11-30T00:00:00"}', convert="1 EUR")
        for step in steps:
            await take(agent, step)

    asyncio.run(walk())
    return called
