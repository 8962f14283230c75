"""`forestall explain` of a credential, and of the permit that it was for, on ledgers that were really written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from forestall.adapter.ledger import keys
from forestall.adapter.ledger.log import FileLedger
from forestall.cli import main
from forestall.cli.life import WHY
from forestall.core import entry
from forestall.core.canonical import canonical, digest
from forestall.core.effects import Effect
from forestall.core.entry import Entry
from forestall.core.fate import Fate
from forestall.core.label import CLEAN, WORST
from forestall.core.model import Action, Assurance, Confidence, Facts, Grant, Lease, Permit, Scope, Subject
from forestall.core.place import Place, Where
from forestall.home import Home
from tests.unit.policy.home import furnish

REPOSITORY = Path(__file__).parent.parent.parent.parent
AT = 1_700_000_000_000
SUBJECT = Subject("uid:1000", Assurance.ATTESTED, "a client")
GRANT = Grant("task-1", "uid:1000", "answer\x1b[2J customer 7", "support", ("*",), frozenset(Effect), AT + 600_000)
LEASE = Lease(
    name="forestall-0badcafe-permit-1",
    credential="desk",
    backend="files",
    task="task-1",
    permit="permit-1",
    scope=Scope.TASK,
    rights={"table": "orders"},
    expires_at=AT + 300_000,
    place=Place(Where.ENVIRONMENT, "DATABASE_URL", "{token}"),
    exposed=True,
    standing=True,
)

Told = Callable[..., str]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return furnish(tmp_path)


@pytest.fixture
def told(home: Home, capsys: pytest.CaptureFixture[str]) -> Told:
    def explain(*words: str) -> str:
        assert main(["explain", "--home", str(home.root), *words]) == 0
        return capsys.readouterr().out

    return explain


def write(home: Home, *entries: Entry) -> None:
    ledger = FileLedger.open(home.ledger, keys=keys.create(home.keys))
    try:
        for one in entries:
            ledger.append(one)
    finally:
        ledger.close()


def permitted(name: str, at: int, credential: str | None = "desk") -> tuple[Entry, Permit]:
    arguments = {"path": "a"}
    permit = Permit(
        name, "task-1", "shop/query", "sha256:0", digest(arguments), frozenset({Effect.WRITE}), CLEAN, ("orders",),
        "sha256:1", at + 10_000, credential=credential,
    )  # fmt: skip
    action = Action(
        name, "task-1", "shop/query", "sha256:0", arguments, canonical(arguments), digest(arguments),
        salt=b"0123456789abcdef", at=at, proof=None,
    )  # fmt: skip
    facts = Facts(WORST, frozenset({Effect.WRITE}), Confidence.DECLARED, reaches_own_files=False)
    return entry.permitted(permit, action, SUBJECT, facts, durable=True), permit


def story(*ends: Entry, of: Sequence[Lease] = (LEASE,), user: str = "") -> list[Entry]:
    """A task, a permit with the credentials, and how they ended."""
    one, permit = permitted("permit-1", AT)
    return [
        entry.opened(replace(GRANT, user=user), SUBJECT, AT),
        one,
        *(entry.leased(lease, AT) for lease in of),
        entry.settled(permit, Fate.DONE, AT + 5),
        *ends,
    ]


def test_why_it_existed_for_how_long_and_that_it_is_gone(home: Home, told: Told) -> None:
    write(home, *story(entry.revoked(LEASE, "task_ended", AT + 12_000), user="https://idp#ada"))
    text = told(LEASE.name)
    for words in (
        "forestall-0badcafe-permit-1 is over, after 12 s: its task is over (task_ended)\n",
        "credential desk of files, for the task, in the environment DATABASE_URL\n",
        'rights     {"table": "orders"}\n',
        "standing   the secret was there before",
        "exposed    the user that the server runs as",
        "permit     permit-1, by orders; `forestall explain permit-1`\n",
        "call       shop/query (write); done\n",
        "agent      uid:1000 (assurance attested)\n",
        "task       task-1: 'answer\\x1b[2J customer 7'\n",
        "mandate    support\n",
        "user       https://idp#ada\n",
        "since      2023-11-14T22:13:20.000Z",
        "until 2023-11-14T22:18:20.000Z at most\n",
        "ended      2023-11-14T22:13:32.000Z\n",
    ):
        assert words in text
    answer = json.loads(told(LEASE.name, "--json"))
    assert answer["credential"] == {
        "name": LEASE.name,
        "class": "desk",
        "state": "over",
        "since": AT,
        "ended": AT + 12_000,
        "lived_ms": 12_000,
        "why": "task_ended",
    }
    assert [answer[name]["id"] for name in ("permit", "outcome", "task")] == ["permit-1", "permit-1", "task-1"]
    assert [body["kind"] for body in answer["records"]] == ["leased", "revoked"]


def test_one_without_an_end_may_be_alive(home: Home, told: Told) -> None:
    quiet = replace(LEASE, exposed=False, standing=False)
    write(home, *story(of=[quiet]))
    text = told(LEASE.name)
    assert text.startswith("forestall-0badcafe-permit-1 may be alive: the ledger has no end of it")
    assert not re.search(r"^(ended|exposed|standing|user)", text, re.MULTILINE)
    answer = json.loads(told(LEASE.name, "--json"))["credential"]
    assert (answer["state"], answer["ended"], answer["lived_ms"], answer["why"]) == ("open", None, None, "")


def test_an_end_that_was_a_lie_is_told_with_the_one_that_was_none(home: Home, told: Told) -> None:
    ends = (entry.revoked(LEASE, "done", AT + 1_000), entry.revoked(replace(LEASE, task=""), "orphan", AT + 60_000))
    write(home, *story(*ends))
    text = told(LEASE.name)
    assert "is over, after 60 s: it lived at its backend, and no record knew it (orphan)" in text
    assert "desk: done (" in text


def test_an_orphan_that_no_record_knows_has_what_its_name_tells(home: Home, told: Told) -> None:
    stray = replace(LEASE, name="forestall-0badcafe-gone", permit="gone", task="")
    write(home, entry.revoked(stray, "orphan", AT))
    text = told(stray.name)
    assert "credential desk; no record says that it was to be made\n" in text
    assert "permit     gone, which the ledger does not know\n" in text
    answer = json.loads(told(stray.name, "--json"))
    assert (answer["permit"], answer["outcome"], answer["task"]) == (None, None, None)


def test_a_permit_names_the_credential_that_it_brought_into_being(home: Home, told: Told) -> None:
    write(home, *story(entry.revoked(LEASE, "task_ended", AT + 12_000)))
    assert f"credential desk: {LEASE.name}\n" in told("permit-1")
    answer = json.loads(told("permit-1", "--json"))
    assert (answer["credentials"], len(answer["leases"])) == ([LEASE.name], 2)


def test_a_permit_that_was_lent_the_tasks_own_names_it(home: Home, told: Told) -> None:
    """Not one that was over by then, of another class, of another's call, or made after its call."""
    over = replace(LEASE, name="forestall-0badcafe-old", permit="permit-0")
    another = replace(LEASE, name="forestall-0badcafe-other", permit="permit-0", credential="mail")
    action = replace(LEASE, name="forestall-0badcafe-action", permit="permit-0", scope=Scope.ACTION)
    after = replace(LEASE, name="forestall-0badcafe-after", permit="permit-3")
    (asked, permit) = permitted("permit-2", AT + 20)
    later = (asked, entry.settled(permit, Fate.DONE, AT + 30), entry.leased(after, AT + 40))
    write(home, *story(entry.revoked(over, "risk", AT + 10), *later, of=[over, another, action, LEASE]))
    assert f"credential desk: {LEASE.name}, which was there for the task already\n" in told("permit-2")
    assert json.loads(told("permit-2", "--json"))["credentials"] == [LEASE.name]


