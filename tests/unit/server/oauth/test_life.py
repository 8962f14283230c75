"""A task's holder extends it, asks about it and ends it; nobody else does, and nobody learns why not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.adapter import issuing
from forestall.core.entry import Kind, Stream
from forestall.core.model import Grant
from forestall.proof.fault import Fault
from forestall.proof.token import DETAIL_TYPE, details_of
from forestall.server.shared import shared
from tests.desk import ISSUER, Agent, Answer, Desk, exchange, opened
from tests.tokens import stream
from tests.unit.server.oauth.test_open import refuse_to_write

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"


def grant_of(desk: Desk, answer: Answer) -> Grant:
    grant = desk.parts.state.find_grant(answer.task)
    assert grant is not None
    return grant


def refused(desk: Desk, answer: Answer, error: str, reason: str, fault: Fault | None = None) -> None:
    assert answer.error == error
    found = desk.denial(answer)
    assert found["reason"] == reason
    assert fault is None or fault.value in found["detail"]


# -- extend


def test_a_task_lives_longer_as_far_as_its_mandate_lets_it(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    first = agent.open(expires_in_s=60)
    longer = agent.extend(first.token, desk.now + 120_000)
    assert longer.task == first.task
    assert grant_of(desk, longer).expires_at == desk.now + 120_000
    assert longer.body["expires_in"] == 120
    desk.now += 90_000  # the first token is over, the task is not
    assert agent.introspect(first.token).body == {"active": False}
    assert agent.introspect(longer.token).body["active"] is True
    refused(desk, agent.extend(longer.token, desk.now + 1_800_001), "access_denied", "beyond_mandate")


def test_only_its_holder_extends_a_task(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    grant = a.open(expires_in_s=60).token
    until = desk.now + 120_000
    refused(desk, b.extend(grant, until), "invalid_request", "invalid_proof", Fault.OTHER_KEY)
    refused(desk, replace(b, holding=a.holding).extend(grant, until), "invalid_request", "not_holder")


@pytest.mark.parametrize(
    "details",
    [
        None,
        [],
        [{"type": DETAIL_TYPE}],
        [{"type": "another", "expires_at": 1}],
        [{"type": DETAIL_TYPE, "expires_at": "soon"}],
        [{"type": DETAIL_TYPE, "expires_at": True}],
        [{"type": DETAIL_TYPE, "expires_at": 0}],
        [{"type": DETAIL_TYPE, "expires_at": 1, "tools": ["*"]}],
    ],
)
def test_an_extension_says_until_when_and_nothing_else(desk: Desk, details: Any) -> None:
    agent = desk.agent("agent-a")
    answer = agent.ask(exchange(agent.open().token, ACCESS_TOKEN, details))
    assert answer.error == "invalid_authorization_details"


@pytest.mark.parametrize("kind", [Kind.USED, Kind.EXTENDED])
def test_an_extension_that_cannot_be_recorded_is_none(desk: Desk, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = desk.agent("agent-a")
    first = agent.open(expires_in_s=60)
    refuse_to_write(monkeypatch, desk.parts.ledger, kind)
    assert agent.extend(first.token, desk.now + 120_000).error == "temporarily_unavailable"
    assert grant_of(desk, first).expires_at == desk.now + 60_000


# -- complete


@pytest.mark.parametrize("outcome", ["completed", "failed"])
def test_its_holder_ends_a_task_and_that_is_on_disk_when_it_is_told(desk: Desk, outcome: str) -> None:
    agent = desk.agent("agent-a")
    task = agent.open()
    answer = agent.revoke(task.token, outcome=outcome)
    assert (answer.status, answer.body) == (200, {})
    (closed,) = desk.entries(Stream.PERMITS, Kind.CLOSED)
    assert (closed["task"], closed["why"]) == (task.task, outcome)
    assert agent.revoke(task.token).body == {}  # over already is no error


def test_nobody_else_ends_it(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    grant = a.open().token
    refused(desk, b.revoke(grant), "invalid_request", "invalid_proof", Fault.OTHER_KEY)
    refused(desk, replace(b, holding=a.holding).revoke(grant), "invalid_request", "not_holder")
    refused(desk, a.revoke("x.y.z"), "invalid_request", "invalid_proof", Fault.MALFORMED)
    refused(desk, a.revoke(grant, outcome="perhaps"), "invalid_request", "invalid_message")
    assert len(desk.parts.state.open_tasks()) == 1


@pytest.mark.parametrize("kind", [Kind.USED, Kind.CLOSED])
def test_an_end_that_cannot_be_recorded_is_not_told(desk: Desk, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    agent = desk.agent("agent-a")
    grant = agent.open().token
    refuse_to_write(monkeypatch, desk.parts.ledger, kind)
    assert agent.revoke(grant).error == "temporarily_unavailable"


# -- introspect


def test_a_grant_that_counts_says_all_that_it_is(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    task = a.open()
    grant = grant_of(desk, task)
    body = b.introspect(task.token).body
    assert body["active"] is True
    assert (body["iss"], body["client_id"], body["sub"]) == (ISSUER, "agent-a", "agent-a")
    assert (body["task"], body["txn"], body["exp"]) == (task.task, task.task, grant.expires_at // 1000)
    assert body["cnf"] == {"jkt": a.holding.public.thumbprint}
    assert body["authorization_details"] == [details_of(grant)]


def test_of_one_that_does_not_nothing_is_said(desk: Desk) -> None:
    a = desk.agent("agent-a")
    grant = a.open(expires_in_s=60).token
    inactive = {"active": False}
    assert desk.agent("stranger").introspect(grant).body == inactive  # another tenant's
    assert a.introspect("x.y.z").body == inactive
    assert a.introspect(grant[:-4] + "AAAA").body == inactive
    desk.now += 60_000
    assert a.introspect(grant).body == inactive


def test_who_asks_about_a_grant_is_verified(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    grant = agent.open().token
    answer = desk.post("/introspect", {"token": grant}, agent.proof("/introspect"))
    assert (answer.status, answer.error) == (401, "invalid_client")
    form, proof = {**agent.assertion(), "token": grant}, agent.proof("/introspect")
    assert desk.post("/introspect", form, proof).body["active"] is True
    assert desk.post("/introspect", form, proof).error == "invalid_client"


# -- keys, restarts, and who shares an identity


def test_a_grant_lives_on_over_a_restart_and_a_rotation(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    grant = agent.open().token
    desk.parts.close()
    issuing.rotate(desk.home.keys, now=desk.now, random=stream("second"))
    keys = {name: each.signing for name, each in desk.agents.items()}
    with opened(desk.home.root, keys, {"agent-a": agent.holding}) as again:
        assert again.agent("agent-a").introspect(grant).body["active"] is True
        assert len(again.get("/.well-known/jwks.json").body["keys"]) == 2
        issuing.rotate(desk.home.keys, now=desk.now, random=stream("third"), forget=True)
        again.parts.reload()
        assert again.agent("agent-a").introspect(grant).body == {"active": False}
        assert len(again.get("/.well-known/jwks.json").body["keys"]) == 1
        assert len(again.parts.state.open_tasks()) == 1  # the task is as it was


def test_a_fresh_key_launders_no_labels(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    one, other = grant_of(desk, agent.open()), grant_of(desk, agent.with_new_key().open())
    assert one.key != other.key
    assert one.instance == other.instance == "example.org/agent-a"


def test_two_workloads_under_one_identity_are_told(desk: Desk) -> None:
    agent: Agent = desk.agent("agent-a")
    agent.open()
    desk.agent("agent-b").open()
    assert shared(desk.parts.state.open_tasks()) == []
    assert agent.with_new_key().open().status == 200
    assert shared(desk.parts.state.open_tasks()) == [
        {"tenant": "acme", "trust_domain": "example.org", "id": "agent-a", "workloads": 2}
    ]


def test_the_metadata_says_where_everything_is(desk: Desk) -> None:
    body = desk.get("/.well-known/oauth-authorization-server").body
    assert body["issuer"] == ISSUER
    for name in ("token_endpoint", "introspection_endpoint", "revocation_endpoint"):
        assert ("POST", body[name].removeprefix(ISSUER)) in desk.routes
    assert ("GET", body["jwks_uri"].removeprefix(ISSUER)) in desk.routes
    assert body["tls_client_certificate_bound_access_tokens"] is True
    assert "none" not in str(body["dpop_signing_alg_values_supported"])
    (jwk,) = desk.get("/.well-known/jwks.json").body["keys"]
    assert "d" not in jwk
