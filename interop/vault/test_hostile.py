"""What a hostile holder, a server that lies or fails, and a network that loses and repeats try, all of it real."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from forestall.core.ask import CannotDo
from forestall.core.model import Scope
from forestall.core.reason import Reason
from forestall.testing.broker import Bench, secret_of
from interop.vault.desk import (
    BOTH,
    DATABASE,
    TOKEN,
    bench_of,
    connect,
    may_draw,
    may_select,
    now,
    permit,
    roles,
)
from interop.vault.proxy import Doing, Proxy, Rule, always
from interop.vault.shop import Shop

DENIED = 403
BY_FILE = DATABASE.replace(
    'login = {{ method = "approle", role_id = "{role_id}", secret_id_file = "{secret_id}" }}',
    'login = {{ method = "token", file = "{file}" }}',
)


@pytest.fixture
def bench(shop: Shop) -> Iterator[Bench]:
    with bench_of(shop) as made:
        yield made


@pytest.fixture
def proxy(shop: Shop) -> Iterator[Proxy]:
    with Proxy(shop.server.address, shop.server.authority) as made:
        yield made


@pytest.fixture
def behind(shop: Shop, proxy: Proxy) -> Iterator[Bench]:
    """A broker that reaches the server through the proxy alone."""
    with bench_of(shop, address=proxy.address) as made:
        yield made


def on(doing: Doing, path: str) -> Rule:
    return lambda method, asked: doing if asked.startswith(path) else Doing.PASS


# -- who holds what was lent


def test_a_user_of_the_database_reaches_nothing_else_there(shop: Shop, bench: Bench) -> None:
    lease = bench.issued()
    with connect(shop, secret_of(lease)) as session:
        for statement in (
            "SELECT * FROM salaries",
            "INSERT INTO orders VALUES (2, 'a table')",
            "CREATE ROLE other LOGIN",
            "SET ROLE bao",
            "COPY orders TO PROGRAM 'cat'",
            "SELECT * FROM pg_authid",
        ):
            with pytest.raises(errors.InsufficientPrivilege):
                session.execute(statement)
    bench.broker.revoke(lease)


def test_an_open_session_ends_with_the_lease(shop: Shop, bench: Bench) -> None:
    lease = bench.issued()
    with connect(shop, secret_of(lease)) as session:
        session.execute("BEGIN")
        session.execute("SELECT * FROM orders")
        bench.broker.revoke(lease)
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT * FROM orders")
    assert not may_select(shop, secret_of(lease))


def test_an_open_session_ends_also_where_the_answer_was_lost(shop: Shop, bench: Bench) -> None:
    lease = bench.issued()
    with connect(shop, secret_of(lease)) as session:
        bench.broker.revoke(replace(lease, secret=None))
        with pytest.raises(psycopg.OperationalError):
            session.execute("SELECT * FROM orders")


def test_the_database_itself_knows_when_a_user_ends(shop: Shop, bench: Bench) -> None:
    """Its engine says five minutes; the lease, one."""
    lease = bench.issued()
    with shop.cluster.admin() as admin:
        query = "SELECT extract(epoch FROM rolvaliduntil) FROM pg_roles WHERE rolname = %s"
        found = admin.execute(query, [secret_of(lease).fields["username"]]).fetchone()
    assert found is not None
    assert float(found[0]) * 1000 <= lease.expires_at + 6000, "the plugin adds five seconds"
    bench.broker.revoke(lease)


def test_a_role_follows_the_gravest_effect(shop: Shop, bench: Bench) -> None:
    rights = bench.broker.plan(permit(BOTH), bench.action, bench.grant)
    lease = bench.issued(rights=rights)
    with connect(shop, secret_of(lease)) as session:
        session.execute("INSERT INTO orders VALUES (3, 'a lamp')")
        session.execute("UPDATE orders SET what = 'a lamp' WHERE id = 3")
        with pytest.raises(errors.InsufficientPrivilege):
            session.execute("DELETE FROM orders")
    bench.broker.revoke(lease)


def test_a_token_that_is_given_out_reaches_nothing_but_its_policy(shop: Shop) -> None:
    with bench_of(shop, TOKEN) as bench:
        lease = bench.issued()
        token, accessor = secret_of(lease).fields["token"], secret_of(lease).handle
        for method, path, body in (
            ("GET", "database/creds/shop-rw", None),
            ("GET", "kv/data/mail", None),
            ("POST", "auth/token/create", {}),
            ("POST", "auth/token/create/forestall", {"policies": ["shop-rw"]}),
            ("POST", "auth/token/create-orphan", {}),
            ("POST", "auth/token/renew-self", {"increment": 86_400}),
            ("POST", "auth/token/renew-accessor", {"accessor": accessor, "increment": 86_400}),
            ("GET", "auth/token/lookup-self", None),
            ("LIST", "auth/token/accessors", None),
            ("POST", "sys/wrapping/wrap", {"kept": "for later"}),
            ("POST", "sys/leases/renew", {"lease_id": "database/creds/shop-ro/x"}),
            ("PUT", "sys/policies/acl/shop-ro", {"policy": 'path "*" { capabilities = ["sudo"] }'}),
            ("POST", "cubbyhole/kept", {"for": "later"}),
        ):
            assert shop.server.status(method, path, body, token=token) == DENIED, path
        assert bench.works(secret_of(lease))
        bench.broker.revoke(lease)
        assert shop.server.status("GET", "database/creds/shop-ro", token=token) == DENIED


def test_what_a_holder_had_made_with_its_token_has_ended_with_it(shop: Shop) -> None:
    with bench_of(shop, TOKEN) as bench:
        lease = bench.issued()
        assert may_draw(shop, secret_of(lease))
        assert may_draw(shop, secret_of(lease))
        assert lease.name in roles(shop)
        bench.broker.revoke(lease)
        assert lease.name not in roles(shop)


def test_a_token_with_two_uses_has_two(shop: Shop) -> None:
    with bench_of(shop, TOKEN + "uses = 2\n") as bench:
        lease = bench.issued()
        assert may_draw(shop, secret_of(lease))
        shop.server.status("GET", "database/creds/shop-ro", token=secret_of(lease).fields["token"])
        assert not may_draw(shop, secret_of(lease))
        bench.broker.revoke(lease)


def test_renewals_have_an_end_that_the_server_keeps(shop: Shop, bench: Bench) -> None:
    shop.server.ask("POST", "auth/token/roles/forestall", {"token_explicit_max_ttl": "90s"})
    try:
        lease = bench.issued(scope=Scope.TASK)
        assert bench.broker.renew(lease, now() + 600_000) <= now() + 90_000
        bench.broker.revoke(lease)
    finally:
        shop.server.ask("POST", "auth/token/roles/forestall", {"token_explicit_max_ttl": "8h"})


def test_a_lease_of_one_action_is_not_renewed_by_anybody(shop: Shop, bench: Bench) -> None:
    lease = bench.issued()
    accessor = secret_of(lease).handle.split()[0]
    shop.server.status(
        "POST", "auth/token/renew-accessor", {"accessor": accessor, "increment": 600}, token=shop.server.root
    )
    assert shop.server.tokens()[accessor]["ttl"] <= 60
    bench.broker.revoke(lease)


# -- Forestall's own login


def test_forestalls_login_makes_no_other_tokens_and_reads_nothing(shop: Shop) -> None:
    login = {"role_id": shop.role_id, "secret_id": shop.secret_id.read_text().strip()}
    token = shop.server.ask("POST", "auth/approle/login", login, token="")["auth"]["client_token"]
    for method, path, body in (
        ("GET", "database/creds/shop-ro", None),
        ("POST", "auth/token/create", {"policies": ["shop-ro"]}),
        ("POST", "auth/token/create-orphan", {"policies": ["shop-ro"]}),
        ("POST", "sys/leases/revoke-prefix/database", {}),
        ("LIST", "sys/leases/lookup/database/creds", None),
        ("GET", "sys/policies/acl/forestall", None),
        ("POST", "auth/token/roles/forestall", {"allowed_policies": ["root"]}),
    ):
        assert shop.server.status(method, path, body, token=token) == DENIED, path
    for policy in ("root", "forestall", "default"):
        wider = {"policies": [policy], "no_default_policy": False}
        assert shop.server.status("POST", "auth/token/create/forestall", wider, token=token) in {400, DENIED}, policy
    shop.server.ask("POST", "auth/token/revoke-self", {}, token=token)


def lines(shop: Shop) -> list[str]:
    """Of Forestall's policy, a rule each."""
    return [line for line in shop.server.ask("GET", "sys/policies/acl/forestall")["data"]["policy"].split("\n") if line]


