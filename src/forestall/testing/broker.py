"""The contract of `forestall.port.Broker`, for whoever adds a backend: inherit, and say how to reach the real one.

    class TestMine(BrokerContract):
        @pytest.fixture
        def bench(self) -> Iterator[Bench]: ...

Everything is asked of the backend itself, with its administrator's account: what a broker says of itself proves
nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from forestall.core.ask import CannotDo
from forestall.core.canonical import canonical
from forestall.core.model import Action, Grant, Lease, Permit, Scope, Secret
from forestall.core.reason import Reason
from forestall.port import Broker

LIFETIME_MS = 60_000


@dataclass(slots=True)
class Bench:
    """A broker at work on a backend that runs."""

    broker: Broker
    owner: str
    """8 hex digits: which Forestall it is."""
    now: Callable[[], int]
    """Milliseconds since the epoch, as the broker was given it."""
    permit: Permit
    action: Action
    grant: Grant
    """What may be done; `plan` says yes to it."""
    works: Callable[[Secret], bool]
    """Does the backend let its holder do what it was made for, on a new connection?"""
    alive: Callable[[], set[str]]
    """Names of the credentials that there are, as the backend's administrator sees them. Not asked unless `by_name`."""
    stop: Callable[[], None]
    """The backend does not answer any more."""
    others: list[Callable[[], bool]] = field(default_factory=list)
    """Each: does something of somebody else at this backend still work?"""
    _count: int = 0

    def lease(self, **changes: Any) -> Lease:
        """One that is planned and not issued; another name each time."""
        self._count += 1
        traits = self.broker.traits
        made = Lease(
            name=f"forestall-{self.owner}-{self._count:032x}",
            credential="under-test",
            backend="under-test",
            task=self.grant.task,
            permit=self.permit.id,
            scope=Scope.ACTION,
            rights=self.broker.plan(self.permit, self.action, self.grant),
            expires_at=self.now() + LIFETIME_MS,
            standing=traits.standing,
        )
        return replace(made, **changes)

    def issued(self, **changes: Any) -> Lease:
        lease = self.lease(**changes)
        return replace(lease, secret=self.broker.issue(lease))


def secret_of(lease: Lease) -> Secret:
    assert lease.secret is not None
    return lease.secret


def says_over(bench: Bench, lease: Lease) -> bool:
    """Does the broker say that it has ended? Where it cannot know, it says that."""
    try:
        bench.broker.revoke(lease)
    except CannotDo as error:
        if error.reason is Reason.UNAVAILABLE and error.detail:
            return False
        raise
    return True


def put_away(bench: Bench, lease: Lease) -> None:
    """End it. Where nobody can before it ends by itself, that is not said to have happened while it works."""
    traits = bench.broker.traits
    if traits.revocable or traits.standing:
        bench.broker.revoke(lease)
    else:
        assert not (says_over(bench, lease) and bench.works(secret_of(lease)))


