"""`forestall explain` on ledgers that were really written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from forestall import catalogue
from forestall.adapter.ledger import keys
from forestall.adapter.ledger.log import FileLedger
from forestall.cli import main
from forestall.core import entry
from forestall.core.approval import Approver
from forestall.core.canonical import canonical, digest
from forestall.core.control import Command, Order, Reach, Target
from forestall.core.effects import Effect
from forestall.core.entry import Kind, Stream, Use
from forestall.core.fate import Fate
from forestall.core.label import CLEAN, WORST
from forestall.core.model import (
    Action,
    Approval,
    Assurance,
    Decision,
    Deny,
    Executable,
    Facts,
    Grant,
    Hold,
    Permit,
    RealPath,
    Risk,
    Ruling,
    Subject,
    Tool,
)
from forestall.core.reason import Reason
from forestall.home import Home
from forestall.policy import bundle
from forestall.policy.cedar import CedarEngine
from tests.unit.policy.home import furnish

RUNS = Executable("/opt/agent", "sha256:0", interpreter=False, same_uid=False)
SUBJECT = Subject("uid:1000", Assurance.ATTESTED, "a client", instance="unix:1000:b:7:9", executable=RUNS)
GRANT = Grant("task-1", "uid:1000", "write the report", "default", ("*",), frozenset(Effect), 9_999)
ARGUMENTS = {"path": "/etc/passwd", "content": "hunter2"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return furnish(tmp_path)


def tool(home: Home) -> Tool:
    found = catalogue.load(home.catalogue).find("fs/write_file")
    assert found is not None
    return found


def action(home: Home, name: str) -> Action:
    of = tool(home)
    return Action(
        name,
        "task-1",
        of.id,
        of.pin,
        ARGUMENTS,
        canonical(ARGUMENTS),
        digest(ARGUMENTS),
        salt=b"0123456789abcdef",
        at=1_700_000_000_000,
        proof=None,
    )


def facts(home: Home) -> Facts:
    paths = {"path": (RealPath("/etc/passwd"),)}
    return Facts(WORST, tool(home).effects, tool(home).confidence, reaches_own_files=False, paths=paths)


def policy_digest(home: Home) -> str:
    return CedarEngine.build(bundle.read(home.policy), list(catalogue.load(home.catalogue).all())).digest


@pytest.fixture
def written(home: Home) -> Home:
    """A ledger with a denial, a hold, a permit with its outcome, and a refusal before any fact was known."""
    now = policy_digest(home)
    ledger = FileLedger.open(home.ledger, keys=keys.create(home.keys))
    try:
        permit = Permit(
            "permitted-1", "task-1", "fs/write_file", tool(home).pin, digest(ARGUMENTS), frozenset({Effect.WRITE}),
            CLEAN, ("reports",), now, 9_999,
        )  # fmt: skip
        hold = Hold("held-1", Reason.NEEDS_APPROVAL, (Approval(("user:root",)),), ("ask",), now)
        denial = Deny("denied-1", Reason.FORBIDDEN, ("forestall:own-files",), now, "because")
        early = Deny("early-1", Reason.UNKNOWN_TOOL)
        for one in (
            entry.opened(GRANT, SUBJECT, 1),
            entry.permitted(permit, action(home, "permitted-1"), SUBJECT, facts(home), durable=True),
            entry.settled(permit, Fate.DONE, 2),
            entry.held(hold, action(home, "held-1"), SUBJECT, facts(home)),
            entry.denied(denial, action(home, "denied-1"), SUBJECT, facts(home)),
            entry.denied(early, action(home, "early-1"), None, None),
        ):
            ledger.append(one)
    finally:
        ledger.close()
    return home


def explain(home: Home, capsys: pytest.CaptureFixture[str], name: str, *more: str) -> tuple[int, str, str]:
    code = main(["explain", "--home", str(home.root), name, *more])
    return code, *capsys.readouterr()


def test_who_what_and_every_fact(written: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explain(written, capsys, "held-1")
    assert code == 0
    for words in (
        "held-1 was held (needs_approval), 2023-11-14T22:13:20.000Z",
        "uid:1000 (assurance attested, calls itself 'a client')",
        "instance   unix:1000:b:7:9",
        'runs       "/opt/agent" (sha256:0), as another user than the decision point\'s',
        "task-1: 'write the report' under the mandate `default`",
        f"fs/write_file, pinned {tool(written).pin}",
        'arguments  {"content": "hunter2", "path": "/etc/passwd"}',
        "effects    write (declared)",
        "seen       untrusted, secret",
        "own files  not reached",
        "risk       not known",
        "depth      0",
        "`forestall prove held-1` exports it",
    ):
        assert words in out


def test_facts_of_sources_and_paths_inside_are_told(written: Home, capsys: pytest.CaptureFixture[str]) -> None:
    paths = {"path": (RealPath("/srv/a", "a"),)}
    seen = replace(facts(written), paths=paths, risk=Risk.LOW, posture={"disk": "encrypted"}, depth=2)
    one_more(written, Deny("told-1", Reason.NO_POLICY, (), policy_digest(written)), seen)
    _, out, _ = explain(written, capsys, "told-1")
    for words in ('"/srv/a" ("a" in the working directory)', "risk       low", "depth      2"):
        assert words in out
    assert "posture    disk: encrypted" in out


def test_every_policy_that_mattered_and_what_would_have_changed_it(
    written: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    _, out, _ = explain(written, capsys, "held-1")
    file = written.policy / "main.cedar"
    assert f"{file}:4: permit `reports` does not apply: context.paths.path has inside" in out
    assert f"{file}:8: permit `ask` does not apply: context has approval" in out
    assert 'when { context.paths has path.inside && context.paths.path.inside like "reports/*" };' in out
    assert "An approval by 1 of user:root." in out
    assert 'path       path leads to "/etc/passwd" (outside the working directory)' in out
    assert "changed since" not in out


def test_how_a_permit_ended_is_said(written: Home, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = explain(written, capsys, "permitted-1")
    assert "permitted-1 was permitted" in out
    assert "output     trusted, public" in out
    assert "settled    done" in out


def test_a_change_of_policy_since_is_said(written: Home, capsys: pytest.CaptureFixture[str]) -> None:
    (written.policy / "more.cedar").write_text('forbid (principal, action in Action::"read", resource);')
    _, out, _ = explain(written, capsys, "held-1")
    assert "The policy or the catalogue has changed since" in out


def test_a_policy_that_is_broken_now_is_said_and_the_rest_is_told(
    written: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    (written.policy / "more.cedar").write_text("permit;")
    code, out, _ = explain(written, capsys, "denied-1")
    assert code == 0
    assert "more.cedar:1:7: This does not parse" in out
    assert "denied-1 was denied (forbidden): because" in out


def test_a_refusal_before_any_fact_was_known(written: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explain(written, capsys, "early-1")
    assert code == 0
    assert "nobody who could be verified" in out
    assert "It was not policy that refused this." in out
    assert "A review of the tool: `forestall init` proposes one, in catalogue/fs.toml." in out


def one_more(home: Home, denial: Deny, seen: Facts | None) -> None:
    ledger = FileLedger.open(home.ledger, keys=keys.load(home.keys))
    try:
        ledger.append(entry.denied(denial, replace(action(home, denial.id), pin=""), SUBJECT, seen))
    finally:
        ledger.close()


def test_what_policy_did_not_refuse_is_not_said_to_be_policys(
    written: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    """The policies permit it: nothing about them would have changed that the budget was used up."""
    one_more(written, Deny("spent-1", Reason.BUDGET), facts(written))
    code, out, _ = explain(written, capsys, "spent-1")
    assert code == 0
    assert "A larger budget, under [budget] in policy/mandates/default.toml, or a new task." in out
    assert "It was not policy that refused this." in out
    assert "today" not in out
    assert "pinned" not in out
    assert "changed since" not in out
    told = json.loads(explain(written, capsys, "spent-1", "--json")[1])
    assert told["changes"] == ["A larger budget, under [budget] in policy/mandates/default.toml, or a new task."]


def test_a_declined_call_shows_the_policy_that_asked_and_that_a_person_said_no(
    written: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    one_more(written, Deny("no-1", Reason.NOT_APPROVED, ("ask",), policy_digest(written)), facts(written))
    _, out, _ = explain(written, capsys, "no-1")
    assert "permit `ask` does not apply" in out
    assert "exactly this call was declined" in out
    assert "An approval by 1 of user:root." not in out


def test_without_the_payload_key_the_arguments_stay_sealed(written: Home, capsys: pytest.CaptureFixture[str]) -> None:
    (written.keys / "payload.key").unlink()
    code, out, _ = explain(written, capsys, "held-1")
    assert code == 0
    assert "hunter2" not in out
    assert "The arguments cannot be opened" in out


def test_an_unknown_id_is_an_error_that_says_what_to_do(written: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = explain(written, capsys, "nothing-1")
    assert (code, out) == (65, "")
    assert "holds no decision, task, order or credential `nothing-1`; `forestall log` lists them." in err


@pytest.fixture
def ordered(home: Home) -> Home:
    """A task and one below it, orders about them and about another, and a denial because of one."""
    child = replace(GRANT, task="task-2", parent="task-1", root="task-1", depth=1)
    ruling = Ruling(Decision.PERMIT, "", "", policies=("longer",))
    bot = Command(Order.KILL, Target(Reach.AGENT, "uid:1000"), "read a bad page", "uid/0")
    other = Command(Order.SUSPEND, Target(Reach.USER, "ada"), "", "uid/0")
    risk = Command(Order.RISK, Target(Reach.TASK, "task-2"), "", "uid/0", Risk.HIGH)
    denial = Deny("denied-2", Reason.REVOKED)
    below = replace(action(home, "denied-2"), task="task-2")
    ledger = FileLedger.open(home.ledger, keys=keys.create(home.keys))
    try:
        for one in (
            entry.opened(GRANT, SUBJECT, 1),
            entry.opened(child, SUBJECT, 2),
            entry.extended("task-2", 5_000, SUBJECT, 3, ruling),
            entry.ordered(risk, "order-1", 4),
            entry.ordered(other, "order-2", 5),
            entry.ordered(bot, "order-3", 6),
            entry.denied(denial, below, SUBJECT, None),
        ):
            ledger.append(one)
    finally:
        ledger.close()
    return home


def test_a_task_is_told_with_its_extensions_and_the_orders_about_it(
    ordered: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = explain(ordered, capsys, "task-2")
    assert code == 0
    assert [line.split()[1] for line in out.splitlines()] == ["opened", "extended", "ordered", "ordered"]
    assert "until 1970-01-01T00:00:05.000Z, by uid:1000" in out
    assert "risk high task task-2, by uid/0: no reason was given" in out
    assert "kill agent uid:1000, by uid/0: read a bad page" in out
    told = json.loads(explain(ordered, capsys, "task-2", "--json")[1])
    assert [body["kind"] for body in told["records"]] == ["opened", "extended", "ordered", "ordered"]


def test_an_order_is_told(ordered: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explain(ordered, capsys, "order-2")
    assert (code, out) == (0, "1970-01-01T00:00:00.005Z  ordered   suspend user ada, by uid/0: no reason was given\n")


def test_of_what_was_stopped_the_orders_are_shown(ordered: Home, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = explain(ordered, capsys, "denied-2")
    assert "order      1970-01-01T00:00:00.006Z  ordered   kill agent uid:1000, by uid/0: read a bad page" in out
    assert "ada" not in out
    assert len(json.loads(explain(ordered, capsys, "denied-2", "--json")[1])["orders"]) == 2


def test_every_id_that_the_log_shows_can_be_explained(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    hold = entry.held(Hold("held-1", Reason.NEEDS_APPROVAL, ()), action(home, "held-1"), SUBJECT, facts(home))
    held = {**hold.body, "id": hold.id}
    ann = Approver(1000, frozenset({"user:ann"}))
    ledger = FileLedger.open(home.ledger, keys=keys.create(home.keys))
    try:
        for one in (
            hold,
            entry.approved(held, b"", ann, "yes-1", shown="sha256:1", expires_at=9, at=1),
            entry.declined(held, b"", ann, "no-1", shown="sha256:1", why="not now", at=2),
            entry.used("used-1", [Use("jti", "issuer", 9)], 3, durable=True),
            entry.quarantined(
                "odd-1", "task-1", "fs/read", seen="sha256:2", reviewed="sha256:1", change="cosmetic", at=4
            ),
            entry.Entry(Stream.DENIALS, Kind.SUPPRESSED, "many-1", 5, {"count": 3, "from": 1, "until": 5}),
        ):
            ledger.append(one)
    finally:
        ledger.close()
    for name, words in {
        "yes-1": "approved  fs/write_file, by uid 1000; `forestall explain held-1` shows the call",
        "no-1": "declined  fs/write_file, by uid 1000: not now; ",
        "used-1": "used      1 of what may be used once",
        "odd-1": "fs/read changed (cosmetic: only its wording); reviewed as sha256:1, seen as sha256:2.",
        "many-1": "suppressed 3 denials beyond the quota",
    }.items():
        code, out, _ = explain(home, capsys, name)
        assert code == 0
        assert words in out


def test_a_home_without_a_ledger_is_an_error(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = explain(home, capsys, "x")
    assert code != 0
    assert err.startswith("forestall: ")


def test_a_program_gets_the_same(written: Home, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = explain(written, capsys, "held-1", "--json")
    answer = json.loads(out)
    assert code == 0
    assert answer["arguments"] == ARGUMENTS
    assert answer["decision"]["reason"] == "needs_approval"
    assert answer["task"]["purpose"] == "write the report"
    assert answer["proof"] == {"stream": "denials", "index": 0}
    assert "An approval by 1 of user:root." in answer["changes"]
    (reports,) = [policy for policy in answer["policies"] if policy["id"] == "reports"]
    assert (reports["line"], reports["applied"], reports["effect"]) == (4, False, "permit")


def test_a_denial_that_was_only_counted_is_explained_by_the_one_that_it_repeats(
    written: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    ledger = FileLedger.open(written.ledger, keys=keys.load(written.keys))
    for name in ("first-1", "again-1"):
        denial = Deny(name, Reason.FORBIDDEN, ("forestall:own-files",), policy_digest(written))
        ledger.append(entry.denied(denial, action(written, name), SUBJECT, facts(written)))
    ledger.close()
    code, out, _ = explain(written, capsys, "again-1")
    assert code == 0
    assert out.startswith("first-1 was denied (forbidden)")
    assert "repeated   1" in out
