"""What is planned, and what is not; what is over without asking; and what a list of a backend may not do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace
from typing import Any

import pytest

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.escrow import Escrow
from forestall.adapter.store.state import LogState
from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.entry import Entry, closed, leased, opened, revoked
from forestall.core.model import Grant, Lease, Permit, Risk, Scope
from forestall.core.reason import Reason
from forestall.credentials import load_credentials
from forestall.home import Home
from forestall.leases import Book
from forestall.lending import Lending
from forestall.port import Written
from forestall.testing.ledger import MemoryLedger
from forestall.testing.world import AGENT, GRANT, NOW, TOOL, action
from tests.backends import Desk, install

OWNER = "0badcafe"
WAIT_S = 30.0

PERMIT = Permit(
    id="1" * 32,
    task=GRANT.task,
    tool=TOOL.id,
    pin=TOOL.pin,
    digest="sha256:0",
    effects=frozenset({Effect.WRITE}),
    output=TOOL.output,
    policies=("one",),
    policy_digest="sha256:1",
    expires_at=NOW + 10_000,
    credential="desk",
)


class Books:
    """A home with a backend, and a log that everything goes into."""

    def __init__(self, home: Home, more: str = "", timeout_s: float = 0.2) -> None:
        home.credentials.write_text(f'[credentials.desk]\nbackend = "files"\npath = "desk"\n{more}')
        self.now, self.risk = NOW, Risk.LOW
        self.state, self.ledger = LogState(), MemoryLedger()
        context = Context(OWNER, lambda: self.now, lambda size: bytes(range(size)), timeout_s, home.root)
        self.lending = Lending(
            self.state,
            Escrow(home.root / "run" / "leases", home.keys),
            owner=OWNER,
            now=lambda: self.now,
            risk=lambda _grant, _at: self.risk,
            timeout_s=timeout_s,
            classes=load_credentials(home, context),
        )
        self.write(opened(GRANT, AGENT, NOW))

    def write(self, entry: Entry) -> None:
        position = self.ledger.append(entry)
        self.state.apply(Written(position, next(iter(self.ledger.read(position.stream, position.index))).body))
        if entry.kind == "revoked":
            self.lending.ended(entry.id)

    def planned(self, permit: Permit = PERMIT, **arguments: Any) -> Lease:
        lease = self.lending.plan(permit, action(arguments or None))
        if lease.secret is None:
            self.write(leased(lease, self.now))
        return lease

    def issued(self, permit: Permit = PERMIT) -> Lease:
        lease = self.planned(permit)
        return replace(lease, secret=self.lending.issue(lease))


@pytest.fixture(autouse=True)
def _backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.keys.mkdir(parents=True)
    return home


@pytest.fixture
def desk(home: Home) -> Desk:
    return Desk(home.root / "desk")


@pytest.fixture
def books_of(home: Home) -> Iterator[Callable[..., Books]]:
    made: list[Books] = []

    def books(more: str = "", **settings: Any) -> Books:
        made.append(Books(home, more, **settings))
        return made[-1]

    yield books
    for one in made:
        one.lending.close()


def reason_of(ask: Callable[[], object]) -> Reason:
    with pytest.raises(CannotDo) as caught:
        ask()
    return caught.value.reason


def test_it_is_named_after_its_permit_and_never_outlives_its_class_or_its_task(books_of: Any) -> None:
    lease = books_of("lifetime_s = 20\n").planned()
    assert lease.name == f"forestall-{OWNER}-{PERMIT.id}"
    assert lease.expires_at == NOW + 20_000
    assert books_of("lifetime_s = 300\n").planned().expires_at == GRANT.expires_at


def test_one_that_is_renewed_is_bound_by_its_task_and_made_for_its_lifetime(books_of: Any, desk: Desk) -> None:
    books = books_of('scope = "task"\nrenewable = true\nlifetime_s = 20\n')
    lease = books.issued()
    assert lease.expires_at == GRANT.expires_at
    assert books.lending.until(lease) == NOW + 20_000
    assert desk.until(lease.name) == NOW + 20_000
    books.now += 15_000
    assert books.lending.renewable() == {lease.name: NOW + 13_333}
    renewing = books.lending.begin_renewal(lease.name)
    assert renewing is not None
    renewing.result(WAIT_S)
    assert desk.until(lease.name) == books.lending.until(lease) == NOW + 35_000


@pytest.mark.parametrize(
    ("more", "permit", "reason"),
    [
        ("", replace(PERMIT, credential="other"), Reason.UNAVAILABLE),
        ("", replace(PERMIT, task="nobody's"), Reason.TASK_ENDED),
        ("reads_only = true\n", PERMIT, Reason.OUT_OF_SCOPE),
        ('revoke_at = "medium"\n', PERMIT, Reason.FORBIDDEN),
        (
            'scope = "task"\nserver = "files"\nplace = { where = "environment", name = "T", template = "{token}" }\n',
            PERMIT,
            Reason.UNAVAILABLE,
        ),
    ],
)
def test_what_does_not_fit_is_not_planned(books_of: Any, desk: Desk, more: str, permit: Permit, reason: Reason) -> None:
    books = books_of(more)
    books.risk = Risk.HIGH
    assert reason_of(lambda: books.planned(permit)) is reason
    assert desk.asked == []


def test_more_than_the_class_allows_and_a_task_that_ran_out_get_nothing(books_of: Any) -> None:
    books = books_of()
    assert reason_of(lambda: books.planned(beyond=True)) is Reason.OUT_OF_SCOPE
    books.now = GRANT.expires_at
    assert reason_of(books.planned) is Reason.TASK_ENDED


def test_it_is_issued_once_and_not_without_its_plan(books_of: Any, desk: Desk) -> None:
    books = books_of()
    lease = books.issued()
    assert reason_of(lambda: books.lending.issue(lease)) is Reason.UNAVAILABLE
    assert reason_of(lambda: books.lending.issue(replace(lease, name="forestall-0badcafe-2"))) is Reason.UNAVAILABLE
    assert desk.asked.count("issue") == 1


def test_a_tasks_own_is_handed_on_while_it_is_good_for_what_is_planned(books_of: Any, desk: Desk) -> None:
    books = books_of('scope = "task"\nlifetime_s = 30\n')
    first = books.issued()
    again = books.planned(replace(PERMIT, id="2" * 32))
    assert (again.name, again.secret) == (first.name, first.secret)
    books.now += 21_000  # too little of it is left
    assert books.planned(replace(PERMIT, id="3" * 32)).secret is None
    assert desk.asked == ["issue"]


def test_what_was_certainly_never_asked_for_is_over_without_asking(books_of: Any, desk: Desk) -> None:
    books = books_of()
    books.lending.revoke(books.planned())
    assert desk.asked == []


def test_what_has_ended_is_not_ended_twice(books_of: Any, desk: Desk) -> None:
    books = books_of()
    lease = books.issued()
    books.lending.revoke(lease)
    books.write(revoked(lease, "killed", NOW))
    assert reason_of(lambda: books.lending.revoke(lease)) is Reason.UNAVAILABLE
    assert desk.asked == ["issue", "revoke"]


def test_while_it_is_being_made_nobody_is_told_that_it_is_over(books_of: Any, desk: Desk) -> None:
    books, changed = books_of(), Event()
    books.lending.on_change.append(changed.set)
    desk.fault(issue="slow")
    lease = books.planned()
    assert reason_of(lambda: books.lending.issue(lease)) is Reason.UNAVAILABLE
    assert reason_of(lambda: books.lending.revoke(lease)) is Reason.UNAVAILABLE
    assert books.lending.due() == []
    desk.fault()
    assert changed.wait(WAIT_S)
    assert desk.live == set()
    assert [(one.name, why) for one, why in books.lending.due()] == [(lease.name, "late")]
    books.lending.revoke(lease)


def test_of_what_a_call_had_no_more_is_kept_than_it_takes_to_end_it(books_of: Any, desk: Desk) -> None:
    books = books_of("unnamed = true\n")
    lease = books.issued()
    held = books.lending._held[lease.name]
    assert held.secret is not None
    assert not held.secret.fields
    assert held.secret.handle
    assert lease.secret is not None
    assert lease.secret.fields["token"] not in repr(held)
    books.lending.revoke(replace(lease, secret=None))
    assert desk.live == set()


def test_a_template_that_the_secret_does_not_fill_gives_nothing_and_leaves_nothing(books_of: Any, desk: Desk) -> None:
    books = books_of('place = { where = "header", name = "X", template = "{password}" }\n')
    lease = books.planned()
    assert reason_of(lambda: books.lending.issue(lease)) is Reason.UNAVAILABLE
    books.lending.revoke(lease)
    assert desk.live == set()


def test_where_its_handle_cannot_be_kept_nobody_gets_it(books_of: Any, home: Home, desk: Desk) -> None:
    books = books_of("unnamed = true\n")
    (home.root / "run").touch()
    lease = books.planned()
    assert reason_of(lambda: books.lending.issue(lease)) is Reason.UNAVAILABLE
    books.lending.revoke(lease)
    assert desk.live == set()


def test_a_list_of_a_backend_ends_what_is_ours_and_unknown_and_nothing_else(books_of: Any, desk: Desk) -> None:
    books = books_of()
    known, orphan = books.issued(), f"forestall-{OWNER}-{'f' * 32}"
    desk.leave(orphan)
    desk.leave("forestall-00000000-1")
    (found,) = books.lending.begin_listing(books.lending.classes["desk"]).result(WAIT_S)
    assert (found.name, found.permit, found.credential, found.task) == (orphan, "f" * 32, "desk", "")
    books.lending.revoke(found)
    assert desk.live == {known.name, "forestall-00000000-1"}


def test_what_is_made_while_a_backend_lists_is_no_orphan(books_of: Any, desk: Desk) -> None:
    """It was not known when the list was asked for; it is, when the list is asked for once more."""
    books = books_of(timeout_s=WAIT_S)
    desk.fault(list="slow")
    listing = books.lending.begin_listing(books.lending.classes["desk"])
    making = Thread(target=books.issued)
    making.start()
    making.join(WAIT_S)
    desk.fault()
    assert listing.result(WAIT_S) == []
    assert len(desk.live) == 1


def test_with_its_task_everything_is_due_and_a_plan_without_a_record_is_forgotten(books_of: Any) -> None:
    books = books_of('scope = "task"\n')
    lease = books.issued()
    books.lending.plan(replace(PERMIT, id="2" * 32, task=GRANT.task), action())
    books.write(closed(GRANT.task, "completed", NOW))
    assert [(one.name, why) for one, why in books.lending.due()] == [(lease.name, "task_ended")]
    books.now += 3_600_000
    books.lending.forget_stray()
    assert set(books.lending._held) == {lease.name}
    assert lease.scope is Scope.TASK


def test_a_tasks_credential_that_is_for_reads_only_is_planned_for_nothing_else_of_the_task(books_of: Any) -> None:
    books = books_of('scope = "task"\nreads_only = true\n')
    asked: list[frozenset[Effect]] = []

    def plan(_permit: Permit, _action: object, grant: Grant) -> dict[str, Any]:
        asked.append(grant.effects)
        return {}

    one = books.lending.classes["desk"]
    broker = SimpleNamespace(plan=plan, traits=one.broker.traits, close=lambda: None)
    books.lending.classes = {"desk": replace(one, broker=broker)}
    assert Effect.WRITE in GRANT.effects
    books.planned(replace(PERMIT, effects=frozenset({Effect.READ})))
    assert asked == [frozenset({Effect.READ})]


def test_one_that_is_for_a_server_is_put_into_no_call_of_another(books_of: Any, desk: Desk) -> None:
    place = 'place = { where = "header", name = "T", template = "{token}" }\n'
    other = books_of(f'scope = "task"\nserver = "other"\n{place}')
    assert reason_of(other.planned) is Reason.OUT_OF_SCOPE
    assert books_of(f'scope = "task"\nserver = "{PERMIT.tool.partition("/")[0]}"\n{place}').planned()
    assert desk.asked == []


def test_a_tasks_credential_whose_handle_is_not_kept_is_handed_to_no_other_call(
    books_of: Any, home: Home, desk: Desk
) -> None:
    books = books_of('scope = "task"\nunnamed = true\n')
    home.run.mkdir(parents=True, exist_ok=True)
    (home.run / "leases").write_text("where a folder should be")
    lease = books.planned()
    _, future = books.lending._begin(lease)
    assert isinstance(future.exception(WAIT_S), CannotDo)
    assert len(desk.live) == 1
    assert books.lending.plan(replace(PERMIT, id="2" * 32), action()).secret is None


def test_one_that_a_backend_hangs_on_ending_stays_among_those_that_fail(books_of: Any, desk: Desk) -> None:
    books = books_of("")
    book = Book(books.lending, lambda: books.now, lambda _said: None)
    lease = books.issued()
    desk.fault(revoke="slow")
    books.write(closed(GRANT.task, "done", NOW))
    for due, why in book.due():
        with pytest.raises(CannotDo) as caught:
            books.lending.revoke(due)
        book.failed(due, why, caught.value)
    books.now += 60_000
    assert book.due() == []
    (row,) = book.rows()
    assert (row["name"], row["state"], row["why"]) == (lease.name, "failing", "task_ended")
    desk.fault()


def test_risk_that_cannot_be_told_keeps_nothing_alive(books_of: Any) -> None:
    books = books_of('scope = "task"\nrevoke_at = "high"\n')
    lease = books.issued()
    assert books.lending.due() == []

    def fails(_grant: Grant, _at: int) -> Risk:
        raise KeyError("a fault of the source's own")

    books.lending._risk = fails
    assert [(one.name, why) for one, why in books.lending.due()] == [(lease.name, "risk")]