def test_where_either_of_two_may_have_been_lent_both_are_named(home: Home, told: Told) -> None:
    twin = replace(LEASE, name="forestall-0badcafe-permit-9", permit="permit-9")
    (asked, _) = permitted("permit-2", AT + 20)
    write(home, *story(asked, of=[LEASE, twin]))
    assert f"credential desk: {LEASE.name} or {twin.name}, which was there" in told("permit-2")


def test_a_permit_whose_credential_was_not_made_says_so(home: Home, told: Told) -> None:
    (asked, permit) = permitted("permit-2", AT)
    write(home, entry.opened(GRANT, SUBJECT, AT), asked, entry.settled(permit, Fate.NOT_STARTED, AT + 1))
    assert "credential desk: none was made\n" in told("permit-2")
    assert json.loads(told("permit-2", "--json"))["credentials"] == []


def test_a_permit_without_one_has_no_line_about_it(home: Home, told: Told) -> None:
    (asked, _) = permitted("permit-2", AT, credential=None)
    write(home, entry.opened(GRANT, SUBJECT, AT), asked)
    assert "credential " not in told("permit-2")


def test_every_reason_of_an_end_is_in_the_page_and_in_words() -> None:
    page = (REPOSITORY / "docs" / "credentials" / "README.md").read_text()
    table = page.partition("| why | |")[2].partition("\n\n")[0]
    assert set(
        re.findall(r"`(\w+)`", "".join(line.split("|")[1] for line in table.splitlines() if "|" in line))
    ) == set(WHY)
    assert {fate.value for fate in Fate} <= set(WHY)
