"""What is planned, and what is not; what is made once, kept, and handed on."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.model import Grant, Permit, Risk
from forestall.core.reason import Reason
from forestall.home import Home
from forestall.testing.world import GRANT, NOW, action
from tests.backends import Desk
from tests.unit.lending.books import OWNER, PERMIT, WAIT_S, reason_of


def test_it_is_named_after_its_permit_and_never_outlives_its_class_or_its_task(books_of: Any) -> None:
    lease = books_of("lifetime_s = 20\n").planned()
    assert lease.name == f"forestall-{OWNER}-{PERMIT.id}"
    assert lease.expires_at == NOW + 20_000
    assert books_of("lifetime_s = 300\n").planned().expires_at == GRANT.expires_at


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
    assert reason_of(lambda: books.lending.making.issue(lease)) is Reason.UNAVAILABLE
    assert (
        reason_of(lambda: books.lending.making.issue(replace(lease, name="forestall-0badcafe-2"))) is Reason.UNAVAILABLE
    )
    assert desk.asked.count("issue") == 1


def test_a_tasks_own_is_handed_on_while_it_is_good_for_what_is_planned(books_of: Any, desk: Desk) -> None:
    books = books_of('scope = "task"\nlifetime_s = 30\n')
    first = books.issued()
    again = books.planned(replace(PERMIT, id="2" * 32))
    assert (again.name, again.secret) == (first.name, first.secret)
    books.now += 21_000  # too little of it is left
    assert books.planned(replace(PERMIT, id="3" * 32)).secret is None
    assert desk.asked == ["issue"]


def test_of_what_a_call_had_no_more_is_kept_than_it_takes_to_end_it(books_of: Any, desk: Desk) -> None:
    books = books_of("unnamed = true\n")
    lease = books.issued()
    held = books.lending._holdings.by_name[lease.name]
    assert held.secret is not None
    assert not held.secret.fields
    assert held.secret.handle
    assert lease.secret is not None
    assert lease.secret.fields["token"] not in repr(held)
    books.lending.ending.revoke(replace(lease, secret=None))
    assert desk.live == set()


def test_a_template_that_the_secret_does_not_fill_gives_nothing_and_leaves_nothing(books_of: Any, desk: Desk) -> None:
    books = books_of('place = { where = "header", name = "X", template = "{password}" }\n')
    lease = books.planned()
    assert reason_of(lambda: books.lending.making.issue(lease)) is Reason.UNAVAILABLE
    books.lending.ending.revoke(lease)
    assert desk.live == set()


def test_where_its_handle_cannot_be_kept_nobody_gets_it(books_of: Any, home: Home, desk: Desk) -> None:
    books = books_of("unnamed = true\n")
    home.run.mkdir()
    (home.run / "leases").touch()
    lease = books.planned()
    assert reason_of(lambda: books.lending.making.issue(lease)) is Reason.UNAVAILABLE
    books.lending.ending.revoke(lease)
    assert desk.live == set()


def test_a_tasks_credential_that_is_for_reads_only_is_planned_for_nothing_else_of_the_task(books_of: Any) -> None:
    books = books_of('scope = "task"\nreads_only = true\n')
    asked: list[frozenset[Effect]] = []

    def plan(_permit: Permit, _action: object, grant: Grant) -> dict[str, Any]:
        asked.append(grant.effects)
        return {}

    one = books.lending.classes["desk"]
    broker = SimpleNamespace(plan=plan, traits=one.broker.traits, close=lambda: None)
    books.lending._holdings.classes = {"desk": replace(one, broker=broker)}
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
    _, future = books.lending.making._begin(lease)
    assert isinstance(future.exception(WAIT_S), CannotDo)
    assert len(desk.live) == 1
    assert books.lending.making.plan(replace(PERMIT, id="2" * 32), action()).secret is None


def test_where_the_words_of_its_class_cannot_be_kept_its_backend_is_not_asked(
    books_of: Any, home: Home, desk: Desk
) -> None:
    books = books_of()
    home.run.mkdir()
    (home.run / "classes").touch()
    lease = books.planned()
    assert reason_of(lambda: books.lending.making.issue(lease)) is Reason.UNAVAILABLE
    books.lending.ending.revoke(lease)
    assert desk.asked == []


def test_a_class_that_is_taken_away_while_a_plan_is_made_plans_nothing(books_of: Any, desk: Desk) -> None:
    """Else its broker could be closed before it is asked, since nothing of it is known."""
    books = books_of()
    one = books.lending.classes["desk"]

    def plan(*_asked: object) -> dict[str, Any]:
        books.lending.take({})
        return {}

    broker = SimpleNamespace(plan=plan, traits=one.broker.traits, close=lambda: None)
    books.lending._holdings.classes = {"desk": replace(one, broker=broker)}
    assert reason_of(books.planned) is Reason.UNAVAILABLE
    assert desk.asked == []
