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
from demo.agent import Act, Agent, Step, take
from demo.attack import ATTACK
from demo.desk import Desk
from demo.errand import ACTS, ERRAND, PAY
from demo.guard import Verification
from demo.handing import HANDED_ON, HIJACKED, STOPPED
from demo.hands import Answer, environment, once, servers
from demo.harm import HAPPENED, paid
from demo.judge import SERVERS, judge
from demo.play import LAST, SCENES, play, steps_of
from demo.scene import Play, Took
from demo.shop import harm as shop_harm
from demo.shop import lent
from demo.shop.database import EXTRA, Shop, missing, opened
from demo.shop.lent import Story
from demo.shop.play import AT_DATABASE, SHOP, SHOP_LAST, play_shop
from demo.shop.script import AFTERWARDS, TAKEN
from demo.show import TITLE
from demo.sink import INTRANET_PAGE, Site, site
from demo.task import AFTER, BEFORE, READ_ON
from demo.world import World, build, payment

from forestall.cli import main
from forestall.testing.postgresql import INSTALL, Cluster, programs

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
    "borrow": "out_of_scope",
    "october": "out_of_scope",
    "around": "out_of_scope",
    "more": "budget",
    "parents-key": "out_of_scope",
    "parents-grant": "invalid_proof",
    "own-task": "forbidden",
    "widen": "wider",
    "back": "cycle",
    "rewrite": "revoked",
    "restart": "revoked",
    "meddle": "revoked",
    "again": "revoked",
}

DATABASE = {
    "payroll": "insufficient_privilege",
    "peek": "no_such_row",
    "redirect": "no_such_row",
    "program": "insufficient_privilege",
    "role": "insufficient_privilege",
    "elsewhere": "too_many_connections",
    "stay": "insufficient_privilege",
    "return": "invalid_password",
}
"""What PostgreSQL itself says to the support agent."""

TABLES = ("tickets", "orders", "payroll")

WITHOUT_A_DECISION = {"twice", "method", "parents-grant", "restart"}
"""Refused before there is a call to decide: a message that cannot be read, a connection that is not taken."""

BELOW_OR_STOPPED = {step.name for step in (*HIJACKED, *STOPPED)}

WHATEVER_POLICY_SAYS = {"key", "loosen", "twice", "case", "unlisted", "hidden", "turn", *BELOW_OR_STOPPED} - {
    "own-task"
}
"""What stays prevented under a policy and a mandate that permit everything."""


WORLD = World(Path("/nowhere"), Site(1, []), Site(2, []))
SHOPPED = dataclasses.replace(WORLD, shop=Shop(Cluster(Path("/nowhere")), Path("/nowhere")))
"""The same where PostgreSQL is installed."""

STEPS = steps_of(SHOPPED)


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
    assert data["problems"] == data["left_out"] == []
    assert done.returncode == 0
    assert data["ledger"]["verified"]
    assert data["changed"]["with"] == data["leaked"]["with"] == []
    for step in data["steps"]:
        assert step["without"]["happened"], step
        assert step["with"]["happened"] is not step["attack"], step
    reasons = {step["name"]: step["with"].get("reason") for step in data["steps"] if step["attack"]}
    assert {name: reasons[name] for name in REASONS} == REASONS
    refusals = {step["name"]: step["with"].get("database") for step in data["steps"] if step["attack"]}
    assert {name: said for name, said in refusals.items() if said} == DATABASE
    require_in_ledger(data)
    require_credential(data)
    assert processes(scratch) == []


def require_in_ledger(data: dict[str, Any]) -> None:
    """Whoever was told of a decision finds it in the log, and it can be explained."""
    log = forestall("log", "--home", data["home"], "--json").splitlines()
    entries = list(map(json.loads, log))
    require_two_agents(entries)
    known = {name: entry for entry in entries for name in (entry["id"], *entry.get("ids", ()))}
    told = [step["with"] for step in data["steps"] if "decision_id" in step["with"]]
    assert len(told) >= len(REASONS) - len(WITHOUT_A_DECISION)
    assert all(known[answer["decision_id"]]["reason"] == answer["reason"] for answer in told)
    assert told[0]["reason"] in forestall("explain", "--home", data["home"], told[0]["decision_id"])


