"""Conversations with a transmitter: what it sends, what it is told, and what is ordered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.oidc.checking import check_on_loop
from forestall.adapter.signals.heard import Heard
from forestall.adapter.signals.transmitters import Transmitters
from forestall.core.control import Command, Order, Reach, Target
from forestall.core.effects import Effect
from forestall.core.errors import Unavailable
from forestall.core.model import Grant, Risk
from forestall.home import Home
from forestall.identities import load_identities
from forestall.proof.algorithm import Algorithm
from forestall.proof.jwk import KeySet
from forestall.proof.set import CAEP, SSF
from forestall.server.http.message import Request, Response
from forestall.server.signals.receive import Receiver
from tests.tokens import NOW, SECONDS, key, keys, token, without

OURS = "https://forestall.example"
IDP, AUDIENCE, OTHER = "https://idp.example", "https://forestall.example/signals", "https://other.example"

RULES = f"""\
[[trust_domains]]
name = "example.org"
tenant = "acme"

[[trust_domains]]
name = "other.example"
tenant = "other"

[[issuers]]
kind = "kubernetes"
issuer = "https://cluster.example"
audience = "https://forestall.example"
trust_domain = "example.org"

[[issuers]]
kind = "listed"
issuer = "https://bots.example"
audience = "https://forestall.example"
trust_domain = "example.org"

[[issuers.workloads]]
path = "/billing"
claims = {{ sub = "billing-agent" }}

[[clients]]
id = "support"
trust_domain = "example.org"
jwks = "support.jwks"

[[users]]
issuer = "{IDP}"
client = "front-end"
tenant = "acme"

[[users]]
issuer = "{OTHER}"
client = "front-end"
tenant = "other"

[[transmitters]]
issuer = "{IDP}"
audience = "{AUDIENCE}"
tenant = "acme"
jwks_file = "idp.json"

[[transmitters]]
issuer = "https://quiet.example"
audience = "{AUDIENCE}"
tenant = "acme"
jwks_file = "idp.json"
events = ["risk-level-change"]

