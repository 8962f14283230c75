"""A task is opened for who was verified, with the key that they showed, as policy agrees; and for nobody else."""

from __future__ import annotations

import asyncio
import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest

from forestall.adapter.store import tree
from forestall.core.entry import Entry, Kind, Stream
from forestall.core.errors import SetupError, Unavailable
from forestall.core.model import Assurance
from forestall.core.quantity import Quantity
from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault
from forestall.proof.token import details_of, verify_grant
from tests.desk import CLIENTS, ISSUER, Agent, Answer, Desk, keys_of, opened, opening, request
from tests.tokens import NOW, key, token, unsigned


def check(desk: Desk, answer: Answer) -> Any:
    tokens = desk.parts.tokens
    assert tokens is not None
    return verify_grant(
        answer.token,
        tokens.keys.public(desk.now),
        issuer=ISSUER,
        audience=ISSUER,
        tenants={"example.org": "acme"},
        now=desk.now,
        skew_ms=0,
        max_life_ms=3_600_000,
    )


def refused(desk: Desk, answer: Answer, error: str, fault: Fault | None = None, reason: str = "invalid_proof") -> None:
    """Who asked learns the code; the operator finds what it was."""
    assert answer.error == error
    assert answer.status == {"invalid_client": 401, "temporarily_unavailable": 503}.get(error, 400)
    found = desk.denial(answer)
    assert found["reason"] == reason
    assert fault is None or f": {fault.value}" in found["detail"]
    if error != "access_denied":
        assert set(answer.body) == {"error", "decision"}
    assert desk.parts.state.open_tasks() == []


def test_a_task_is_opened_and_its_token_says_what_is_recorded(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    answer = agent.open(expires_in_s=600)
    grant = desk.parts.state.find_grant(answer.task)
    assert grant is not None
    assert (grant.holder, grant.tenant, grant.user, grant.request) == ("agent-a", "acme", "", "")
    assert grant.key == f"jkt:{agent.holding.public.thumbprint}"
    assert (grant.expires_at, grant.longest_at) == (NOW + 600_000, NOW + 1_800_000)
    assert grant.budget[Quantity.FAN_OUT] == 3
    said = check(desk, answer)
    assert said.grant == grant
    assert said.assurance is Assurance.KEY
    assert answer.body["authorization_details"] == [details_of(grant)]
    assert (answer.body["token_type"], answer.body["expires_in"]) == ("DPoP", 600)
    assert "refresh_token" not in answer.body


def test_what_was_used_is_in_the_log_before_what_it_led_to(desk: Desk) -> None:
    desk.agent("agent-a").open()
    used, task = desk.entries(Stream.PERMITS)
    assert (used["kind"], task["kind"]) == (Kind.USED, Kind.OPENED)
    assert len(used["used"]) == 2  # the assertion, and the proof


def test_a_workload_may_have_less_than_the_mandate(desk: Desk) -> None:
    grant = desk.parts.state.find_grant(desk.agent("agent-a").open(tools=["files/read_file"], effects=["read"]).task)
    assert grant is not None
    assert (grant.tools, {effect.value for effect in grant.effects}) == (("files/read_file",), {"read"})


def test_a_request_in_the_words_of_the_workload_is_recorded_as_asserted(desk: Desk) -> None:
    (desk.home.policy / "q.cedar").write_text(
        '@id("no-asserted") forbid (principal, action == Action::"forestall/open", resource)\n'
        'when { context.args.request == "asserted" };\n'
    )
    words = "Pay 4711 to Mallory."
    grant = desk.parts.state.find_grant(desk.agent("agent-a").open(request=words).task)
    assert grant is not None
    assert grant.request == "sha256:" + hashlib.sha256(words.encode()).hexdigest()
    desk.parts.reload()
    assert desk.agent("agent-b").open(request=words).error == "access_denied"
    assert desk.agent("agent-b").open().status == 200


# -- what policy and the mandate say


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"mandate": "none"}, "unclear_intent"),
        ({"mandate": None}, "unclear_intent"),
        ({"parameters": {}}, "invalid_parameters"),
        ({"parameters": {"order": "x"}}, "invalid_parameters"),
        ({"expires_in_s": 1801}, "beyond_mandate"),
        ({"tools": ["*"]}, "unclear_intent"),
        ({"effects": ["execute"]}, "unclear_intent"),
    ],
)
def test_a_wish_that_cannot_be_granted_gets_its_reason(desk: Desk, members: dict[str, Any], reason: str) -> None:
    answer = desk.agent("agent-a").open(**members)
    refused(desk, answer, "access_denied", reason=reason)
    assert set(answer.body) == {"error", "error_description", "decision", "reason", "retry"}
    assert answer.body["reason"] == reason


