"""A server that goes away, is slow, or whose answers are lost: nothing is over that is not, and nothing stays."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from forestall.adapter.credential.postgresql_password import Password, Passwords, make_password
from forestall.adapter.credential.postgresql_scram import ITERATIONS
from forestall.core.ask import CannotDo
from forestall.core.reason import Reason
from forestall.testing.broker import secret_of
from tests.postgres.proxy import Proxy
from tests.postgres.shop import LIFETIME_MS, LOGIN, PASSWORD, TIMEOUT_S, Shop, issued, lease, open_shop

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("postgres-faults")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One that may be stopped."""
    with open_shop(tmp_path_factory.mktemp("shop")) as shop:
        yield shop


@pytest.fixture
def shop(server: Shop) -> Iterator[Shop]:
    yield server
    assert server.roles() == set()
    assert server.app_works()


@pytest.fixture
def proxy(shop: Shop) -> Iterator[Proxy]:
    with Proxy(shop.cluster.port) as found:
        yield found


def drop_brokers_sessions(shop: Shop) -> None:
    with shop.admin() as admin:
        admin.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = %s", (LOGIN,))


def test_the_server_was_started_again_in_between(shop: Shop) -> None:
    broker = shop.broker()
    made = issued(broker, "restarted")
    shop.cluster.stop()
    shop.cluster.start()
    assert shop.lets_in(secret_of(made))
    assert list(broker.list_orphans(())) == [made.name]
    other = issued(broker, "after")
    broker.revoke(other)
    broker.revoke(made)
    broker.close()


def test_the_server_failed_in_between(shop: Shop) -> None:
    """What was said to be over stays over."""
    broker = shop.broker()
    made, over = issued(broker, "alive"), issued(broker, "over")
    broker.revoke(over)
    shop.cluster.kill()
    for ask in (
        lambda: broker.issue(lease(broker, "down")),
        lambda: broker.revoke(made),
        lambda: broker.list_orphans(()),
    ):
        with pytest.raises(CannotDo) as caught:
            ask()
        assert caught.value.reason is Reason.UNAVAILABLE
    shop.cluster.start()
    assert shop.roles() == {made.name}
    broker.revoke(made)
    broker.close()


def test_a_server_that_failed_at_once_has_the_role_or_has_it_not(shop: Shop) -> None:
    """Its making is not waited for on the disk. As it is then, so it is told, and ended."""
    broker = shop.broker()
    made = issued(broker, "made")
    shop.cluster.kill()
    shop.cluster.start()
    there = shop.roles()
    assert there <= {made.name}
    assert set(broker.list_orphans(())) == there
    assert shop.lets_in(secret_of(made)) is bool(there)
    broker.revoke(made)
    broker.close()


def test_only_the_making_of_a_role_does_not_wait_for_the_disk(shop: Shop) -> None:
    broker = shop.broker()
    made = issued(broker, "made")
    assert broker.server.ask("SHOW synchronous_commit", (), broker.server.deadline()) == [("on",)]
    broker.revoke(made)
    assert broker.server.ask("SHOW synchronous_commit", (), broker.server.deadline()) == [("on",)]
    broker.close()


def test_an_end_is_on_disk_also_where_the_server_is_told_not_to_wait(shop: Shop) -> None:
    """Else a server that fails brings back a role of which the books say that it is gone."""
    with shop.admin() as admin:
        admin.execute("ALTER SYSTEM SET synchronous_commit = off")
        admin.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    shop.cluster.stop()
    shop.cluster.start()
    broker = shop.broker()
    made = issued(broker, "made")
    with shop.admin() as admin:
        admin.execute("CHECKPOINT")
    broker.revoke(made)
    shop.cluster.kill()
    shop.cluster.start()
    there = shop.roles()
    with shop.admin() as admin:
        admin.execute("ALTER SYSTEM RESET ALL")
    shop.cluster.stop()
    shop.cluster.start()
    shop.clear()
    broker.close()
    assert there == set()


def test_somebody_ended_the_brokers_sessions(shop: Shop) -> None:
    broker = shop.broker()
    made = issued(broker, "kept")
    drop_brokers_sessions(shop)
    other = issued(broker, "new")
    drop_brokers_sessions(shop)
    broker.revoke(made)
    drop_brokers_sessions(shop)
    broker.revoke(other)
    broker.close()


def test_a_role_whose_answer_was_lost_is_ended_by_its_name(shop: Shop, proxy: Proxy) -> None:
    broker, sure = shop.broker(port=proxy.port), shop.broker()
    broker.revoke(issued(broker, "first"))
    proxy.lose.set()
    asked = lease(broker, "lost")
    with pytest.raises(CannotDo, match="no role was made"):
        broker.issue(asked)
    assert proxy.lost == 1, "it is not asked for again"
    assert shop.roles() == {asked.name}, "it was made all the same"
    proxy.lose.clear()
    assert list(broker.list_orphans(())) == [asked.name]
    broker.revoke(asked)
    broker.close()
    sure.close()


def test_an_end_whose_answer_was_lost_is_asked_for_again(shop: Shop, proxy: Proxy) -> None:
    """At once, on another session; and later, where that answer was lost too."""
    broker = shop.broker(port=proxy.port)
    made = issued(broker, "twice")
    proxy.lose.set()
    with pytest.raises(CannotDo, match=f"{made.name} may be alive"):
        broker.revoke(made)
    assert proxy.lost == 2
    proxy.lose.clear()
    broker.revoke(made)
    assert not shop.lets_in(secret_of(made))
    broker.close()