[[transmitters]]
issuer = "https://gone.example"
audience = "{AUDIENCE}"
tenant = "acme"
"""

ADA = {"format": "iss_sub", "iss": IDP, "sub": "ada"}
ADA_ID = f"{IDP}#ada"
AGENT = {"format": "uri", "uri": "spiffe://example.org/agent"}
SIGNER = key(Algorithm.RS256)


@dataclass
class World:
    """A decision point, as far as a receiver sees it: orders stand, and kills end tasks."""

    root: Path
    grants: list[Grant] = field(default_factory=list)
    orders: list[Command] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    standing: dict[Target, Command] = field(default_factory=dict)
    broken: bool = False
    opens_meanwhile: list[Grant] = field(default_factory=list)
    now: int = NOW

    def __post_init__(self) -> None:
        (self.root / "identity.toml").write_text(RULES)
        (self.root / "idp.json").write_text(json.dumps(KeySet(keys(SIGNER).keys).to_json()))
        self.identities = load_identities(Home(self.root))
        self.memory = Heard(self.root / "signals")
        self.fetch_fails = 0
        self.transmitters = Transmitters(self.identities.transmitters, fetch=self._fetch)
        self.turn = asyncio.Lock()

    def _fetch(self, _request: object) -> bytes:
        self.fetch_fails += 1
        raise Unavailable("It does not answer.")

    async def _order(self, command: Command) -> None:
        await asyncio.sleep(0)
        if self.broken:
            raise Unavailable("The disk is full.")
        self.orders.append(command)
        if command.order in {Order.KILL, Order.SUSPEND}:
            self.standing[command.target] = command
        if command.order is Order.RESUME:
            self.standing.pop(command.target, None)
        if command.order is Order.KILL:
            ended = {grant.task for grant in self.grants if command.target.covers(grant)}
            self.grants = [grant for grant in self.grants if not {grant.task, grant.parent} & ended]
            self.grants, self.opens_meanwhile = self.grants + self.opens_meanwhile, []

    def receiver(self) -> Receiver:
        from forestall.server.signals.react import Hands

        return Receiver(
            verify=lambda token, now: check_on_loop(self.transmitters.event(token, now=now), wait_s=30),
            identities=lambda: self.identities,
            issuer=lambda: OURS,
            memory=self.memory,
            hands=Hands(self._order, lambda: list(self.grants), self.standing.get),
            now=lambda: self.now,
            say=self.said.append,
            turn=self.turn,
        )

    def sends(self, *tokens: str, content_type: str = "application/secevent+jwt") -> list[Response]:
        async def scenario() -> list[Response]:
            receiver = self.receiver()
            headers = {"content-type": content_type}
            requests = [Request("POST", "/signals", "", headers, each.encode()) for each in tokens]
            return list(await asyncio.gather(*map(receiver.receive, requests)))

        return asyncio.run(scenario())

    def told(self, *tokens: str) -> list[tuple[Order, str]]:
        """What was ordered because of these, all of which are taken."""
        before = len(self.orders)
        for each in tokens:
            (answer,) = self.sends(each)
            assert (answer.status, answer.body) == (202, b""), self.said
        return [(command.order, command.target.name) for command in self.orders[before:]]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.transmitters.close()
    made.memory.close()


count = iter(range(1_000_000))


def event(
    kind: str = "session-revoked",
    subject: Mapping[str, Any] = ADA,
    body: Mapping[str, Any] | None = None,
    **claims: Any,
) -> str:
    name = kind if kind.startswith("https://") else CAEP + kind
    usual = {
        "iss": IDP,
        "aud": AUDIENCE,
        "jti": f"event-{next(count)}",
        "iat": SECONDS,
        "events": {name: dict(body or {})},
        "sub_id": dict(subject),
    }
    return token({**usual, **claims}, SIGNER, typ="secevent+jwt")


def risk(level: str, subject: Mapping[str, Any] = ADA, **more: Any) -> str:
    return event("risk-level-change", subject, {"principal": "USER", "current_level": level, **more})


def credential(change: str, subject: Mapping[str, Any] = ADA) -> str:
    return event("credential-change", subject, {"credential_type": "password", "change_type": change})


def grant(task: str, *, user: str = ADA_ID, holder: str = "spiffe://example.org/agent", **more: Any) -> Grant:
    usual: dict[str, Any] = {"tenant": "acme", "trust_domain": "example.org", **more}
    return Grant(
        task=task,
        holder=holder,
        purpose="p",
        mandate="m",
        tools=("*",),
        effects=frozenset({Effect.READ}),
        expires_at=NOW + 1000,
        user=user,
        **usual,
    )


# -- sessions and credentials


@pytest.mark.parametrize(
    "sent", [event(), credential("revoke"), credential("delete")], ids=["session", "revoke", "delete"]
)
def test_a_users_tasks_end_and_a_new_sign_in_is_as_good_as_ever(world: World, sent: str) -> None:
    world.grants = [
        grant("a"),
        grant("a1", parent="a", root="a"),
        grant("b"),
        grant("of-bob", user=f"{IDP}#bob"),
        grant("of-nobody", user=""),
        grant("elsewhere", tenant="other"),
    ]
    assert world.told(sent) == [(Order.KILL, "a"), (Order.KILL, "b")]
    assert {each.target.reach for each in world.orders} == {Reach.TASK}
    assert {each.by for each in world.orders} == {IDP}
    assert world.memory.signed_out_at(ADA_ID) == NOW


@pytest.mark.parametrize("change", ["create", "update"])
def test_a_credential_that_was_made_or_changed_ends_nothing(world: World, change: str) -> None:
    world.grants = [grant("a")]
    assert world.told(credential(change)) == []
    assert world.memory.signed_out_at(ADA_ID) == 0


def test_tasks_that_were_opened_while_others_ended_end_too(world: World) -> None:
    world.grants, world.opens_meanwhile = [grant("a")], [grant("b")]
    assert world.told(event()) == [(Order.KILL, "a"), (Order.KILL, "b")]


def test_an_agents_session_is_the_agent_itself(world: World) -> None:
    assert world.told(event(subject=AGENT)) == [(Order.KILL, "spiffe://example.org/agent")]
    assert world.orders[0].target == Target(Reach.AGENT, "spiffe://example.org/agent", "example.org", "acme")


def test_of_an_agents_credential_the_tasks_end_and_it_may_come_with_another(world: World) -> None:
    delegated = (("example.org", "spiffe://example.org/helper"), ("example.org", "spiffe://example.org/agent"))
    world.grants = [
        grant("a", user=""),
        grant("b", user="", holder="spiffe://example.org/other"),
        grant("c", user="", holder="spiffe://example.org/helper", parent="gone", actors=delegated),
    ]
    assert world.told(credential("revoke", AGENT)) == [(Order.KILL, "a"), (Order.KILL, "c")]
    assert {each.target.reach for each in world.orders} == {Reach.TASK}


@pytest.mark.parametrize(
    ("subject", "name"),
    [
        (
            {"format": "iss_sub", "iss": "https://cluster.example", "sub": "system:serviceaccount:shop:agent"},
            "spiffe://example.org/ns/shop/sa/agent",
        ),
        ({"format": "iss_sub", "iss": "https://bots.example", "sub": "billing-agent"}, "spiffe://example.org/billing"),
        ({"format": "iss_sub", "iss": OURS, "sub": "support"}, "support"),
    ],
)
def test_agents_by_their_issuers_words(world: World, subject: Mapping[str, str], name: str) -> None:
    assert world.told(event(subject=subject)) == [(Order.KILL, name)]


NOBODY = {
    "an address": {"format": "email", "email": "ada@idp.example"},
    "an opaque id": {"format": "opaque", "id": "a"},
    "another issuer's": {"format": "iss_sub", "iss": "https://stranger.example", "sub": "ada"},
    "a user of another tenant": {"format": "iss_sub", "iss": OTHER, "sub": "ada"},
    "an agent of another tenant": {"format": "uri", "uri": "spiffe://other.example/agent"},
    "an agent of nobody's trust domain": {"format": "uri", "uri": "spiffe://stranger.example/agent"},
    "a client that is not registered": {"format": "iss_sub", "iss": OURS, "sub": "stranger"},
    "no workload": {"format": "uri", "uri": "https://example.org/agent"},
    "an account that no rule lists": {"format": "iss_sub", "iss": "https://bots.example", "sub": "stranger"},
    "no service account": {"format": "iss_sub", "iss": "https://cluster.example", "sub": "ada"},
    "a device": {"format": "complex", "device": {"format": "opaque", "id": "d"}},
    "a user of another tenant in this session": {
        "format": "complex",
        "user": {"format": "iss_sub", "iss": OTHER, "sub": "ada"},
        "session": {"format": "opaque", "id": "a"},
    },
}


@pytest.mark.parametrize("subject", NOBODY.values(), ids=NOBODY)
@pytest.mark.parametrize("kind", ["session-revoked", "risk"])
def test_nobody_that_is_known_or_of_another_tenant_is_acknowledged_and_recorded(
    world: World, subject: Mapping[str, Any], kind: str
) -> None:
    world.grants = [grant("a"), grant("b", tenant="other", user=f"{OTHER}#ada")]
    sent = event(subject=subject) if kind == "session-revoked" else risk("HIGH", subject)
    assert world.told(sent) == []
    assert "nobody that is known here" in world.said[-1]
    assert world.told(sent) == []


def test_of_a_complex_subject_all_parts_hold_at_once(world: World) -> None:
    world.grants = [grant("a"), grant("b", holder="spiffe://example.org/other"), grant("c", user=f"{IDP}#bob")]
    assert world.told(event(subject={"format": "complex", "user": ADA, "application": AGENT})) == [(Order.KILL, "a")]
    session = {"format": "opaque", "id": "b"}
    assert world.told(event(subject={"format": "complex", "user": ADA, "session": session})) == [(Order.KILL, "b")]
    stranger = {"format": "complex", "user": ADA, "session": {"format": "opaque", "id": "c"}}
    assert world.told(event(subject=stranger)) == []


def test_what_cannot_be_told_apart_narrows_nothing(world: World) -> None:
    world.grants = [grant("a")]
    device = {"format": "opaque", "id": "d"}
    assert world.told(event(subject={"format": "complex", "user": ADA, "device": device})) == [(Order.KILL, "a")]


# -- risk


def test_high_suspends_medium_says_so_and_low_resumes_what_the_signal_suspended(world: World) -> None:
    assert world.told(risk("HIGH")) == [(Order.SUSPEND, ADA_ID), (Order.RISK, ADA_ID)]
    assert world.orders[-1].level is Risk.HIGH
    assert world.told(risk("HIGH")) == [(Order.RISK, ADA_ID)]
    assert world.told(risk("MEDIUM")) == [(Order.RISK, ADA_ID)]
    assert world.orders[-1].level is Risk.MEDIUM
    assert world.told(risk("LOW")) == [(Order.RISK, ADA_ID), (Order.RESUME, ADA_ID)]
    assert world.told(risk("LOW")) == [(Order.RISK, ADA_ID)]


@pytest.mark.parametrize("order", [Order.SUSPEND, Order.KILL])
def test_what_a_person_ordered_no_signal_takes_back(world: World, order: Order) -> None:
    target = Target(Reach.USER, ADA_ID, tenant="acme")
    world.standing[target] = Command(order, target, "why", "uid/1000")
    assert world.told(risk("HIGH")) == [(Order.RISK, ADA_ID)]
    assert world.told(risk("LOW")) == [(Order.RISK, ADA_ID)]
    del world.standing[target]
    assert (Order.SUSPEND, ADA_ID) in world.told(risk("HIGH"))
    world.standing[target] = Command(order, target, "why", "uid/1000")
    assert world.told(risk("LOW")) == [(Order.RISK, ADA_ID)]


def test_what_one_transmitter_suspended_no_other_resumes(world: World) -> None:
    world.told(risk("HIGH"))
    body = {"principal": "USER", "current_level": "LOW"}
    other = event("risk-level-change", ADA, body, iss="https://quiet.example")
    assert world.told(other) == [(Order.RISK, ADA_ID)]


def test_an_event_that_was_overtaken_does_nothing(world: World) -> None:
    older, newer = SECONDS - 20, SECONDS - 10
    low, high = risk("LOW", event_timestamp=older), risk("HIGH", event_timestamp=newer)
    assert world.told(high) == [(Order.SUSPEND, ADA_ID), (Order.RISK, ADA_ID)]
    assert world.told(low) == []


def test_an_agents_risk(world: World) -> None:
    assert world.told(risk("HIGH", AGENT)) == [(Order.SUSPEND, AGENT["uri"]), (Order.RISK, AGENT["uri"])]


# -- the same again, and what goes wrong


def test_the_same_event_again_is_acknowledged_and_does_nothing(world: World) -> None:
    world.grants = [grant("a")]
    sent = event()
    assert world.told(sent) == [(Order.KILL, "a")]
    world.grants = [grant("b")]
    assert world.told(sent) == []
    answers = world.sends(*[risk("HIGH")] * 5)
    assert [each.status for each in answers] == [202] * 5
    assert [each.order for each in world.orders[1:]] == [Order.SUSPEND, Order.RISK]


def test_what_could_not_be_ordered_is_not_acknowledged_and_is_carried_out_when_it_comes_again(world: World) -> None:
    world.grants, world.broken = [grant("a")], True
    sent = event()
    (answer,) = world.sends(sent)
    assert (answer.status, answer.body) == (503, b"")
    world.broken = False
    assert world.told(sent) == [(Order.KILL, "a")]


def test_what_could_not_be_remembered_is_not_acknowledged(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise Unavailable("The disk is full.")

    world.grants = [grant("a")]
    sent = event()
    with monkeypatch.context() as patched:
        patched.setattr(Heard, "remember", full)
        (answer,) = world.sends(sent)
        assert answer.status == 503
    assert world.told(sent) == []  # its task has ended already


def test_a_verification_is_acknowledged(world: World) -> None:
    subject = {"format": "opaque", "id": "stream"}
    assert world.told(event(SSF + "verification", subject, {"state": "s"})) == []
    assert world.said == []


def refusal(answer: Response) -> str:
    assert answer.status == 400
    said = json.loads(answer.body)
    assert set(said) == {"err", "description"}
    return str(said["err"])


CLAIMS = {
    "iss": IDP,
    "aud": AUDIENCE,
    "jti": "j",
    "iat": SECONDS,
    "events": {CAEP + "session-revoked": {}},
    "sub_id": ADA,
}

WRONG = {
    "another issuer": (
        "invalid_issuer",
        token({**CLAIMS, "iss": "https://stranger.example"}, SIGNER, typ="secevent+jwt"),
    ),
    "another audience": ("invalid_audience", token({**CLAIMS, "aud": "https://x.example"}, SIGNER, typ="secevent+jwt")),
    "another key": ("invalid_key", token(CLAIMS, key(Algorithm.RS256), typ="secevent+jwt", kid="unknown")),
    "an algorithm that is not agreed on": ("invalid_key", token(CLAIMS, key(), typ="secevent+jwt")),
    "a broken signature": ("authentication_failed", token(CLAIMS, SIGNER, typ="secevent+jwt")[:-8] + "AAAAAAAA"),
    "another type": ("invalid_request", token(CLAIMS, SIGNER, typ="JWT")),
    "no subject": ("invalid_request", token(without(CLAIMS, "sub_id"), SIGNER, typ="secevent+jwt")),
    "too old": ("invalid_request", token({**CLAIMS, "iat": SECONDS - 90_000}, SIGNER, typ="secevent+jwt")),
    "an unknown event": ("invalid_request", token({**CLAIMS, "events": {"x": {}}}, SIGNER, typ="secevent+jwt")),
    "no token": ("invalid_request", "hello"),
    "no ASCII": ("invalid_request", "ä.b.c"),
}


@pytest.mark.parametrize(("code", "sent"), WRONG.values(), ids=WRONG)
def test_what_is_refused_and_how(world: World, code: str, sent: str) -> None:
    world.grants = [grant("a")]
    (answer,) = world.sends(sent)
    assert refusal(answer) == code
    assert world.orders == []


def test_another_content_type(world: World) -> None:
    (answer,) = world.sends(event(), content_type="application/jwt")
    assert refusal(answer) == "invalid_request"
    (answer,) = world.sends(event(), content_type="application/secevent+jwt; charset=us-ascii")
    assert answer.status == 202


def test_an_event_that_this_transmitter_may_not_send(world: World) -> None:
    world.grants = [grant("a")]
    (answer,) = world.sends(event(iss="https://quiet.example"))
    assert refusal(answer) == "access_denied"
    assert world.orders == []


def test_where_the_keys_are_not_to_be_had_it_is_to_be_sent_again(world: World) -> None:
    (answer,) = world.sends(event(iss="https://gone.example"))
    assert (answer.status, answer.body) == (503, b"")
    assert world.fetch_fails == 1
    (world.root / "idp.json").unlink()
    (answer,) = world.sends(event())
    assert answer.status == 503
