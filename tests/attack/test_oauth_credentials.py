"""What a hostile holder, and a server that is slow, doubled or a liar, get out of tokens: at the real provider."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.credential.http import Unsent
from forestall.adapter.credential.oauth import OAuthBroker
from forestall.clock import Clock
from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.model import Lease, Scope, Secret
from forestall.core.place import Place, Where
from forestall.core.reason import Reason
from forestall.credentials.oauth import open_broker
from forestall.proof.client_assertion import ASSERTION_TYPE, make_assertion
from tests.backends.leases import READ, action, context, grant, lease, permit, table
from tests.backends.tamper import Forward, Held, Passed, Rule, Tamper, twice
from tests.backends.upstream import ASSERTION, CLIENT, CRM, OWN, Upstream, write_files, written
from tests.identity.conftest import installed
from tests.unit.adapter.oidc.site import Asked

pytestmark = pytest.mark.slow

__all__ = ["installed"]

USER = "https://idp.example#alice"


@pytest.fixture(scope="module")
def shared(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    upstream = Upstream(tmp_path_factory.mktemp("upstream") / "log")
    yield upstream
    upstream.stop()


@dataclass
class World:
    upstream: Upstream
    proxy: Tamper
    folder: Path
    stack: ExitStack
    later_ms: int = 0
    given: list[Mapping[str, Any]] = field(default_factory=list)
    """What the server gave out, as it passed since `watch`."""

    def now(self) -> int:
        return Clock()() + self.later_ms

    def broker(
        self, *, straight: bool = False, timeout_s: float = 30, place: Place | None = None, **given: str
    ) -> OAuthBroker:
        """One that reaches the server through the proxy; with `straight`, past it."""
        issuer = self.upstream.issuer
        at = issuer if straight else self.proxy.url
        places = {
            "token_endpoint": f'"{at}/token"',
            "revocation_endpoint": f'"{at}/token/revocation"',
            "introspection_endpoint": f'"{at}/token/introspection"',
        }
        text = written(**{"issuer": f'"{issuer}"', **places, **given})
        around = replace(context(self.folder, now=self.now, timeout_s=timeout_s), place=place)
        made = open_broker(table(self.folder, text), around)
        self.stack.callback(made.close)
        return made

    def lease(self, broker: OAuthBroker, *, user: str = USER, number: int = 1, **arguments: Any) -> Lease:
        given = replace(grant(), user=user, trust_domain="example.org")
        return lease(
            broker.plan(permit(READ), action(**arguments), given), number=number, expires_at=self.now() + 60_000
        )

    def tokens(self) -> list[str]:
        """Those among it."""
        kinds = ("access_token", "refresh_token")
        return [said[kind] for said in self.given for kind in kinds if kind in said]

    def watch(self, change: Callable[[dict[str, Any]], dict[str, Any]] = lambda said: said) -> None:
        """Note what the token endpoint gives out, and change it."""
        self.given = []

        def rule(asked: Asked, forward: Forward) -> Passed | None:
            passed = forward()
            if asked.path != "/token" or passed.status != 200:
                return passed
            self.given.append(passed.json)
            return passed.saying(change(dict(passed.json)))

        self.proxy.rule = rule


@pytest.fixture
def world(shared: Upstream, tmp_path: Path) -> Iterator[World]:
    write_files(tmp_path)
    upstream = shared.start()
    with Tamper(upstream.port) as proxy, ExitStack() as stack:
        yield World(upstream, proxy, tmp_path, stack)


@contextmanager
def refused(match: str | None = None) -> Iterator[None]:
    with pytest.raises(CannotDo, match=match) as caught:
        yield
    assert caught.value.reason is Reason.UNAVAILABLE


# -- what a holder can do


def test_a_token_is_for_what_the_action_needs_and_for_nothing_else(world: World) -> None:
    broker = world.broker()
    secret = broker.issue(world.lease(broker))
    told = world.upstream.told(secret.fields["token"])
    assert (told["scope"], told["aud"], told["client_id"]) == ("crm.read", CRM, "forestall")
    assert "token" not in repr(secret)


def test_a_token_is_nothing_that_makes_others(world: World) -> None:
    broker = world.broker()
    token = broker.issue(world.lease(broker)).fields["token"]
    exchange = "urn:ietf:params:oauth:grant-type:token-exchange"
    for form in (
        {"grant_type": "refresh_token", "refresh_token": token},
        {"grant_type": exchange, "subject_token": token, "subject_token_type": "urn:ietf:params:oauth:token-type:jwt"},
        {"grant_type": "client_credentials", "client_id": "forestall", "scope": "crm.write"},
        {"grant_type": "client_credentials", "client_id": "forestall", "client_assertion": token},
    ):
        assert world.upstream.post("/token", form)[0] in {400, 401}


def test_whoever_steals_a_bound_token_lacks_its_key(world: World) -> None:
    place = Place(Where.ARGUMENT, "api", "{token} {key}")
    broker = world.broker(straight=True, place=place, dpop="true")
    one, other = (broker.issue(world.lease(broker, number=number)) for number in (1, 2))
    keys = [json.loads(secret.fields["key"]) for secret in (one, other)]
    assert keys[0]["d"] != keys[1]["d"]
    bound = [world.upstream.told(secret.fields["token"])["cnf"]["jkt"] for secret in (one, other)]
    assert bound[0] != bound[1]
    assert all(keys[0]["d"] not in repr(each) for each in (one, broker))


def test_a_nonce_is_brought_when_it_is_asked_for(world: World) -> None:
    world.upstream.set(nonce=True)
    broker = world.broker(straight=True, dpop="true")
    for number in (1, 2):
        made = world.lease(broker, number=number)
        assert world.upstream.works(broker.issue(made))


def test_what_we_say_of_a_task_is_heard_once(world: World) -> None:
    broker = world.broker(grant='"token_exchange"', assertion=ASSERTION)
    broker.issue(world.lease(broker))
    (body,) = [body.decode() for _, path, body in world.proxy.passed if path == "/token"]
    forms = dict(pair.split("=", 1) for pair in body.split("&"))
    assertion = make_assertion(
        CLIENT, client="forestall", audience=world.upstream.issuer, now=world.now(), jti="a thief's"
    )
    again = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "subject_token": forms["subject_token"],
        "subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
        "client_id": "forestall",
        "client_assertion_type": ASSERTION_TYPE,
        "client_assertion": assertion,
    }
    assert world.upstream.post("/token", again) == (
        400,
        {"error": "invalid_grant", "error_description": "grant request is invalid"},
    )


def test_a_token_says_for_whom_and_through_whom(world: World) -> None:
    broker = world.broker(grant='"token_exchange"', assertion=ASSERTION)
    told = world.upstream.told(broker.issue(world.lease(broker)).fields["token"])
    assert (told["sub"], told["task"], told["act"]) == (USER, "task", {"iss": "example.org", "sub": "agent"})


@pytest.mark.parametrize(
    "name", ['a"&scope=crm.write', "x\r\nHost: y", "' OR 1=1 --", "\u202e\u0000é", '{"sub":"admin"}']
)
def test_a_name_that_tries_to_be_something_else_stays_a_name(world: World, name: str) -> None:
    broker = world.broker(grant='"id_jag"', assertion=ASSERTION)
    told = world.upstream.told(broker.issue(world.lease(broker, user=f"https://idp.example#{name}")).fields["token"])
    assert (told["sub"], told["scope"]) == (f"https://idp.example#{name}", "crm.read")


def test_users_have_the_names_that_they_have_there(world: World) -> None:
    ours = '{ issuer = "https://forestall.example", key_file = "words.pem", users_of = "https://idp.example" }'
    broker = world.broker(grant='"id_jag"', assertion=ours)
    assert world.upstream.told(broker.issue(world.lease(broker)).fields["token"])["sub"] == "alice"
    for user in ("https://evil.example#alice", "https://idp.example", "alice", ""):
        with pytest.raises(CannotDo) as caught:
            world.lease(broker, user=user)
        assert caught.value.reason is Reason.OUT_OF_SCOPE


def test_an_argument_is_what_the_token_is_for(world: World) -> None:
    details = '[{ type = "account", account = "{account}", limit = 3 }]'
    broker = world.broker(authorization_details=details)
    told = world.upstream.told(broker.issue(world.lease(broker, account='1"}, {"type":"account')).fields["token"])
    assert told["authorization_details"] == [{"type": "account", "account": '1"}, {"type":"account', "limit": 3}]
    for wrong in ({"a": 1}, ["*"], True, None, 1.5):
        with pytest.raises(CannotDo) as caught:
            world.lease(broker, account=wrong)
        assert caught.value.reason is Reason.INVALID_ARGUMENTS


def test_an_identity_provider_gives_what_the_resources_server_takes(world: World, tmp_path: Path) -> None:
    resource = Upstream(tmp_path / "resource.log", OWN, world.upstream.issuer).start()
    world.stack.callback(resource.stop)
    who = '{ id = "forestall", key_file = "client.pem" }'
    text = written(
        issuer=f'"{resource.issuer}"',
        grant='"id_jag"',
        assertion=ASSERTION,
        identity_provider=f'{{ issuer = "{world.upstream.issuer}", client = {who} }}',
    )
    broker = open_broker(table(tmp_path, text), context(tmp_path))
    world.stack.callback(broker.close)
    secret = broker.issue(world.lease(broker))
    assert (resource.works(secret), resource.told(secret.fields["token"])["sub"]) == (True, USER)
    world.upstream.stop()
    with pytest.raises(Unsent):
        broker.issue(world.lease(broker, number=2))


# -- a server that gives more, or something else


def longer(said: dict[str, Any]) -> dict[str, Any]:
    return said | {"expires_in": 3600}


WRONG: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "longer": longer,
    "endless": lambda said: {name: value for name, value in said.items() if name != "expires_in"},
    "expired": lambda said: said | {"expires_in": 0},
    "a life in words": lambda said: said | {"expires_in": "60"},
    "truth is no number": lambda said: said | {"expires_in": True},
    "wider": lambda said: said | {"scope": "crm.read crm.write"},
    "another scope": lambda said: said | {"scope": "admin"},
    "no scope": lambda said: said | {"scope": ""},
    "another binding": lambda said: said | {"token_type": "DPoP"},
    "a detail": lambda said: said | {"authorization_details": [{"type": "account", "account": "*"}]},
}


@pytest.mark.parametrize("wrong", WRONG)
def test_more_than_was_asked_for_is_revoked_and_given_to_nobody(world: World, wrong: str) -> None:
    broker = world.broker()
    world.watch(WRONG[wrong])
    made = world.lease(broker)
    with refused("revoked before anybody had it"):
        broker.issue(made)
    (token,) = world.tokens()
    assert world.upstream.told(token) == {"active": False}
    broker.revoke(made)


def test_a_server_that_really_gives_longer_is_told_to_take_it_back(world: World) -> None:
    world.upstream.set(ttl=3600)
    broker = world.broker()
    world.watch()
    with refused("token_lifetime_s"):
        broker.issue(world.lease(broker))
    assert world.upstream.told(world.tokens()[0]) == {"active": False}
    patient = world.broker(token_lifetime_s="3600")
    made = world.lease(patient, number=2)
    secret = patient.issue(made)
    assert patient.traits.shortest_ms == 3_600_000
    patient.revoke(replace(made, secret=secret))
    assert not world.upstream.works(secret)


def test_a_refresh_token_is_revoked_with_what_came_with_it(world: World) -> None:
    world.upstream.set(refresh=True)
    broker = world.broker(grant='"token_exchange"', assertion=ASSERTION)
    world.watch()
    with refused("refresh token"):
        broker.issue(world.lease(broker))
    assert [world.upstream.told(token) for token in world.tokens()] == [{"active": False}] * 2


def test_what_could_not_be_taken_back_at_once_is_taken_back_at_the_end(world: World) -> None:
    broker = world.broker()
    world.watch(longer)
    giving = world.proxy.rule

    def deaf(asked: Asked, forward: Forward) -> Passed | None:
        return giving(asked, forward) if asked.path == "/token" else None

    world.proxy.rule = deaf
    made = world.lease(broker)
    with refused():
        broker.issue(made)
    (token,) = world.tokens()
    with refused():
        broker.revoke(made)
    assert world.upstream.told(token)["active"]
    world.proxy.rule = giving
    broker.revoke(made)
    assert world.upstream.told(token) == {"active": False}


def test_a_token_that_nobody_can_ask_about_is_not_given_out(world: World) -> None:
    """The server makes JWTs, and its revocation of one does nothing: it says 200."""
    world.upstream.set(format="jwt")
    broker = world.broker()
    world.watch()
    made = world.lease(broker)
    with refused("not revoked yet"):
        broker.issue(made)
    assert world.tokens()[0].count(".") == 2
    with refused():
        broker.revoke(made)
    world.later_ms = 60_001
    broker.revoke(made)


# -- a server that is slow, late, doubled, or lies


def answering(path: str, status: int, body: bytes = b"") -> Rule:
    def rule(asked: Asked, forward: Forward) -> Passed | None:
        return Passed(status, (), body) if asked.path == path else forward()

    return rule


def issued(world: World, broker: OAuthBroker) -> tuple[Lease, Secret]:
    made = world.lease(broker)
    secret = broker.issue(made)
    return replace(made, secret=secret), secret


def test_a_revocation_that_is_a_lie_is_found_out(world: World) -> None:
    broker = world.broker()
    held, secret = issued(world, broker)
    world.proxy.rule = answering("/token/revocation", 200)
    with refused("and that the token counts"):
        broker.revoke(held)
    assert world.upstream.works(secret)
    world.proxy.rule = lambda _, forward: forward()
    broker.revoke(held)
    assert not world.upstream.works(secret)


def test_without_introspection_its_word_is_all_there_is(world: World) -> None:
    broker = world.broker(introspect="false")
    held, secret = issued(world, broker)
    world.proxy.rule = answering("/token/revocation", 200)
    broker.revoke(held)
    assert world.upstream.works(secret), "what docs/credentials/oauth.md says is not known"


@pytest.mark.parametrize("status", [201, 204, 302, 400, 401, 404, 429, 500, 503])
def test_only_200_is_a_revocation(world: World, status: int) -> None:
    broker = world.broker(introspect="false")
    held, _ = issued(world, broker)
    body = b"" if status == 204 else b'{"error":"unsupported_token_type"}'
    world.proxy.rule = answering("/token/revocation", status, body)
    with refused():
        broker.revoke(held)


def test_an_answer_that_was_lost_is_over_when_it_has_expired_and_not_before(world: World) -> None:
    broker = world.broker()
    world.watch()
    noting = world.proxy.rule

    def lost(asked: Asked, forward: Forward) -> Passed | None:
        noting(asked, forward)
        return None

    world.proxy.rule = lost
    made = world.lease(broker)
    with refused("not in time"):
        broker.issue(made)
    assert world.upstream.told(world.tokens()[0])["active"]
    with refused("lost"):
        broker.revoke(made)
    world.later_ms = 60_001
    broker.revoke(made)


def test_a_request_that_arrives_twice_leaves_a_token_that_nobody_says_is_over(world: World) -> None:
    """What is lost is the first answer; to the second arrival the server says that it knows the assertion already."""
    broker = world.broker()
    world.proxy.rule = twice
    made = world.lease(broker)
    with refused("invalid_client"):
        broker.issue(made)
    with refused("lost"):
        broker.revoke(made)


def test_an_answer_that_comes_twice_is_taken_once(world: World) -> None:
    broker = world.broker()
    world.proxy.doubled = True
    for number in (1, 2, 3):
        made = world.lease(broker, number=number)
        held = replace(made, secret=broker.issue(made))
        assert held.secret is not None
        assert world.upstream.works(held.secret)
        broker.revoke(held)
        assert not world.upstream.works(held.secret)


def test_an_answer_that_is_late_is_not_waited_for(world: World) -> None:
    broker = world.broker(timeout_s=1)
    late = Held()
    world.proxy.rule = late
    made = world.lease(broker)
    try:
        with refused("not in time"):
            broker.issue(made)
        with refused("lost"):
            broker.revoke(made)
    finally:
        late.release()


@pytest.mark.parametrize("code", ["invalid_scope", "unauthorized_client", "invalid_target"])
def test_what_was_refused_never_was(world: World, code: str) -> None:
    broker = world.broker()
    world.proxy.rule = answering("/token", 400, json.dumps({"error": code}).encode())
    made = world.lease(broker)
    with refused(code):
        broker.issue(made)
    broker.revoke(made)


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'{"error":1}', b'{"access_token":1}', b'{"access_token":"a b"}']
)
@pytest.mark.parametrize("status", [200, 400, 500])
def test_nonsense_is_no_token_and_no_refusal(world: World, body: bytes, status: int) -> None:
    broker = world.broker()
    world.proxy.rule = answering("/token", status, body)
    made = world.lease(broker)
    with refused():
        broker.issue(made)
    with refused():
        broker.revoke(made)


def test_what_a_server_says_of_an_error_is_not_repeated(world: World) -> None:
    broker = world.broker(client='{ id = "forestall secret", secret_file = "secret" }')

    def echo(asked: Asked, _: Forward) -> Passed | None:
        told = f"{asked.headers['Authorization']} {asked.body.decode()}"
        return Passed(400, (), json.dumps({"error": "invalid_scope", "error_description": told}).encode())

    world.proxy.rule = echo
    with pytest.raises(CannotDo) as caught:
        broker.issue(world.lease(broker))
    assert "Basic" not in caught.value.detail
    assert "crm" not in caught.value.detail


# -- metadata


def test_metadata_is_read_once_and_is_the_issuers_own(world: World) -> None:
    text = written(issuer=f'"{world.upstream.issuer}"')
    given = context(world.folder)
    broker = open_broker(table(world.folder, text), given)
    world.stack.callback(broker.close)
    assert world.upstream.works(broker.issue(world.lease(broker)))
    other = open_broker(table(world.folder, text.replace("127.0.0.1", "localhost")), given)
    world.stack.callback(other.close)
    with pytest.raises(Unsent, match="another issuer"):
        other.issue(made := world.lease(other))
    other.revoke(made)


def test_a_task_has_what_its_grant_has(world: World) -> None:
    text = written(issuer=f'"{world.upstream.issuer}"')
    broker = open_broker(table(world.folder, text), context(world.folder, scope=Scope.TASK))
    world.stack.callback(broker.close)
    both = grant(frozenset({Effect.READ, Effect.WRITE}))
    rights = broker.plan(permit(READ), action(), both)
    assert world.upstream.told(broker.issue(lease(rights)).fields["token"])["scope"] == "crm.read crm.write"