def everything(shop: Shop) -> None:
    """What Forestall asks for, all of it. Raises where something of it is refused."""
    with bench_of(shop) as bench:
        token = ""
        for effects in (frozenset(permit().effects), BOTH):
            rights = bench.broker.plan(permit(effects), bench.action, bench.grant)
            lease = bench.issued(scope=Scope.TASK, rights=rights)
            bench.broker.renew(lease, lease.expires_at + 10_000)
            bench.broker.revoke(lease)
            bench.broker.revoke(replace(lease, secret=None))
        bench.broker.list_orphans(())
        token = bench.broker._keys.token(0.0)  # type: ignore[attr-defined]
    assert shop.server.status("POST", "sys/leases/lookup", {"lease_id": "x"}, token=token) == DENIED, "it was ended"


def is_enough(shop: Shop) -> bool:
    try:
        everything(shop)
    except (CannotDo, AssertionError):
        return False
    return True


def test_each_rule_of_the_policy_is_needed(shop: Shop) -> None:
    everything(shop)
    rules = lines(shop)
    assert len(rules) == 11
    try:
        for without in rules:
            left = "\n".join(rule for rule in rules if rule != without)
            shop.server.ask("PUT", "sys/policies/acl/forestall", {"policy": left})
            assert not is_enough(shop), without
    finally:
        shop.server.ask("PUT", "sys/policies/acl/forestall", {"policy": "\n".join(rules)})
    everything(shop)


