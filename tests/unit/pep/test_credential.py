"""A credential shows what it holds to who reads it during the call, and to nobody else."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import pprint
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

import forestall
from forestall.core.ask import CannotDo
from forestall.core.errors import InvalidInput, SetupError, Unavailable
from forestall.core.model import Scope, Secret
from forestall.core.place import Place, Where
from forestall.pep.credential import Credential, lent
from forestall.pep.sought import Sought
from forestall.testing.world import LEASE, NOW

PASSWORD = "correct-horse-battery"
FIELDS = {"user": "agent", "password": PASSWORD}
PLACE = Place(Where.ARGUMENT, "connection", "postgresql://{user}:{password|url}@db/shop")


@pytest.fixture
def credential() -> Credential:
    return lent(replace(LEASE, place=PLACE, secret=Secret(FIELDS)), Sought(), NOW)


def test_it_is_a_public_name() -> None:
    assert forestall.Credential is Credential


def test_it_is_a_mapping_of_its_fields(credential: Credential) -> None:
    assert credential["password"] == PASSWORD
    assert {**credential} == FIELDS
    assert dict(credential.items()) == FIELDS
    assert (len(credential), "user" in credential, credential.get("token")) == (2, True, None)
    with pytest.raises(KeyError, match="has no `token`; it has password, user"):
        credential["token"]


def test_its_value_is_what_its_place_makes_of_it(credential: Credential) -> None:
    assert credential.value == f"postgresql://agent:{PASSWORD}@db/shop"


def test_without_a_place_it_has_fields_alone() -> None:
    credential = lent(replace(LEASE, secret=Secret(FIELDS)), Sought(), NOW)
    assert credential["user"] == "agent"
    with pytest.raises(SetupError, match="`database` has no `place`"):
        _ = credential.value


def test_a_place_that_names_what_there_is_not_is_said_without_a_secret() -> None:
    lease = replace(LEASE, place=Place(Where.HEADER, "Authorization", "{token}"), secret=Secret(FIELDS))
    with pytest.raises(InvalidInput, match="has no `token`") as caught:
        lent(lease, Sought(), NOW)
    assert PASSWORD not in str(caught.value)


SHOWS: list[Callable[[Any], str]] = [repr, str, format, "{}".format, "%s".__mod__, "%r".__mod__, pprint.pformat, ascii]


@pytest.mark.parametrize("show", SHOWS)
def test_no_text_of_it_shows_what_it_holds(credential: Credential, show: Callable[[Any], str]) -> None:
    for shown in (show(credential), show([credential]), show(credential.items()), show(credential.values())):
        assert "Credential('database')" in shown
        assert PASSWORD not in shown
        assert "agent" not in shown


@pytest.mark.parametrize(
    "take",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda it, protocol=number: pickle.dumps(it, protocol) for number in range(pickle.HIGHEST_PROTOCOL + 1)),
        lambda it: it.__reduce__(),
        lambda it: f"{it:>40}",
        json.dumps,
        vars,
    ],
)
def test_it_is_not_copied_pickled_or_laid_out(credential: Credential, take: Callable[[Any], object]) -> None:
    with pytest.raises(TypeError) as caught:
        take(credential)
    assert PASSWORD not in str(caught.value)


def test_it_equals_itself_alone(credential: Credential) -> None:
    assert credential == credential  # noqa: PLR0124 - that is what is tested
    assert credential != FIELDS
    assert credential != lent(replace(LEASE, place=PLACE, secret=Secret(FIELDS)), Sought(), NOW)
    assert {credential: 1}[credential] == 1


READS: list[Callable[[Any], object]] = [
    lambda it: it["user"],
    lambda it: it.get("user"),
    lambda it: it.value,
    lambda it: "user" in it,
    lambda it: {**it},
    dict,
    list,
    len,
    bool,
    lambda it: list(it.values()),
]


@pytest.mark.parametrize("read", READS)
def test_once_it_forgot_whatever_reads_it_raises(credential: Credential, read: Callable[[Any], object]) -> None:
    values = iter(credential.values())
    credential.forget()
    credential.forget()
    for reading in (read, lambda _it: list(values)):
        with pytest.raises(InvalidInput, match="for one call, which is over"):
            reading(credential)
    assert repr(credential) == "Credential('database')"


def test_without_a_place_it_says_first_that_it_is_over() -> None:
    credential = Credential("database", FIELDS)
    credential.forget()
    with pytest.raises(InvalidInput, match="is over"):
        _ = credential.value


# -- what is sought


def test_what_was_lent_is_sought_and_what_is_no_secret_is_not() -> None:
    sought = Sought()
    assert not sought.scrubber
    lent(replace(LEASE, place=PLACE, secret=Secret({**FIELDS, "host": "database.example.org"})), sought, NOW)
    assert sought.scrubber.finds_in(f"is it {PASSWORD}?")
    assert not sought.scrubber.finds_in("database.example.org")


@pytest.mark.parametrize(("scope", "until"), [(Scope.ACTION, None), (Scope.TASK, LEASE.expires_at)])
def test_a_calls_is_over_with_it_and_a_tasks_when_it_runs_out(scope: Scope, until: int | None) -> None:
    lease = replace(LEASE, scope=scope, secret=Secret(FIELDS, expires_at=LEASE.expires_at - 1))
    assert lease.over_by == until
    later = replace(lease, secret=Secret(FIELDS, expires_at=LEASE.expires_at + 1))
    assert later.over_by == (None if until is None else until + 1)


def test_a_bound_one_makes_proofs_while_the_call_lasts_and_shows_no_key() -> None:
    asked: list[tuple[object, ...]] = []

    def prove(*request: object) -> str:
        asked.append(request)
        return "a proof"

    credential = lent(replace(LEASE, secret=Secret({"token": PASSWORD}, prove=prove)), Sought(), NOW)
    assert credential.proof("GET", "https://api.example/a") == "a proof"
    assert credential.proof("GET", "https://api.example/a", "n") == "a proof"
    assert asked == [("GET", "https://api.example/a", None), ("GET", "https://api.example/a", "n")]
    assert set(credential) == {"token"}
    credential.forget()
    with pytest.raises(InvalidInput, match="is over"):
        credential.proof("GET", "https://api.example/a")
    assert len(asked) == 2
    assert prove not in gc.get_referents(credential)


def test_one_that_is_bound_to_nothing_says_so() -> None:
    credential = lent(replace(LEASE, secret=Secret(FIELDS)), Sought(), NOW)
    with pytest.raises(SetupError, match="bound to no key"):
        credential.proof("GET", "https://api.example/a")


def test_one_that_was_ended_meanwhile_makes_none() -> None:
    def ended(*_: object) -> str:
        raise CannotDo

    credential = lent(replace(LEASE, secret=Secret(FIELDS, prove=ended)), Sought(), NOW)
    with pytest.raises(Unavailable, match="was ended"):
        credential.proof("GET", "https://api.example/a")
