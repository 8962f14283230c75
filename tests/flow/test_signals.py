"""An identity provider that signs users in and says when their sessions end, and a decision point that hears it."""

from __future__ import annotations

import http.client
import json
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from forestall.agent import Agent, Held, RegisteredKey, TaskRefused, new_key
from forestall.home import Home
from forestall.pep.blocking import Connection
from forestall.proof.algorithm import Algorithm
from forestall.proof.jwk import key_set
from forestall.proof.set import CAEP
from forestall.server import listening
from forestall.server.listening import Lock
from tests import points, tokens
from tests.flow.test_task_command import POLICY, WORK
from tests.unit.adapter.oidc.site import Asked, Site

RSA = Algorithm.RS256
AGENT = "spiffe://example.org/support"


def seconds() -> int:
    return int(time.time())


@dataclass
class Provider:
    """Users sign in here; an agent then opens tasks for them; and events are pushed to the decision point."""

    site: Site
    home: Home
    url: str
    agent: Agent

    def id_token(self, *, ago_s: int, user: str = "ada", **claims: Any) -> str:
        at = seconds() - ago_s
        usual = {"iss": self.site.url, "sub": user, "aud": "front-end", "iat": at, "exp": at + 3600}
        return tokens.token({**usual, **claims}, tokens.key(RSA))

    def opens(self, id_token: str = "") -> Held:
        return self.agent.open("work", parameters={"order": "4711"}, user_token=id_token)

    def counts(self, held: Held) -> bool:
        return bool(self.agent.introspect(held.token)["active"])

    def event(self, kind: str, subject: Mapping[str, Any], **body: Any) -> str:
        claims = {
            "iss": self.site.url,
            "aud": "https://forestall.example/signals",
            "jti": secrets.token_hex(8),
            "iat": seconds(),
            "events": {CAEP + kind: body},
            "sub_id": dict(subject),
        }
        return tokens.token(claims, tokens.key(RSA), typ="secevent+jwt")

    def pushes(self, event: str) -> int:
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=points.WAIT_S)
        connection.request("POST", "/signals", event, {"Content-Type": "application/secevent+jwt"})
        with connection.getresponse() as answer:
            answer.read()
        connection.close()
        return answer.status

    def user(self, name: str = "ada") -> dict[str, str]:
        return {"format": "iss_sub", "iss": self.site.url, "sub": name}


def answers_keys(asked: Asked) -> None:
    asked.say(json.dumps(key_set([tokens.key(RSA)]).to_json()).encode())


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[Provider]:
    home = points.make_home(tmp_path, policy=POLICY, settings='[http]\nlisten = "127.0.0.1:0"\n')
    home.mandates.mkdir(exist_ok=True)
    (home.mandates / "work.toml").write_text(WORK)
    key = new_key()
    (home.root / "support.jwks").write_text(json.dumps(key_set([key]).to_json()))
    with Site(answers_keys, name=None) as site:
        (home.root / "identity.toml").write_text(f"""\
[[trust_domains]]
name = "example.org"
tenant = "acme"
[[clients]]
id = "{AGENT}"
trust_domain = "example.org"
jwks = "support.jwks"
[[users]]
issuer = "{site.url}"
client = "front-end"
tenant = "acme"
jwks = "{site.url}/jwks"
loopback = true
[[transmitters]]
issuer = "{site.url}"
audience = "https://forestall.example/signals"
tenant = "acme"
jwks = "{site.url}/jwks"
loopback = true
""")
        yield from _serving(site, home, RegisteredKey(AGENT, key))


def _serving(site: Site, home: Home, identity: RegisteredKey) -> Iterator[Provider]:
    with points.process(home) as started:
        points.wait_for_socket(home, started)
        with Connection(home.socket, points.WAIT_S) as connection:
            url = connection.ask("status")["http"]
        yield Provider(site, home, url, Agent(url, identity))


def orders(home: Home) -> list[tuple[str, str]]:
    return [(one["order"], one["reach"]) for one in points.entries(home) if one["kind"] == "ordered"]


@pytest.mark.slow
def test_a_session_that_was_revoked_ends_its_tasks_and_a_new_sign_in_opens_others(provider: Provider) -> None:
    old, bobs = provider.id_token(ago_s=60), provider.opens(provider.id_token(ago_s=60, user="bob"))
    held = provider.opens(old)
    assert provider.counts(held)
    event = provider.event("session-revoked", provider.user(), event_timestamp=seconds() - 10)
    assert provider.pushes(event) == 202
    assert not provider.counts(held)
    assert provider.counts(bobs)
    with pytest.raises(TaskRefused):
        provider.opens(old)
    # issued since, by a provider that says that nobody has signed in since
    with pytest.raises(TaskRefused):
        provider.opens(provider.id_token(ago_s=2, auth_time=seconds() - 60))

    fresh = provider.opens(provider.id_token(ago_s=2))
    assert provider.pushes(event) == 202
    assert provider.counts(fresh)
    assert orders(provider.home) == [("kill", "task")]


@pytest.mark.slow
def test_a_sign_in_from_before_stays_worthless_after_a_restart(provider: Provider) -> None:
    old = provider.id_token(ago_s=60)
    event = provider.event("credential-change", provider.user(), credential_type="password", change_type="revoke")
    assert provider.pushes(event) == 202
    with Connection(provider.home.socket, points.WAIT_S) as connection:
        connection.ask("stop")
    points.until(lambda: _ended(provider.home))
    identity = provider.agent._identity
    assert isinstance(identity, RegisteredKey)
    for again in _serving(provider.site, provider.home, identity):
        with pytest.raises(TaskRefused):
            again.opens(old)
        assert again.pushes(event) == 202
    assert orders(provider.home) == []


def _ended(home: Home) -> bool:
    try:
        Lock.acquire(home.run / "lock").release()
    except listening.Held:
        return False
    return True


@pytest.mark.slow
def test_high_risk_suspends_an_agent_and_low_lets_it_go_on(provider: Provider) -> None:
    held = provider.opens()
    agent = {"format": "uri", "uri": AGENT}
    high = provider.event("risk-level-change", agent, principal="ROBOT", current_level="HIGH")
    assert provider.pushes(high) == 202
    assert not provider.counts(held)
    with pytest.raises(TaskRefused) as caught:
        provider.opens()
    assert caught.value.reason == "suspended"
    low = provider.event("risk-level-change", agent, principal="ROBOT", current_level="LOW")
    assert provider.pushes(low) == 202
    assert provider.counts(held)
    provider.opens()
    assert orders(provider.home) == [("suspend", "agent"), ("risk", "agent"), ("risk", "agent"), ("resume", "agent")]


@pytest.mark.slow
def test_an_agent_whose_session_was_revoked_opens_nothing_until_it_is_resumed(provider: Provider) -> None:
    held = provider.opens()
    assert provider.pushes(provider.event("session-revoked", {"format": "uri", "uri": AGENT})) == 202
    assert not provider.counts(held)
    with pytest.raises(TaskRefused) as caught:
        provider.opens()
    assert caught.value.reason == "revoked"


@pytest.mark.slow
def test_what_somebody_else_signed_is_refused(provider: Provider) -> None:
    held = provider.opens()
    forged = provider.event("session-revoked", {"format": "uri", "uri": AGENT})
    assert provider.pushes(f"{forged[:-12]}AAAAAAAAAAAA") == 400
    assert provider.counts(held)
    assert orders(provider.home) == []
