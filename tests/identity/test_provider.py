"""Tokens of a real OpenID provider, checked with keys that it serves, changes, and at times does not serve."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from forestall.adapter.oidc.checking import check_blocking, check_on_loop
from forestall.adapter.oidc.verifier import Verifier
from forestall.clock import Clock
from forestall.identities import load_identities
from forestall.proof.algorithm import Algorithm
from forestall.proof.client_assertion import make_assertion
from forestall.proof.fault import Fault
from forestall.proof.jwk import SigningKey
from forestall.proof.oidc import Workload
from forestall.proof.user import User
from tests.identity.conftest import IMPATIENT_S, TIMES, World
from tests.identity.provider import HERE, WAIT_S, Provider
from tests.tokens import key, refused, token

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("identity")]

BILLING = "spiffe://example.org/agents/billing"


def replaced() -> SigningKey:
    """A key that nobody has seen yet."""
    return SigningKey.of(rsa.generate_private_key(65537, 2048), Algorithm.RS256)


# -- who it is


def test_a_workload_is_who_the_rule_says(world: World) -> None:
    found = world.check(world.verifier.workload(world.token(), now=world.now))
    assert str(found.id) == BILLING
    assert found.issuer == world.provider.issuer
    assert found.facts == {"sub": "billing-agent", "scope": "identity"}
    assert world.fetched == [world.provider.issuer + path for path in ("/.well-known/openid-configuration", "/jwks")]


def test_keys_are_fetched_once_for_many_tokens(world: World) -> None:
    for _ in range(5):
        assert world.workload(world.token()) == BILLING
    assert world.provider.asked() == 1


def test_another_provider_signs_with_another_algorithm(another: Provider, tmp_path: Path) -> None:
    world = World(another, tmp_path / "home")
    try:
        assert world.workload(world.token()) == BILLING
    finally:
        world.close()


def test_a_token_for_somebody_else_is_not_for_us(world: World) -> None:
    with refused(Fault.WRONG_AUDIENCE):
        world.workload(world.token(resource="https://another.example"))


def test_an_access_token_does_not_pass_for_an_identity(world: World) -> None:
    with refused(Fault.WRONG_TYPE):
        world.workload(world.token(scope=None))


def test_a_token_that_ran_out_is_refused(world: World) -> None:
    ours = world.token()
    world.later(600_000 + 30_000 + 1_000)
    with refused(Fault.EXPIRED):
        world.workload(ours)


def test_a_user_is_who_signed_in(world: World) -> None:
    id_token, access_token = world.provider.sign_in("alice", nonce="n-1")

    def user(token: str, nonce: str, access: str) -> str:
        verifier = world.verifier
        return world.check(verifier.user(token, now=world.now, nonce=nonce, access_token=access)).subject

    assert user(id_token, "n-1", access_token) == "alice"
    with refused(Fault.NONCE):
        user(id_token, "n-2", access_token)
    other, _ = world.provider.sign_in("bob", nonce="n-1")
    assert user(other, "n-1", access_token) == "bob"


def test_a_users_token_is_no_workloads_and_the_other_way_round(world: World) -> None:
    id_token, _ = world.provider.sign_in("alice", nonce="n-1")
    with refused(Fault.WRONG_AUDIENCE):
        world.workload(id_token)
    with refused(Fault.WRONG_AUDIENCE):
        world.check(world.verifier.user(world.token(), now=world.now, nonce=None, access_token=None))


def test_the_provider_takes_our_assertion_once(world: World) -> None:
    assertion = world.provider.assertion(now=Clock()(), jti="a-jti-of-our-own")
    assert world.provider.token(assertion).status == 200
    assert world.provider.token(assertion).json["error"] == "invalid_client"
    other = make_assertion(
        key(Algorithm.ES256, "a stranger"),
        client="billing-agent",
        audience=world.provider.issuer,
        now=Clock()(),
        jti="a-jti-of-others",
    )
    assert world.provider.token(other).json["error"] == "invalid_client"


# -- rotation


def test_a_new_key_is_noticed_by_its_first_token(world: World) -> None:
    assert world.workload(world.token()) == BILLING
    world.provider.rotate(replaced(), *world.provider.keys)
    ours = world.token()
    world.later(10_000)
    assert world.workload(ours) == BILLING
    assert world.provider.asked() == 2


def test_nobody_makes_us_ask_more_often_than_that(world: World) -> None:
    assert world.workload(world.token()) == BILLING
    world.provider.rotate(replaced())
    ours = world.token()
    for _ in range(20):
        with refused(Fault.UNKNOWN_KEY):
            world.workload(ours)
    assert world.provider.asked() == 1
    world.later(10_000)
    assert world.workload(ours) == BILLING


def test_a_key_that_was_taken_back_counts_no_longer_than_its_time(world: World) -> None:
    old = world.token()
    assert world.workload(old) == BILLING
    world.provider.rotate(replaced())
    world.later(TIMES.ttl_ms - 1)
    assert world.workload(old) == BILLING
    world.later(1)
    with refused(Fault.UNKNOWN_KEY):
        world.workload(old)


def test_a_set_without_keys_takes_all_of_them_back(world: World) -> None:
    ours = world.token()
    assert world.workload(ours) == BILLING
    world.mode("empty")
    world.later(TIMES.ttl_ms)
    with refused(Fault.UNKNOWN_KEY):
        world.workload(ours)


def test_keys_that_were_published_whole_are_nobodys(world: World) -> None:
    ours = world.token()
    assert world.workload(ours) == BILLING
    world.mode("private")
    world.later(TIMES.ttl_ms)
    with refused(Fault.NO_BUNDLE):
        world.workload(ours)
    assert "not_public" in world.verifier.problems[0]


# -- a provider that goes away


def test_keys_outlive_a_provider_that_went_away_for_a_while(world: World) -> None:
    ours = world.token()
    assert world.workload(ours) == BILLING
    world.provider.stop()
    world.later(TIMES.ttl_ms - 60_000)  # a token lives as long as keys count; its own end is not what is tested
    assert world.workload(ours) == BILLING
    assert world.verifier.problems == ()


def test_keys_of_a_silent_provider_are_gone_after_their_bound(world: World) -> None:
    id_token, _ = world.provider.sign_in("alice", nonce="n-1")

    def check() -> User:
        return world.check(world.verifier.user(id_token, now=world.now, nonce=None, access_token=None))

    assert check().subject == "alice"
    world.provider.stop()
    world.later(TIMES.bound_ms)
    with refused(Fault.NO_BUNDLE):
        check()
    assert world.provider.issuer in world.verifier.problems[0]


def test_a_provider_that_comes_back_is_asked_again_and_no_earlier(world: World) -> None:
    ours = world.token()
    world.provider.stop()
    for _ in range(5):
        with refused(Fault.NO_BUNDLE):
            world.workload(ours)
    assert len(world.fetched) == 1
    world.provider.start()
    with refused(Fault.NO_BUNDLE):
        world.workload(ours)
    world.later(10_000)
    assert world.workload(ours) == BILLING
    assert world.verifier.problems == ()


# -- a provider that misbehaves


WRONG = {
    "silent": "",
    "drip": "",
    "huge": "bytes",
    "not-json": "malformed",
    "short": "",
    "moved": "status 302",
    "wrong-issuer": "wrong_issuer",
    "duplicate": "malformed",
}


@pytest.mark.parametrize("mode", WRONG)
def test_nonsense_is_no_key_set(world: World, mode: str) -> None:
    ours = world.token()
    world.mode(mode)
    with refused(Fault.NO_BUNDLE):
        world.workload(ours)
    (problem,) = world.verifier.problems
    assert WRONG[mode] in problem
    assert ours[:40] not in problem
    world.mode("good")
    world.later(10_000)
    assert world.workload(ours) == BILLING


@pytest.mark.parametrize("mode", WRONG)
def test_nonsense_does_not_replace_what_was_good(world: World, mode: str) -> None:
    ours = world.token()
    assert world.workload(ours) == BILLING
    world.mode(mode)
    forged = ours.rsplit(".", 1)[0] + ".AAAA"
    world.later(10_000)
    unknown = token_of_nobody(world)
    with refused(Fault.UNKNOWN_KEY):
        world.workload(unknown)
    assert world.verifier.problems
    assert world.workload(ours) == BILLING
    with refused(Fault.BAD_SIGNATURE):
        world.workload(forged)


def token_of_nobody(world: World) -> str:
    now = world.now // 1000
    claims = {"iss": world.provider.issuer, "sub": "billing-agent", "aud": "x", "iat": now, "exp": now + 60}
    return token(claims, key(Algorithm.ES256, "a stranger"))


# -- many at once


def test_many_that_come_at_once_ask_once(world: World) -> None:
    tokens = [world.token() for _ in range(8)]
    world.mode("held")
    together = threading.Barrier(len(tokens) + 1)

    def come(token: str) -> str:
        together.wait(WAIT_S)
        return world.workload(token)

    with ThreadPoolExecutor(len(tokens)) as pool:
        coming = [pool.submit(come, token) for token in tokens]
        together.wait(WAIT_S)
        assert world.asked.wait(WAIT_S)
        world.mode("good")
        assert [each.result(WAIT_S) for each in coming] == [BILLING] * len(tokens)
    assert len(world.fetched) == 2


def test_the_loop_goes_on_while_keys_are_fetched(world: World) -> None:
    tokens = [world.token() for _ in range(8)]
    world.mode("held")

    async def several() -> list[object]:
        checks = [world.verifier.workload(token, now=world.now) for token in tokens]
        tasks = [asyncio.create_task(check_on_loop(check, wait_s=WAIT_S)) for check in checks]
        assert await asyncio.to_thread(world.asked.wait, WAIT_S)
        tasks[0].cancel()  # who gives up does not give up for the others
        await asyncio.to_thread(world.mode, "good")
        return await asyncio.gather(*tasks, return_exceptions=True)

    first, *others = asyncio.run(several())
    assert isinstance(first, asyncio.CancelledError)
    assert [isinstance(each, Workload) and str(each.id) for each in others] == [BILLING] * 7
    assert len(world.fetched) == 2


def test_nobody_waits_for_longer_than_they_said(world: World) -> None:
    ours = world.token()
    world.mode("held")
    with refused(Fault.NO_BUNDLE):
        check_blocking(world.verifier.workload(ours, now=world.now), wait_s=IMPATIENT_S)
    with refused(Fault.NO_BUNDLE):
        asyncio.run(check_on_loop(world.verifier.workload(ours, now=world.now), wait_s=IMPATIENT_S))
    world.mode("good")
    assert world.workload(ours) == BILLING


def test_a_provider_that_nobody_configured_is_nobody(world: World, another: Provider) -> None:
    with refused(Fault.WRONG_ISSUER):
        world.workload(another.workload_token(now=Clock()(), jti=world.jti()))
    assert world.fetched == []


# -- how it is set up


def test_rules_are_of_one_issuer_and_of_no_other_spelling(world: World) -> None:
    file = world.home.root / "identity.toml"
    file.write_text(file.read_text().replace("127.0.0.1", "localhost"))
    other = Verifier(load_identities(world.home), fetch=world.fetch)
    try:
        with refused(Fault.WRONG_ISSUER):
            world.check(other.workload(world.token(), now=world.now))
    finally:
        other.close()


def test_the_provider_leaves_with_who_started_it(another: Provider) -> None:
    assert another.hang_up() == 0


def test_nothing_that_installs_names_a_registry() -> None:
    for name in ("package.json", "package-lock.json", ".npmrc", "install.sh"):
        content = (HERE / name).read_text()
        assert '"resolved"' not in content
        assert "registry." not in content