class BrokerContract:
    @pytest.fixture
    def bench(self) -> Bench:
        raise NotImplementedError("say how to reach the backend")

    def test_what_it_plans_is_plain_and_the_same_each_time(self, bench: Bench) -> None:
        rights = bench.broker.plan(bench.permit, bench.action, bench.grant)
        assert canonical(dict(rights)) == canonical(json.loads(json.dumps(dict(rights))))
        assert rights == bench.broker.plan(bench.permit, bench.action, bench.grant)

    def test_what_it_issues_is_good_for_what_it_was_planned_for(self, bench: Bench) -> None:
        lease = bench.issued()
        assert bench.works(secret_of(lease))
        shortest = bench.now() + bench.broker.traits.shortest_ms
        assert bench.broker.traits.fields in {None, frozenset(secret_of(lease).fields)}, "what it says that it has"
        assert secret_of(lease).expires_at <= max(lease.expires_at, shortest)
        put_away(bench, lease)

    def test_what_is_revoked_is_good_for_nothing(self, bench: Bench) -> None:
        if not bench.broker.traits.revocable or bench.broker.traits.standing:
            assert bench.broker.traits.standing or bench.broker.traits.by_name is False
            return
        lease, other = bench.issued(), bench.issued()
        bench.broker.revoke(lease)
        assert not bench.works(secret_of(lease))
        assert bench.works(secret_of(other)), "another one lives on"
        bench.broker.revoke(other)
        assert not bench.works(secret_of(other))

    def test_revoking_twice_or_what_never_was_succeeds(self, bench: Bench) -> None:
        lease = bench.issued()
        put_away(bench, lease)
        put_away(bench, lease)
        assert says_over(bench, bench.lease()) or not bench.broker.traits.by_name
        assert all(still() for still in bench.others)

    def test_what_was_lost_is_revoked_by_name(self, bench: Bench) -> None:
        """Or it is not said to be over."""
        lease, traits = bench.issued(), bench.broker.traits
        over = says_over(bench, replace(lease, secret=None))
        if traits.revocable and not traits.standing:
            assert not (over and bench.works(secret_of(lease)))
        if traits.by_name:
            assert over
            assert lease.name not in bench.alive()
        put_away(bench, lease)

    def test_orphans_are_those_that_nobody_remembers(self, bench: Bench) -> None:
        if not bench.broker.traits.by_name:
            assert list(bench.broker.list_orphans(())) == []
            return
        assert list(bench.broker.list_orphans(())) == []
        known, orphan = bench.issued(), bench.issued()
        assert bench.alive() >= {known.name, orphan.name}
        assert list(bench.broker.list_orphans({known.name})) == [orphan.name]
        bench.broker.revoke(replace(orphan, secret=None, rights={}))
        assert list(bench.broker.list_orphans({known.name})) == []
        assert bench.works(secret_of(known))
        bench.broker.revoke(known)
        assert all(still() for still in bench.others)

    def test_renewed_it_lives_longer_and_is_the_same(self, bench: Bench) -> None:
        if not bench.broker.traits.renewable:
            return
        lease = bench.issued(scope=Scope.TASK)
        until = bench.broker.renew(lease, lease.expires_at + LIFETIME_MS)
        assert lease.expires_at < until <= lease.expires_at + LIFETIME_MS
        assert bench.works(secret_of(lease))
        bench.broker.revoke(lease)
        assert not bench.works(secret_of(lease))

    def test_a_secret_is_in_no_text(self, bench: Bench) -> None:
        lease = bench.issued()
        texts = f"{lease!r}{secret_of(lease)!r}{bench.broker!r}"
        assert not [name for name, value in _secrets(secret_of(lease)).items() if value in texts]
        put_away(bench, lease)

    def test_a_backend_that_does_not_answer_is_an_error_and_nothing_is_said_to_be_over(self, bench: Bench) -> None:
        lease = bench.issued()
        bench.stop()
        asks: list[Callable[[], object]] = [lambda: bench.broker.issue(bench.lease())]
        if not bench.broker.traits.standing:  # of what is only lent, the end is nothing to ask for
            asks.append(lambda: bench.broker.revoke(lease))
        for ask in asks:
            with pytest.raises(CannotDo) as caught:
                ask()
            assert caught.value.reason is Reason.UNAVAILABLE
            assert caught.value.detail
            assert not [name for name, value in _secrets(secret_of(lease)).items() if value in str(caught.value.detail)]


def _secrets(secret: Secret) -> dict[str, str]:
    """What of it is secret: what is long enough to be, and is no name."""
    found = {**secret.fields, "handle": secret.handle}
    return {name: value for name, value in found.items() if len(value) >= 16 and name not in PUBLIC}


PUBLIC = frozenset({"user", "host", "url", "database", "access_key_id", "namespace", "api", "ca"})
"""Fields that are no secrets."""