def test_a_login_that_was_ended_is_made_anew(shop: Shop) -> None:
    ahead = [0]
    with bench_of(shop, now=lambda: now() + ahead[0]) as bench:
        first = bench.issued()
        end_logins(shop)
        with pytest.raises(CannotDo, match="answered 403"):
            bench.broker.revoke(first)
        ahead[0] = 11_000  # one that is young is not asked for again at each refusal
        bench.broker.revoke(first)
        assert first.name not in bench.alive()


def test_a_token_file_is_read_again(shop: Shop, tmp_path: Path) -> None:
    file = tmp_path / "token"

    def write() -> None:
        made = shop.server.ask("POST", "auth/token/create", {"policies": ["forestall"], "ttl": "1h", "no_parent": True})
        file.write_text(f"{made['auth']['client_token']}\n")

    write()
    with bench_of(shop, BY_FILE, file=file) as bench:
        lease = bench.issued()
        shop.server.ask("POST", "auth/token/revoke", {"token": file.read_text().strip()})
        with pytest.raises(CannotDo, match="look at the policy of Forestall's own token") as caught:
            bench.broker.revoke(lease)
        assert file.read_text().strip() not in str(caught.value)
        write()
        bench.broker.revoke(lease)
        file.unlink()
        with pytest.raises(CannotDo, match="cannot be read"):
            bench.issued()


def end_logins(shop: Shop) -> None:
    for accessor, token in shop.server.tokens().items():
        if token["path"] == "auth/approle/login":
            shop.server.ask("POST", "auth/token/revoke-accessor", {"accessor": accessor})


# -- a server that cannot, and one that lies


def test_a_sealed_server_says_so_and_nothing_is_over(shop: Shop, bench: Bench) -> None:
    lease = bench.issued()
    shop.server.seal()
    try:
        for ask in (bench.issued, lambda: bench.broker.revoke(lease)):
            with pytest.raises(CannotDo, match="is sealed; unseal it"):
                ask()
    finally:
        shop.server.unseal()
    bench.broker.revoke(lease)
    assert lease.name not in bench.alive()


def test_after_the_server_was_killed_a_lease_is_ended_by_its_name(shop: Shop, bench: Bench) -> None:
    lease = bench.issued()
    shop.server.daemon.kill()
    shop.server.start()
    shop.server.unseal()
    bench.broker.revoke(replace(lease, secret=None))
    assert lease.name not in bench.alive()