def test_a_server_that_never_answers_is_waited_for_so_long_and_no_longer(shop: Shop, proxy: Proxy) -> None:
    broker = shop.broker(port=proxy.port)
    made = issued(broker, "slow")
    proxy.cut = False
    proxy.lose.set()
    broker.server.timeout_s = 0.3
    for ask in (lambda: broker.issue(lease(broker, "silent")), lambda: broker.revoke(made)):
        with pytest.raises(CannotDo, match="did not answer in time"):
            ask()
    proxy.lose.clear()
    broker.server.timeout_s = TIMEOUT_S
    shop.settle()
    for name in broker.list_orphans(()):
        broker.revoke(replace(made, name=name, secret=None))
    broker.close()


def test_a_role_that_was_asked_for_is_not_made_long_after(shop: Shop) -> None:
    """Somebody else has the turn; the server gives up about when the broker does, and nothing comes of it later."""
    broker = shop.broker(timeout_s=1.0)
    with shop.admin() as admin:
        admin.execute("BEGIN; LOCK TABLE forestall.turn")
        with pytest.raises(CannotDo):
            broker.issue(lease(broker, "late"))
        broker.close()
        shop.settle()
        admin.execute("ROLLBACK")
    assert shop.roles() == set()


def test_the_broker_is_not_let_in(shop: Shop, tmp_path: Path) -> None:
    broker = shop.broker()
    with shop.admin() as admin:
        admin.execute(f"ALTER ROLE {LOGIN} PASSWORD 'another'")
        try:
            with pytest.raises(CannotDo) as caught:
                broker.issue(lease(broker, "locked-out"))
        finally:
            admin.execute(f"ALTER ROLE {LOGIN} PASSWORD '{PASSWORD.replace(chr(39), chr(39) * 2)}'")
    assert "authentication failed" in caught.value.detail
    assert PASSWORD not in caught.value.detail
    broker.close()


def test_the_passwords_file_is_read_when_it_is_needed(shop: Shop) -> None:
    broker = shop.broker()
    shop.password_file.chmod(0o644)
    try:
        with pytest.raises(CannotDo, match="chmod 600"):
            broker.list_orphans(())
    finally:
        shop.password_file.chmod(0o600)
    assert list(broker.list_orphans(())) == []
    broker.close()


def test_clocks_that_differ_do_not_lengthen_a_life(shop: Shop) -> None:
    """The server counts from its own clock."""
    for hours in (-5, 5):
        broker = shop.broker()
        skewed = shop.broker(now=lambda: broker.context.now() + hours * 3_600_000)  # noqa: B023
        made = issued(skewed, f"skewed{hours}".replace("-", "m"))
        with shop.admin() as admin:
            left = admin.execute(
                "SELECT extract(epoch FROM rolvaliduntil - now()) * 1000 FROM pg_roles WHERE rolname = %s", (made.name,)
            ).fetchone()
        assert left is not None
        assert 0 < left[0] <= LIFETIME_MS
        assert shop.lets_in(secret_of(made))
        skewed.revoke(made)
        skewed.close()
        broker.close()


def test_a_password_of_few_iterations_lets_its_holder_in(shop: Shop) -> None:
    broker = shop.broker(limits="scram_iterations = 1")
    made = issued(broker, "few")
    assert shop.lets_in(secret_of(made))
    broker.revoke(made)
    broker.close()


def test_a_password_made_ahead_is_of_one_lease(shop: Shop) -> None:
    broker = shop.broker()
    ready: list[Password] = []

    def make() -> Password:
        ready.append(make_password(os.urandom, ITERATIONS))
        return ready[-1]

    broker.passwords = Passwords(make, later=lambda work: work())
    broker.passwords.prepare()
    with closing(broker):
        made = [issued(broker, f"ahead-{number}") for number in range(2)]
        secrets = [secret_of(each) for each in made]
        assert [each.fields["password"] for each in secrets] == [each.text for each in ready[:2]]
        assert len(ready) == 3
        assert all(shop.lets_in(each) for each in secrets)
        for each in made:
            broker.revoke(each)
        assert not any(shop.lets_in(each) for each in secrets)


def test_what_a_refused_role_was_to_have_is_not_used_again(shop: Shop) -> None:
    broker = shop.broker()
    ready = [make_password(os.urandom, 1) for _ in range(3)]
    left = list(ready)
    broker.passwords = Passwords(lambda: left.pop(0), later=lambda work: work())
    with closing(broker):
        with pytest.raises(CannotDo):
            broker.issue(lease(broker, "refused", rights={}))
        made = issued(broker, "next")
        assert secret_of(made).fields["password"] == ready[1].text
        broker.revoke(made)


def test_many_are_made_and_ended_at_once(shop: Shop) -> None:
    """PostgreSQL does not take two changes of one table's rights at once; they take turns."""
    broker = shop.broker()
    broken: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for turn in range(4):
                made = issued(broker, f"many-{number}-{turn}")
                assert shop.lets_in(secret_of(made))
                broker.revoke(made)
        except BaseException as error:
            broken.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert broken == []
    broker.close()


def test_what_was_granted_by_hand_keeps_a_role_and_says_so(shop: Shop) -> None:
    broker = shop.broker()
    made = issued(broker, "by-hand")
    with shop.admin() as admin, shop.connect(secret_of(made)) as session:
        admin.execute(f'GRANT SELECT ON shop.salaries TO "{made.name}"')
        with pytest.raises(CannotDo, match="granted to it by hand"):
            broker.revoke(made)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT 1")
        assert not shop.lets_in(secret_of(made))
        assert list(broker.list_orphans(())) == [made.name]
        admin.execute(f'REVOKE ALL ON shop.salaries FROM "{made.name}"')
    broker.revoke(made)
    broker.close()