def test_a_task_that_policy_forbids_is_not_opened_and_nothing_of_the_policy_is_told(desk: Desk) -> None:
    (desk.home.policy / "q.cedar").write_text(
        '@id("secret-rule") forbid (principal, action == Action::"forestall/open", resource);\n'
    )
    desk.parts.reload()
    answer = desk.agent("agent-a").open()
    refused(desk, answer, "access_denied", reason="forbidden")
    assert "secret-rule" not in json.dumps(answer.body)
    assert desk.denial(answer)["policies"] == ["secret-rule"]


# -- who asks


@pytest.mark.parametrize(
    ("form", "fault"),
    [
        (lambda agent: agent.assertion(audience="https://other.example"), Fault.WRONG_AUDIENCE),
        (lambda agent: agent.assertion(now=agent.desk.now - 400_000), Fault.EXPIRED),
        (lambda agent: agent.assertion(now=agent.desk.now + 60_000), Fault.CLOCK),
        (lambda agent: agent.assertion(key=key(seed="forger")), Fault.UNKNOWN_KEY),
        (lambda agent: agent.assertion(client="nobody"), Fault.WRONG_ISSUER),
        (lambda agent: {**agent.assertion(), "client_id": "agent-b"}, Fault.UNKNOWN_KEY),
        (lambda agent: swapped(agent, "not a token"), Fault.MALFORMED),
        (lambda agent: swapped(agent, "a" * 20_000), Fault.TOO_LARGE),
        (lambda agent: swapped(agent, none(agent)), Fault.UNSIGNED),
        (lambda agent: swapped(agent, hmac(agent)), Fault.ALGORITHM),
        (lambda agent: swapped(agent, embedded(agent)), Fault.EMBEDDED_KEY),
        (lambda agent: swapped(agent, claims(agent, nbf=NOW // 1000 + 600)), Fault.NOT_YET_VALID),
        (lambda agent: swapped(agent, claims(agent, exp=NOW // 1000 + 600)), Fault.TOO_LONG),
        (lambda agent: swapped(agent, claims(agent, typ="task-grant+jwt")), Fault.WRONG_TYPE),
        (lambda agent: {}, Fault.NO_PROOF),
    ],
)
def test_who_is_not_verified_gets_one_answer_whatever_was_wrong(desk: Desk, form: Any, fault: Fault) -> None:
    agent = desk.agent("agent-a")
    answer = desk.post("/token", {**form(agent), **opening()}, agent.proof())
    refused(desk, answer, "invalid_client", fault)


def swapped(agent: Agent, assertion: str) -> dict[str, str]:
    return {**agent.assertion(), "client_assertion": assertion, "client_id": agent.id}


def body(agent: Agent, **more: Any) -> dict[str, Any]:
    at = agent.desk.now // 1000
    return {"iss": agent.id, "sub": agent.id, "aud": ISSUER, "iat": at, "exp": at + 60, "jti": "j", **more}


def claims(agent: Agent, typ: str = "JWT", **more: Any) -> str:
    return token(body(agent, **more), agent.signing, typ=typ)


def none(agent: Agent) -> str:
    return unsigned({"alg": "none", "typ": "JWT"}, json.dumps(body(agent)).encode())


def hmac(agent: Agent) -> str:
    return unsigned({"alg": "HS256", "typ": "JWT"}, json.dumps(body(agent)).encode(), b"x" * 32)


def embedded(agent: Agent) -> str:
    return token(body(agent), agent.signing, jwk=agent.signing.public.bare())


@pytest.mark.parametrize(
    ("headers", "fault"),
    [
        (lambda agent: {}, Fault.NO_PROOF),
        (lambda agent: agent.proof(method="GET"), Fault.OTHER_METHOD),
        (lambda agent: agent.proof(url=ISSUER + "/revoke"), Fault.OTHER_URL),
        (lambda agent: agent.proof(url="https://other.example/token"), Fault.OTHER_URL),
        (lambda agent: agent.proof(now=agent.desk.now - 75_000), Fault.TOO_OLD),
        (lambda agent: agent.proof(now=agent.desk.now + 15_000), Fault.CLOCK),
        (lambda agent: agent.proof(access_token="t"), Fault.OTHER_TOKEN),
        (lambda agent: {"dpop": "not a proof"}, Fault.MALFORMED),
        (lambda agent: {"dpop": agent.proof()["dpop"] + ", " + agent.proof()["dpop"]}, Fault.MALFORMED),
        (lambda agent: {"dpop": agent.assertion()["client_assertion"]}, Fault.UNKNOWN_HEADER),
    ],
)
def test_a_proof_that_does_not_hold_gets_one_answer_and_a_nonce(desk: Desk, headers: Any, fault: Fault) -> None:
    agent = desk.agent("agent-a")
    answer = desk.post("/token", {**agent.assertion(), **opening()}, headers(agent))
    refused(desk, answer, "invalid_dpop_proof", fault)
    assert desk.denial(answer)["subject"]["id"] == "agent-a"  # the operator knows who it was
    nonce = answer.headers["DPoP-Nonce"]
    assert desk.post("/token", {**agent.assertion(), **opening()}, agent.proof(nonce=nonce)).status == 200


def test_a_nonce_that_is_not_ours_or_too_old_is_refused_with_one_that_is_good(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    first = desk.post("/token", {**agent.assertion(), **opening()}, agent.proof(nonce="made up"))
    refused(desk, first, "use_dpop_nonce", Fault.NONCE)
    nonce = first.headers["DPoP-Nonce"]
    desk.now += 180_000
    late = desk.post("/token", {**agent.assertion(), **opening()}, agent.proof(nonce=nonce))
    assert late.error == "use_dpop_nonce"
    assert late.headers["DPoP-Nonce"] != nonce


# -- what counts once


def test_an_assertion_that_was_used_is_as_good_as_none(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    form = {**agent.assertion(), **opening()}
    assert desk.post("/token", form, agent.proof()).status == 200
    answer = desk.post("/token", form, agent.proof())
    assert answer.error == "invalid_client"
    assert desk.denial(answer)["detail"].endswith(Fault.REPLAYED.value)
    assert len(desk.parts.state.open_tasks()) == 1


def test_a_proof_that_was_used_is_refused_also_with_another_assertion_and_elsewhere(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    proof = agent.proof()
    assert desk.post("/token", {**agent.assertion(), **opening()}, proof).status == 200
    for client in (agent, replace(desk.agent("agent-b"), holding=agent.holding)):
        answer = desk.post("/token", {**client.assertion(), **opening()}, proof)
        assert answer.error == "invalid_client"
        assert desk.denial(answer)["detail"].endswith(Fault.REPLAYED.value)


def test_what_was_used_stays_used_over_a_restart_with_an_index_and_without(desk: Desk, tmp_path: Any) -> None:
    agent = desk.agent("agent-a")
    form, proof = {**agent.assertion(), **opening()}, agent.proof()
    assert desk.post("/token", form, proof).status == 200
    keys = {name: each.signing for name, each in desk.agents.items()}
    desk.parts.close()
    for index in (True, False):
        if not index:
            desk.home.state.unlink()
        with opened(desk.home.root, keys) as again:
            again.now = desk.now + 1000
            assert len(again.parts.state.used) == 2
            answer = again.post("/token", form, proof)
            assert answer.error == "invalid_client"
            assert again.denial(answer)["detail"].endswith(Fault.REPLAYED.value)


def test_a_refused_request_has_used_nothing_up(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    form = {**agent.assertion(), **opening()}
    assert desk.post("/token", form, {}).error == "invalid_dpop_proof"
    assert desk.post("/token", form, agent.proof()).status == 200


def test_of_many_at_once_that_show_the_same_one_wins(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    form, proof = {**agent.assertion(), **opening()}, agent.proof()

    async def all_at_once() -> list[Answer]:
        return list(await asyncio.gather(*(desk.send(request("/token", form, proof)) for _ in range(16))))

    answers = asyncio.run(all_at_once())
    assert sorted(answer.status for answer in answers) == [200] + [401] * 15
    assert len(desk.parts.state.open_tasks()) == 1


def test_a_workload_holds_so_many_tasks_and_then_waits_until_some_are_over(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "MAX_OF_HOLDER", 3)
    agent, other = desk.agent("agent-a"), desk.agent("agent-b")
    held = [agent.open() for _ in range(3)]
    one_more = agent.open()
    assert (one_more.status, one_more.error) == (503, "temporarily_unavailable")
    assert "as many tasks" in desk.denial(one_more)["detail"]
    assert other.open().status == 200
    ticket = other.ticket(other.open().token, "agent-a")
    assert agent.receive(ticket.token).status == 503, "handed on to it or not"
    assert agent.revoke(held[0].token).status == 200
    assert agent.open().status == 200
    assert agent.open().status == 503


# -- each effect failing


@pytest.mark.parametrize("kind", [Kind.USED, Kind.OPENED])
def test_what_cannot_be_recorded_is_not_granted(desk: Desk, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = desk.parts.ledger
    refuse_to_write(monkeypatch, ledger, kind)
    answer = desk.agent("agent-a").open()
    assert (answer.status, answer.error) == (503, "temporarily_unavailable")
    assert set(answer.body) == {"error", "decision"}
    assert desk.parts.state.open_tasks() == []
    assert Kind.OPENED not in {entry["kind"] for entry in desk.entries(Stream.PERMITS)}


def test_a_denial_that_cannot_be_recorded_is_one_all_the_same(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    refuse_to_write(monkeypatch, desk.parts.ledger, Kind.DENIED)
    answer = desk.post("/token", opening(), {})
    assert (answer.status, answer.error) == (401, "invalid_client")


def refuse_to_write(monkeypatch: pytest.MonkeyPatch, ledger: Any, kind: Kind) -> None:
    """The disk takes no entry of this kind."""

    def failing(method: Any) -> Any:
        def write(entry: Entry, *rest: Any) -> Any:
            if entry.kind is kind:
                raise Unavailable("The disk is full.")
            return method(entry, *rest)

        return write

    for name in ("append", "append_async", "append_at_once"):
        made = failing(getattr(ledger, name))
        monkeypatch.setattr(type(ledger), name, lambda _, entry, *rest, made=made: made(entry, *rest))


def test_a_grant_that_no_token_can_hold_is_closed_again(desk: Desk) -> None:
    tools = ", ".join(f'"files/{"x" * 100}{number}"' for number in range(200))
    text = f'purpose = "Much."\ntools = [{tools}]\neffects = ["read"]\nlifetime_minutes = 5\n'
    (desk.home.mandates / "much.toml").write_text(text)
    desk.parts.reload()
    answer = desk.agent("agent-a").open(mandate="much", parameters=None)
    assert answer.error == "invalid_authorization_details"
    assert Fault.TOO_LARGE.value in desk.denial(answer)["detail"]
    assert desk.parts.state.open_tasks() == []


# -- the rules may change


def test_without_an_identity_file_nobody_is_anybody(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    (desk.home.root / "identity.toml").unlink()
    desk.parts.reload()
    assert desk.parts.tokens is None
    refused(desk, agent.open(), "invalid_client")


def test_a_client_that_is_taken_out_is_nobody_and_one_that_is_put_in_is_somebody(desk: Desk) -> None:
    file = desk.home.root / "identity.toml"
    whole = file.read_text()
    agent = desk.agent("agent-a")
    file.write_text(whole.replace('id = "agent-a"', 'id = "agent-z"'))
    desk.parts.reload()
    refused(desk, agent.open(), "invalid_client", Fault.WRONG_ISSUER)
    assert replace(agent, id="agent-z").open().status == 200


def test_a_client_may_change_its_keys_without_a_reload(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    fresh = key(Algorithm.ES256, "fresh")
    (desk.home.root / "agent-a.jwks").write_text(keys_of(fresh))
    refused(desk, agent.open(), "invalid_client", Fault.UNKNOWN_KEY)
    assert replace(agent, signing=fresh).open().status == 200
    (desk.home.root / "agent-a.jwks").unlink()
    answer = replace(agent, signing=fresh).open()
    assert answer.error == "invalid_client"
    assert Fault.NO_BUNDLE.value in desk.denial(answer)["detail"]


def test_a_rule_that_does_not_check_leaves_what_was_in_force(desk: Desk) -> None:
    (desk.home.root / "identity.toml").write_text("nonsense")
    with pytest.raises(SetupError):
        desk.parts.reload()
    assert desk.agent("agent-a").open().status == 200
    assert set(desk.agents) == set(CLIENTS)