def require_two_agents(entries: list[dict[str, Any]]) -> None:
    """The sub-agent acted as itself, in a task of its own below its parent's, and did there what its errand says."""
    parent, child, _ = [entry for entry in entries if entry["kind"] == "opened"]
    assert (parent["subject"]["id"], child["subject"]["id"]) == ("reporter", "reader")
    assert (child["parent"], child["actors"]) == (
        parent["task"],
        [["example.org", "reader"], ["example.org", "reporter"]],
    )
    assert parent["key"] != child["key"]
    of_both = {parent["task"], child["task"]}
    permitted = [entry for entry in entries if entry["kind"] == "permitted" and entry["task"] in of_both]
    assert {entry["subject"]["id"]: entry["task"] for entry in permitted} == {
        "reporter": parent["task"],
        "reader": child["task"],
    }
    assert [entry["tool"] for entry in permitted if entry["task"] == child["task"]] == [
        "files/read_file",
        "files/write_file",
        "files/read_file",
    ]
    (killed,) = (entry for entry in entries if entry["kind"] == "ordered")
    assert (killed["order"], killed["name"]) == ("kill", parent["task"])
    assert not any(entry["at"] > killed["at"] for entry in permitted)


def require_credential(data: dict[str, Any]) -> None:
    """Whoever reads the ledger can tell why there was one, whose rows it saw, for how long it lived, and its end."""
    (told,) = data["credentials"]
    assert data["alive"] == {"while": [told["name"]], "after": []}
    assert (told["subject"], told["purpose"], told["tool"]) == ("support", "Answer a customer", "forestall/equip")
    assert told["rights"]["parameters"] == {"customer": "7"}
    assert told["why"] == "task_ended"
    assert json.loads(forestall("leases", "--home", data["home"], "--json"))["leases"] == []
    (ended,) = json.loads(forestall("leases", "--ended", "--home", data["home"], "--json"))["ended"]
    assert (ended["name"], ended["permit"], ended["why"]) == (told["name"], told["permit"], "task_ended")
    assert ended["lived_ms"] == round(told["seconds"] * 1000)


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
        mandate = policy / "mandates" / "report.toml"
        mandate.write_text(mandate.read_text().replace('"external"]', '"external", "destructive"]'))
        try:
            result = asyncio.run(play(world, lambda _doing: None, guarded=True))
        finally:
            guard.stop(world)
        harmed = {took.step.name for took in result.took if took.step.attack and took.happened}
    assert {step.name for step in steps_of(world) if step.attack} - harmed == WHATEVER_POLICY_SAYS
    assert result.changed
    assert processes(scratch) == []


@pytest.mark.parametrize("shopped", [False, True])
def test_the_policy_passes_its_own_tests(shopped: bool, scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = dataclasses.replace(SHOPPED if shopped else WORLD, root=scratch)
    guard.furnish(world)
    if shopped:
        lent.furnish_home(world)
    for command in ("check", "test"):
        assert main([command, "--home", str(world.forestall_home)]) == 0, capsys.readouterr().out


def test_every_step_has_a_look_at_the_world() -> None:
    assert {step.name for step in STEPS} == {*HAPPENED, *shop_harm.HAPPENED}
    assert len({step.name for step in STEPS}) == len(STEPS)


def perfect(*, guarded: bool) -> Play:
    def took(step: Step) -> Took:
        if not (guarded and step.attack):
            return Took(step, Answer(""), happened=True)
        refused = {"database": "no_such_row"} if step.name in AT_DATABASE else {"reason": "no_policy"}
        return Took(step, Answer("", failed=True, **refused), happened=False)

    harm = [] if guarded else ["something"]
    ran = [f"files-{number}" for number in range(SERVERS)]
    run_on = [] if guarded else list(ran)
    result = Play([took(step) for step in STEPS], changed=list(harm), leaked=list(harm), ran=ran, run_on=run_on)
    if guarded:
        result.lent, result.stories = ["lease"], [Story("lease", "support", "", "", "", {}, 1.5, "task_ended")]
    return result


def changed(result: Play, name: str, **values: Any) -> Play:
    result.took = [dataclasses.replace(took, **values) if took.step.name == name else took for took in result.took]
    return result


VERIFIED = Verification(verified=True, said="ok", command="")


def proved(without: Play, guarded: Play, ledger: Verification = VERIFIED) -> bool:
    return judge(SHOPPED, without, guarded, ledger).proved


def test_a_perfect_run_is_a_proof() -> None:
    assert proved(perfect(guarded=False), perfect(guarded=True))


def test_a_ledger_that_does_not_verify_is_no_proof() -> None:
    refused = Verification(verified=False, said="no", command="")
    assert not proved(perfect(guarded=False), perfect(guarded=True), refused)


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_step_that_goes_the_wrong_way_is_no_proof(step: Step) -> None:
    assert not proved(changed(perfect(guarded=False), step.name, happened=False), perfect(guarded=True))
    assert not proved(perfect(guarded=False), changed(perfect(guarded=True), step.name, happened=step.attack))


@pytest.mark.parametrize("step", [*ATTACK, *TAKEN, *AFTERWARDS], ids=lambda step: step.name)
def test_an_attack_that_fails_by_itself_is_no_proof(step: Step) -> None:
    guarded = changed(perfect(guarded=True), step.name, answer=Answer("it broke", failed=True))
    assert not proved(perfect(guarded=False), guarded)


@pytest.mark.parametrize("step", [*TAKEN, *AFTERWARDS], ids=lambda step: step.name)
def test_what_forestall_refused_is_no_proof_that_the_database_does(step: Step) -> None:
    refused = Answer("", failed=True, reason="no_policy", decision="deny", decision_id="1")
    guarded = changed(perfect(guarded=True), step.name, answer=refused)
    assert not proved(perfect(guarded=False), guarded)


def test_a_credential_that_nobody_saw_is_no_proof() -> None:
    guarded = perfect(guarded=True)
    guarded.lent = []
    assert not proved(perfect(guarded=False), guarded)


def test_a_credential_that_outlives_its_task_is_no_proof() -> None:
    guarded = perfect(guarded=True)
    guarded.left = list(guarded.lent)
    assert not proved(perfect(guarded=False), guarded)


def test_a_credential_whose_end_the_ledger_does_not_tell_is_no_proof() -> None:
    for stories in ([], [dataclasses.replace(perfect(guarded=True).stories[0], seconds=None)]):
        guarded = perfect(guarded=True)
        guarded.stories = stories
        assert not proved(perfect(guarded=False), guarded)


def test_without_postgresql_the_rest_is_played_and_judged() -> None:
    """And nothing of what is missing is asked for."""
    names = {step.name for step in steps_of(WORLD)}
    guarded, without = perfect(guarded=True), perfect(guarded=False)
    for result in (guarded, without):
        result.took = [took for took in result.took if took.step.name in names]
        result.lent, result.stories = [], []
    verdict = judge(WORLD, without, guarded, VERIFIED)
    assert verdict.proved
    assert verdict.data["left_out"] == ["postgresql"]
    assert not judge(SHOPPED, without, guarded, VERIFIED).proved


def test_a_machine_without_postgresql_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESTALL_POSTGRES_BIN", str(tmp_path))
    programs.cache_clear()
    assert missing() == INSTALL


def test_a_machine_without_the_client_library_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "forestall.testing.postgresql")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert missing() == EXTRA


