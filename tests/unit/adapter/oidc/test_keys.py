"""An issuer's keys: when they are asked for, how long they count, and what becomes of them when it is silent."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from forestall.adapter.oidc.keys import IssuerKeys, Times
from forestall.adapter.oidc.web import Request
from forestall.core.errors import Unavailable
from forestall.identities import KeySource
from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import SigningKey
from tests.identity.provider import private_jwk
from tests.tokens import NOW, key, keys, refused

ISSUER = "https://idp.example/tenant"
DISCOVERY = ISSUER + "/.well-known/openid-configuration"
JWKS = "https://keys.example/set"
TIMES = Times(ttl_ms=600, bound_ms=3600, least_interval_ms=10)
OLD, NEW = key(Algorithm.ES256, "old"), key(Algorithm.ES256, "new")
WAIT_S = 60


class Issuer:
    """What an issuer serves, by address. It can be unreachable."""

    def __init__(self, *signing: SigningKey) -> None:
        self.asked: list[Request] = []
        self.up = True
        self.documents: dict[str, bytes] = {DISCOVERY: json.dumps({"issuer": ISSUER, "jwks_uri": JWKS}).encode()}
        self.publish(*signing)

    def publish(self, *signing: SigningKey) -> None:
        self.documents[JWKS] = json.dumps(keys(*signing).to_json()).encode()

    def __call__(self, request: Request) -> bytes:
        self.asked.append(request)
        if not self.up or request.url not in self.documents:
            raise Unavailable("It does not answer.")
        return self.documents[request.url]


def make(issuer: Callable[[Request], bytes], source: KeySource | None = None) -> IssuerKeys:
    return IssuerKeys(
        ISSUER,
        source or KeySource(),
        algorithms=frozenset({Algorithm.ES256}),
        loopback=False,
        fetch=issuer,
        times=TIMES,
    )


def ask(keys: IssuerKeys, now: int, *, unknown: bool = False) -> bool:
    """Ask, if that is due, and wait for the answer. Was it?"""
    due = keys.due(now, unknown=unknown)
    if due is not None:
        due.result(WAIT_S)
    return due is not None


def kids(keys: IssuerKeys, now: int) -> set[str | None]:
    return {each.kid for each in keys.held(now).keys}


def test_keys_are_there_once_they_were_asked_for() -> None:
    issuer = Issuer(OLD)
    found = make(issuer)
    with refused(Fault.NO_BUNDLE):
        found.held(NOW)
    assert ask(found, NOW)
    assert kids(found, NOW) == {OLD.public.kid}
    assert [each.url for each in issuer.asked] == [DISCOVERY, JWKS]


def test_an_address_that_is_configured_needs_no_discovery() -> None:
    issuer = Issuer(OLD)
    assert ask(make(issuer, KeySource(jwks=JWKS)), NOW)
    assert [each.url for each in issuer.asked] == [JWKS]


def test_keys_count_without_asking_for_a_while() -> None:
    issuer = Issuer(OLD)
    found = make(issuer)
    ask(found, NOW)
    assert not ask(found, NOW + 599)
    issuer.publish(NEW)
    assert ask(found, NOW + 600)
    assert kids(found, NOW + 600) == {NEW.public.kid}


def test_a_key_that_is_unknown_is_asked_for_but_not_too_often() -> None:
    issuer = Issuer(OLD)
    found = make(issuer)
    ask(found, NOW)
    issuer.publish(OLD, NEW)
    assert not ask(found, NOW + 9, unknown=True)
    assert ask(found, NOW + 10, unknown=True)
    assert kids(found, NOW + 10) == {OLD.public.kid, NEW.public.kid}
    assert not ask(found, NOW + 19, unknown=True)


def test_a_silent_issuers_keys_count_until_their_bound() -> None:
    issuer = Issuer(OLD)
    found = make(issuer)
    ask(found, NOW)
    issuer.up = False
    assert ask(found, NOW + 3599)
    assert kids(found, NOW + 3599) == {OLD.public.kid}
    assert ISSUER in found.problem
    with refused(Fault.NO_BUNDLE):
        found.held(NOW + 3600)
    issuer.up = True
    assert ask(found, NOW + 3609)
    assert kids(found, NOW + 3609) == {OLD.public.kid}
    assert found.problem == ""


def test_a_silent_issuer_is_not_asked_more_often_than_one_that_speaks() -> None:
    issuer = Issuer(OLD)
    issuer.up = False
    found = make(issuer)
    assert [ask(found, NOW + at) for at in range(21)].count(True) == 3


def test_a_clock_that_was_set_back_makes_nothing_young() -> None:
    issuer = Issuer(OLD)
    found = make(issuer)
    ask(found, NOW)
    issuer.up = False
    with refused(Fault.NO_BUNDLE):
        found.held(NOW - 3600)
    assert ask(found, NOW - 3600)


@pytest.mark.parametrize(
    ("address", "document", "says"),
    [
        (DISCOVERY, b"", "malformed"),
        (DISCOVERY, b"[]", "malformed"),
        (DISCOVERY, json.dumps({"issuer": ISSUER + "/", "jwks_uri": JWKS}).encode(), "wrong_issuer"),
        (DISCOVERY, json.dumps({"issuer": ISSUER, "jwks_uri": "http://127.0.0.1/"}).encode(), "malformed"),
        (DISCOVERY, json.dumps({"issuer": ISSUER, "jwks_uri": "file:///etc/passwd"}).encode(), "malformed"),
        (
            DISCOVERY,
            json.dumps(
                {"issuer": ISSUER, "jwks_uri": JWKS, "id_token_signing_alg_values_supported": ["none"]}
            ).encode(),
            "algorithm",
        ),
        (DISCOVERY, b" " * 65_537, "too_large"),
        (JWKS, b"{}", "malformed"),
        (JWKS, b'{"keys":[],"keys":[]}', "malformed"),
        (JWKS, b" " * 262_145, "too_large"),
    ],
)
def test_nonsense_leaves_what_was_good_as_it_was(address: str, document: bytes, says: str) -> None:
    issuer = Issuer(OLD)
    found = make(issuer)
    ask(found, NOW)
    issuer.documents[address] = document
    assert ask(found, NOW + 600)
    assert says in found.problem
    assert kids(found, NOW + 600) == {OLD.public.kid}


def test_a_key_that_was_published_whole_ends_them_all() -> None:
    issuer = Issuer(OLD)
    found = make(issuer)
    ask(found, NOW)
    issuer.documents[JWKS] = json.dumps({"keys": [private_jwk(OLD)]}).encode()
    ask(found, NOW + 600)
    with refused(Fault.NO_BUNDLE):
        found.held(NOW + 600)
    assert private_jwk(OLD)["d"] not in found.problem


def test_whatever_goes_wrong_whoever_waits_goes_on() -> None:
    def broken(_: Request) -> bytes:
        raise RuntimeError("s3cret")

    found = make(broken)
    assert ask(found, NOW)
    assert "RuntimeError" in found.problem
    assert "s3cret" not in found.problem
    with refused(Fault.NO_BUNDLE):
        found.held(NOW)


def test_one_question_at_a_time_and_all_wait_for_it() -> None:
    issuer, go = Issuer(OLD), threading.Event()

    def held_up(request: Request) -> bytes:
        assert go.wait(WAIT_S)
        return issuer(request)

    found = make(held_up)
    waiting = [found.due(NOW + at) for at in (0, 5, 50, 5000)] + [found.due(NOW, unknown=True)]
    first = waiting[0]
    assert isinstance(first, Future)
    assert all(each is first for each in waiting)
    assert not first.cancel()  # the others wait for it too
    go.set()
    first.result(WAIT_S)
    assert len(issuer.asked) == 2
    assert kids(found, NOW) == {OLD.public.kid}


def test_what_comes_of_a_question_is_as_old_as_the_question() -> None:
    found = make(Issuer(OLD))
    ask(found, NOW)
    with refused(Fault.NO_BUNDLE):
        found.held(NOW + TIMES.bound_ms)


def test_our_own_token_goes_where_an_operator_sent_it_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    (tmp_path / "ca").write_text("some PEM")
    issuer = Issuer(OLD)
    found = make(issuer, KeySource(token_file=tmp_path / "token", ca_file=tmp_path / "ca"))
    ask(found, NOW)
    assert [(each.bearer, each.roots) for each in issuer.asked] == [("first", "some PEM"), (None, "some PEM")]
    here = ISSUER + "/jwks"
    issuer.documents[DISCOVERY] = json.dumps({"issuer": ISSUER, "jwks_uri": here}).encode()
    issuer.documents[here] = issuer.documents[JWKS]
    (tmp_path / "token").write_text("second")
    ask(found, NOW + 600)
    assert [each.bearer for each in issuer.asked[2:]] == ["second", "second"]
    direct = Issuer(OLD)
    ask(make(direct, KeySource(jwks=JWKS, token_file=tmp_path / "token")), NOW)
    assert [each.bearer for each in direct.asked] == ["second"]


@pytest.mark.parametrize("missing", ["token", "ca"])
def test_without_what_it_takes_to_ask_nothing_is_asked(tmp_path: Path, missing: str) -> None:
    (tmp_path / "token").write_text("first")
    (tmp_path / "ca").write_text("some PEM")
    (tmp_path / missing).unlink()
    issuer = Issuer(OLD)
    found = make(issuer, KeySource(token_file=tmp_path / "token", ca_file=tmp_path / "ca"))
    ask(found, NOW)
    assert issuer.asked == []
    assert str(tmp_path / missing) in found.problem


@pytest.mark.parametrize("members", [{"least_interval_ms": 0}, {"ttl_ms": 9}, {"bound_ms": 599}])
def test_times_that_make_no_sense_cannot_be(members: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no longer count"):
        replace(TIMES, **members)


class AnyOrder(RuleBasedStateMachine):
    """Whatever happens in whatever order, the keys that count are ones that the issuer had within the bound."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.issuer = Issuer(OLD)
        self.found = make(self.issuer)
        self.published = OLD
        self.times_published: dict[str | None, int] = {OLD.public.kid: NOW}
        """When each key was last the published one."""
        self.asked_at: list[int] = []

    @rule(milliseconds=st.sampled_from([1, 9, 10, 590, 600, 3000, 3600]))
    def time_goes_on(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.times_published[self.published.public.kid] = self.now

    @rule(seed=st.integers(0, 3))
    def rotates(self, seed: int) -> None:
        self.published = key(Algorithm.ES256, f"rotated-{seed}")
        self.issuer.publish(self.published)
        self.times_published[self.published.public.kid] = self.now

    @rule()
    def goes_away_or_comes_back(self) -> None:
        self.issuer.up = not self.issuer.up

    @rule(unknown=st.booleans())
    def a_token_comes(self, *, unknown: bool) -> None:
        before = len(self.issuer.asked)
        ask(self.found, self.now, unknown=unknown)
        if len(self.issuer.asked) > before:
            self.asked_at.append(self.now)

    @precondition(lambda self: self.issuer.up)
    @rule()
    def a_token_of_a_new_key_comes_late_enough(self) -> None:
        self.time_goes_on(TIMES.least_interval_ms)
        self.a_token_comes(unknown=True)
        assert kids(self.found, self.now) == {self.published.public.kid}

    @invariant()
    def what_counts_was_published_within_the_bound(self) -> None:
        try:
            found = kids(self.found, self.now)
        except InvalidProof:
            return
        assert all(self.now - self.times_published[kid] < TIMES.bound_ms for kid in found)

    @invariant()
    def nobody_is_asked_too_often(self) -> None:
        pairs = zip(self.asked_at, self.asked_at[1:], strict=False)
        assert all(later - earlier >= TIMES.least_interval_ms for earlier, later in pairs)


TestAnyOrder = AnyOrder.TestCase