@pytest.mark.parametrize("lost", [False, True])
def test_while_the_database_does_not_drop_the_user_it_is_not_over(shop: Shop, bench: Bench, lost: bool) -> None:
    lease = bench.issued()
    asked = replace(lease, secret=None) if lost else lease
    with shop.cluster.admin() as admin:
        admin.execute("BEGIN")
        admin.execute("LOCK TABLE pg_authid IN SHARE MODE")
        with pytest.raises(CannotDo) as caught:
            bench.broker.revoke(asked)
        assert caught.value.reason is Reason.UNAVAILABLE
        admin.execute("ROLLBACK")
    bench.broker.revoke(asked)
    assert lease.name not in bench.alive()


@pytest.mark.parametrize("path", ["auth/token/revoke-accessor", "sys/leases/revoke"])
def test_what_a_server_says_it_has_ended_is_looked_up(shop: Shop, proxy: Proxy, behind: Bench, path: str) -> None:
    lease = behind.issued()
    proxy.rule = on(Doing.LIE, path)
    with pytest.raises(CannotDo, match="that it said it had"):
        behind.broker.revoke(lease)
    assert lease.name in behind.alive()
    proxy.rule = always
    behind.broker.revoke(lease)
    assert lease.name not in behind.alive()


# -- a network that loses, repeats and delays


@pytest.mark.parametrize("path", ["auth/token/create/", "database/creds/", "sys/leases/renew"])
def test_what_was_made_and_whose_answer_was_lost_is_ended_by_name(proxy: Proxy, behind: Bench, path: str) -> None:
    lease = behind.lease()
    proxy.rule = on(Doing.CUT, path)
    with pytest.raises(CannotDo) as caught:
        behind.broker.issue(lease)
    assert caught.value.reason is Reason.UNAVAILABLE
    assert lease.name in behind.alive()
    proxy.rule = always
    behind.broker.revoke(lease)
    assert lease.name not in behind.alive()


@pytest.mark.parametrize("path", ["auth/token/revoke-accessor", "sys/leases/revoke", "sys/leases/lookup"])
def test_an_end_whose_answer_was_lost_is_asked_for_again(proxy: Proxy, behind: Bench, path: str) -> None:
    lease = behind.issued()
    proxy.rule = on(Doing.CUT, path)
    with pytest.raises(CannotDo):
        behind.broker.revoke(lease)
    proxy.rule = always
    behind.broker.revoke(lease)
    assert lease.name not in behind.alive()


def test_an_answer_that_comes_twice_is_nobody_elses(shop: Shop, proxy: Proxy, behind: Bench) -> None:
    proxy.rule = lambda method, path: Doing.TWICE
    one, other = behind.issued(), behind.issued()
    assert secret_of(one).fields != secret_of(other).fields
    behind.broker.revoke(one)
    assert not may_select(shop, secret_of(one))
    assert may_select(shop, secret_of(other))
    behind.broker.revoke(other)


def test_a_token_that_was_made_twice_is_an_orphan_and_ended(proxy: Proxy, behind: Bench) -> None:
    proxy.rule = on(Doing.AGAIN, "auth/token/create/")
    lease = behind.issued()
    proxy.rule = always
    behind.broker.revoke(lease)
    assert list(behind.broker.list_orphans(())) == [lease.name]
    behind.broker.revoke(replace(lease, secret=None))
    assert lease.name not in behind.alive()


def test_what_is_made_late_is_found_by_the_next_search(proxy: Proxy, behind: Bench) -> None:
    lease = behind.lease()
    proxy.rule = on(Doing.HOLD, "auth/token/create/")
    with pytest.raises(CannotDo):
        behind.broker.issue(lease)
    proxy.rule = always
    behind.broker.revoke(lease)
    proxy.release()
    assert list(behind.broker.list_orphans(())) == [lease.name]
    behind.broker.revoke(lease)
    assert lease.name not in behind.alive()


def test_a_server_of_another_authority_hears_nothing(shop: Shop, tmp_path: Path) -> None:
    from interop.authority import Authority

    with bench_of(shop, ca=Authority(tmp_path).ca) as bench, pytest.raises(CannotDo, match="not who it should be"):
        bench.issued()