def test_where_no_shop_is_wanted_none_is_opened(tmp_path: Path) -> None:
    with opened(tmp_path, wanted=False) as shop:
        assert shop is None


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


def test_a_server_that_outlives_its_task_is_no_proof() -> None:
    guarded = perfect(guarded=True)
    guarded.run_on = guarded.ran[:1]
    assert not proved(perfect(guarded=False), guarded)


@pytest.mark.parametrize("guarded", [False, True])
def test_servers_that_had_ended_by_themselves_are_no_proof(guarded: bool) -> None:
    plays = {False: perfect(guarded=False), True: perfect(guarded=True)}
    plays[guarded].ran = plays[guarded].run_on = []
    assert not proved(plays[False], plays[True])


def test_a_server_counts_as_running_until_its_process_has_ended(scratch: Path) -> None:
    world = dataclasses.replace(WORLD, root=scratch)
    world.running.mkdir()
    (world.running / "files-0").touch()  # of one that ended long ago
    command = servers(world)["files"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=scratch, env=environment(world), **pipes) as one:
        assert one.stdin is not None
        assert one.stdout is not None
        one.stdin.write(b'{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
        one.stdin.flush()
        assert one.stdout.readline()
        assert guard.running(world) == [f"files-{one.pid}"]
        one.kill()
        one.wait(SECONDS)
        assert guard.running(world) == []


@pytest.mark.slow
def test_what_stops_the_sub_agent_is_the_key_and_the_bounds(scratch: Path) -> None:
    """With its parent's key, or the whole of its parent's task, it would do what it is kept from."""
    with site("") as intranet, site("") as collector:
        world = build(scratch / "world", intranet, collector)
        guard.furnish(world)
        try:
            parent = Desk(world, "reporter", guard.serve(world))
            reader = parent.of("reader")
            assert not parent.open().failed
            posed = reader.wrap_in(Path(reader.pose(parent.token)))
            assert asyncio.run(once(world, posed, PAY, text=payment("posed"))).reason == "invalid_proof"
            assert not asyncio.run(once(world, parent.wrap, PAY, text=payment("parent"))).failed
            assert paid("parent")(world, Answer(""))
            assert not paid("posed")(world, Answer(""))

            assert not reader.accept(parent.hand_on("reader").text).failed
            everything = {"sql": "select * from customers"}
            assert "Cobalt" in asyncio.run(once(world, reader.wrap, "database/query", **everything)).text
            narrow = reader.accept(parent.hand_on("reader", **ERRAND).text)
            refused = asyncio.run(once(world, reader.wrap_in(Path(narrow.text)), "database/query", **everything))
            assert refused.reason == "out_of_scope"
        finally:
            guard.stop(world)
    assert processes(scratch) == []


@pytest.mark.slow
def test_what_stops_the_support_agent_is_its_role(scratch: Path) -> None:
    """With more in its role it would read what it is kept from here; the rest is no question of rights on tables."""
    with site("") as intranet, site("") as collector, opened(scratch, wanted=True) as shop:
        world = build(scratch / "world", intranet, collector, shop)
        assert shop is not None
        guard.furnish(world)
        lent.furnish(world)
        everything = "GRANT SELECT, UPDATE ON ALL TABLES IN SCHEMA shop TO forestall_owner WITH GRANT OPTION;"
        shop.cluster.run_script(everything, "shop")
        allow = [
            f'[[credentials.shop.allow]]\ntable = "shop.{name}"\noperations = ["select", "update"]' for name in TABLES
        ]
        settings = world.forestall_home / "credentials.toml"
        settings.write_text("\n".join([settings.read_text().partition("[[")[0], *allow]))
        for name in ("orders", "tickets"):
            shop.cluster.run_script(f"ALTER TABLE shop.{name} DISABLE ROW LEVEL SECURITY;", "shop")
        result = Play()
        try:
            asyncio.run(play_shop(world, result, lambda _doing: None, guard.serve(world)))
        finally:
            guard.stop(world)
    harmed = {took.step.name for took in result.took if took.step.attack and took.happened}
    assert harmed == {"payroll", "peek", "redirect"}
    assert "shop: orders of others" in result.changed
    assert result.lent
    assert result.left == []
    assert processes(scratch) == processes(shop.cluster.folder) == []
    assert not shop.cluster.folder.exists()


@pytest.mark.slow
def test_an_agent_whose_task_is_not_opened_is_not_played(scratch: Path) -> None:
    with site("") as intranet, site("") as collector:
        world = build(scratch / "world", intranet, collector)
        guard.furnish(world)
        (world.forestall_home / "policy" / "demo.cedar").write_text(
            '@id("none")\nforbid (principal, action, resource);\n'
        )
        try:
            with pytest.raises(RuntimeError, match="forbidden"):
                asyncio.run(play(world, lambda _doing: None, guarded=True))
        finally:
            guard.stop(world)
    assert guard.running(world) == []


def test_the_sub_agent_does_its_errand_with_the_tools_that_it_attacks_with() -> None:
    def used(steps: tuple[Step, ...]) -> set[str]:
        own = {name: act for name, act in ACTS.items() if name != "widen"}  # which has another agent do it
        return called_by([own[step.name] for step in steps if step.name in own])

    assert used(HANDED_ON) == set(ERRAND["tools"])
    assert used(HANDED_ON) <= used(HIJACKED)


def test_every_step_of_the_sub_agent_is_in_the_script() -> None:
    assert set(ACTS) <= {step.name for step in STEPS}


def test_the_table_is_divided_into_the_steps_that_are_judged() -> None:
    assert tuple(step for scene in (*SCENES, LAST, *SHOP, SHOP_LAST) for step in scene.steps) == STEPS
    assert all(len(step.title) <= TITLE for step in STEPS)
    assert {scene.poison for scene in (*SCENES, *SHOP)} - {""} <= {step.name for step in STEPS if not step.attack}


def test_the_honest_task_uses_the_tools_that_the_attack_uses() -> None:
    """Otherwise switching tools off would pass for a control."""
    honest, attacking = tools_of(BEFORE + READ_ON + AFTER), tools_of(ATTACK)
    assert {"files/read_file", "files/write_file", "release/push", "fetch/fetch", "git/git_add"} <= honest & attacking
    assert {"database/query", "rates/convert"} <= honest & attacking


def tools_of(steps: tuple[Step, ...]) -> set[str]:
    return called_by([step.act for step in steps])


def called_by(acts: list[Act]) -> set[str]:
    """The tools that they call, in a world where every call is answered and nobody is asked."""
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
        agent = Agent(WORLD, Hands(), Desk(WORLD, "reporter"))  # type: ignore[arg-type]  # the three methods in use
        agent.memory.update(query="[[4, 48250]]", time='{"datetime": "2026-11-30T00:00:00"}', convert="1 EUR")
        for act in acts:
            await take(agent, Step("", "", act))

    asyncio.run(walk())
    return called
