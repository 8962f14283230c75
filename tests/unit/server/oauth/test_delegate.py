"""A task is handed on to the one who was named, once, within a minute, never wider; and dies with the task above."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from forestall.core.entry import Kind, Stream
from forestall.core.model import Assurance, Grant, Subject
from forestall.core.runaway import Pace
from forestall.proof.fault import Fault
from forestall.proof.ticket import LIFE_MS, Ticket, sign_ticket
from tests.desk import ISSUER, Answer, Desk, exchange, handing_on, opened, receiving, request
from tests.tokens import key
from tests.unit.server.oauth.test_open import refuse_to_write


def grant_of(desk: Desk, answer: Answer) -> Grant:
    grant = desk.parts.state.find_grant(answer.task)
    assert grant is not None
    return grant


def denied(desk: Desk, answer: Answer, error: str, reason: str, fault: Fault | None = None) -> None:
    assert answer.error == error
    found = desk.denial(answer)
    assert found["reason"] == reason
    assert fault is None or fault.value in found["detail"]


def test_a_task_is_handed_on_in_two_steps(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    root = a.open()
    ticket = a.ticket(root.token, "agent-b", tools=["files/read_file"], effects=["read"], budget={"read": 5})
    assert (ticket.body["token_type"], ticket.body["expires_in"]) == ("N_A", 60)
    assert len(desk.parts.state.open_tasks()) == 1  # a ticket is no task
    child = grant_of(desk, b.receive(ticket.token))
    assert (child.parent, child.tree, child.depth, child.holder) == (root.task, root.task, 1, "agent-b")
    assert child.tools == ("files/read_file",)
    assert child.key == f"jkt:{b.holding.public.thumbprint}"
    assert child.chain == (("example.org", "agent-b"), ("example.org", "agent-a"))


def test_a_task_is_handed_on_twice_and_no_deeper_than_it_may_be(desk: Desk) -> None:
    a, b, c = (desk.agent(f"agent-{letter}") for letter in "abc")
    root = a.open().token
    child = b.receive(a.ticket(root, "agent-b").token).token
    below = c.receive(b.ticket(child, "agent-c").token)
    assert grant_of(desk, below).depth == 2
    denied(desk, c.ticket(below.token, "agent-d"), "access_denied", "depth")


def test_a_ticket_counts_once(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    ticket = a.ticket(a.open().token, "agent-b").token
    assert b.receive(ticket).status == 200
    denied(desk, b.receive(ticket), "invalid_client", "invalid_proof", Fault.REPLAYED)
    assert len(desk.parts.state.open_tasks()) == 2


def test_a_ticket_counts_once_over_a_restart(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    ticket = a.ticket(a.open().token, "agent-b").token
    assert b.receive(ticket).status == 200
    desk.parts.close()
    keys = {name: each.signing for name, each in desk.agents.items()}
    with opened(desk.home.root, keys) as again:
        again.now = desk.now + 1000
        denied(again, again.agent("agent-b").receive(ticket), "invalid_client", "invalid_proof", Fault.REPLAYED)


def test_of_many_that_show_one_ticket_at_once_one_wins(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    ticket = a.ticket(a.open().token, "agent-b").token

    async def all_at_once() -> list[Answer]:
        sends = [request("/token", {**b.assertion(), **receiving(ticket)}, b.proof()) for _ in range(16)]
        return list(await asyncio.gather(*map(desk.send, sends)))

    assert sorted(answer.status for answer in asyncio.run(all_at_once())) == [200] + [401] * 15
    assert len(desk.parts.state.open_tasks()) == 2


def test_a_fan_out_is_not_overdrawn_by_many_at_once(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    root = a.open().token
    tickets = [a.ticket(root, "agent-b").token for _ in range(8)]

    async def all_at_once() -> list[Answer]:
        sends = [request("/token", {**b.assertion(), **receiving(one)}, b.proof()) for one in tickets]
        return list(await asyncio.gather(*map(desk.send, sends)))

    answers = asyncio.run(all_at_once())
    assert sorted(answer.status for answer in answers) == [200] * 3 + [400] * 5
    assert {answer.body["reason"] for answer in answers if answer.status == 400} == {"budget"}


@pytest.mark.parametrize("who", ["agent-c", "stranger"])
def test_a_ticket_is_for_its_receiver_alone(desk: Desk, who: str) -> None:
    a = desk.agent("agent-a")
    ticket = a.ticket(a.open().token, "agent-b").token
    denied(desk, desk.agent(who).receive(ticket), "invalid_request", "invalid_proof", Fault.WRONG_SUBJECT)
    assert desk.agent("agent-b").receive(ticket).status == 200  # nothing was used up


def test_a_task_does_not_leave_its_trust_domain(desk: Desk) -> None:
    a = desk.agent("agent-a")
    ticket = a.ticket(a.open().token, "stranger").token
    denied(desk, desk.agent("stranger").receive(ticket), "access_denied", "other_domain")


def test_a_ticket_lives_for_a_minute(desk: Desk) -> None:
    a = desk.agent("agent-a")
    ticket = a.ticket(a.open().token, "agent-b").token
    desk.now += LIFE_MS
    denied(desk, desk.agent("agent-b").receive(ticket), "invalid_request", "invalid_proof", Fault.EXPIRED)


def test_a_parent_that_ended_hands_nothing_on(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    root = a.open().token
    ticket = a.ticket(root, "agent-b").token
    assert a.revoke(root).status == 200
    denied(desk, b.receive(ticket), "access_denied", "parent_ended")
    denied(desk, a.ticket(root, "agent-b"), "access_denied", "task_ended")
    assert desk.parts.state.open_tasks() == []


def test_a_task_dies_with_the_one_above(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    root = a.open().token
    child = b.receive(a.ticket(root, "agent-b").token).token
    assert b.introspect(child).body["active"] is True
    assert a.revoke(root).status == 200
    assert b.introspect(child).body == {"active": False}
    denied(desk, b.ticket(child, "agent-c"), "access_denied", "task_ended")


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"tools": ["*"]}, "wider"),
        ({"effects": ["execute"]}, "wider"),
        ({"budget": {"read": 21}}, "wider"),
        ({"max_depth": 3}, "wider"),
        ({"expires_at": 2**52}, "wider"),
        ({"resources": [{"tool": "files/*", "argument": "path", "value": ["", ""]}]}, "wider"),
    ],
)
def test_a_wider_task_is_refused_before_there_is_a_ticket(desk: Desk, wanted: dict[str, Any], reason: str) -> None:
    a = desk.agent("agent-a")
    denied(desk, a.ticket(a.open().token, "agent-b", **wanted), "access_denied", reason)


def test_who_delegates_without_end_is_suspended(desk: Desk) -> None:
    desk.parts.runaways.pace = Pace(calls=100, denials=100, same_call=100, too_deep=2)
    a, b, c = map(desk.agent, ("agent-a", "agent-b", "agent-c"))
    second = b.receive(a.ticket(a.open().token, "agent-b").token)
    third = c.receive(b.ticket(second.token, "agent-c").token)
    refusals = [c.ticket(third.token, "agent-d").body["reason"] for _ in range(4)]
    assert refusals == ["depth", "depth", "depth", "suspended"]
    (suspended,) = desk.entries(Stream.PERMITS, Kind.ORDERED)
    assert (suspended["order"], suspended["name"], suspended["by"]) == ("suspend", third.task, "forestall")
    assert "too deep" in suspended["why"]
    assert b.ticket(second.token, "agent-c").status == 200, "the task above is not"


def test_a_task_does_not_come_back_to_who_is_in_its_chain(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    root = a.open().token
    child = b.receive(a.ticket(root, "agent-b").token).token
    denied(desk, b.ticket(child, "agent-a"), "access_denied", "cycle")
    denied(desk, a.ticket(root, "agent-a"), "access_denied", "cycle")


def test_policy_decides_when_the_receiver_comes(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    ticket = a.ticket(a.open().token, "agent-b").token
    (desk.home.policy / "q.cedar").write_text(
        '@id("alone") forbid (principal, action == Action::"forestall/delegate", resource);\n'
    )
    desk.parts.reload()
    denied(desk, b.receive(ticket), "access_denied", "forbidden")


# -- whose grant it is


def test_a_grant_is_handed_on_by_its_holder_with_its_key_alone(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    root = a.open().token
    denied(desk, a.with_new_key().ticket(root, "agent-b"), "invalid_request", "invalid_proof", Fault.OTHER_KEY)
    thief = b.with_new_key()
    denied(desk, thief.ticket(root, "agent-c"), "invalid_request", "invalid_proof", Fault.OTHER_KEY)
    with_the_key = type(b)(desk, b.id, b.signing, a.holding)
    denied(desk, with_the_key.ticket(root, "agent-c"), "invalid_request", "not_holder")


def test_a_token_that_is_no_grant_is_not_handed_on(desk: Desk) -> None:
    a = desk.agent("agent-a")
    ticket = a.ticket(a.open().token, "agent-b").token
    for shown, fault in (("x.y.z", Fault.MALFORMED), (ticket, Fault.WRONG_TYPE)):
        denied(desk, a.ask(handing_on(shown, "agent-b")), "invalid_request", "invalid_proof", fault)


@pytest.mark.parametrize(
    "details",
    [
        None,
        [],
        [{"type": "urn:forestall:authorization:task", "to": "agent-b"}],
        [{"type": "urn:forestall:authorization:delegation"}],
        [{"type": "urn:forestall:authorization:delegation", "to": "agent-b", "anything": 1}],
    ],
)
def test_what_is_handed_on_has_a_closed_form(desk: Desk, details: Any) -> None:
    a = desk.agent("agent-a")
    form = exchange(a.open().token, "urn:ietf:params:oauth:token-type:access_token", details)
    form["requested_token_type"] = "urn:forestall:token-type:delegation"
    assert a.ask(form).error == "invalid_authorization_details"


# -- each effect failing


@pytest.mark.parametrize("kind", [Kind.USED, Kind.OPENED])
def test_what_cannot_be_recorded_is_not_handed_on(desk: Desk, kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    root = a.open().token
    ticket = a.ticket(root, "agent-b").token
    with monkeypatch.context() as failing:
        refuse_to_write(failing, desk.parts.ledger, kind)
        assert b.receive(ticket).error == "temporarily_unavailable"
        if kind is Kind.USED:
            assert a.ticket(root, "agent-b").error == "temporarily_unavailable"
    assert len(desk.parts.state.open_tasks()) == 1
    denied(desk, b.receive(ticket), "invalid_client", "invalid_proof", Fault.REPLAYED)  # it may have been used
    for _ in range(3):  # the fan-out was given back
        assert b.receive(a.ticket(root, "agent-b").token).status == 200


def test_a_ticket_of_another_service_is_refused(desk: Desk) -> None:
    a, b = desk.agent("agent-a"), desk.agent("agent-b")
    grant = grant_of(desk, a.open())
    subject = Subject("agent-a", Assurance.KEY, grant.holder, grant.instance, "acme", "example.org", grant.key)
    ticket = Ticket(ISSUER, "j", desk.now, grant.task, grant.task, subject, {"to": "agent-b"})
    denied(desk, b.receive(sign_ticket(ticket, key())), "invalid_request", "invalid_proof", Fault.UNKNOWN_KEY)
    assert desk.parts.tokens is not None
    other = sign_ticket(replace(ticket, issuer="https://other.example"), desk.parts.tokens.keys.current)
    denied(desk, b.receive(other), "invalid_request", "invalid_proof", Fault.WRONG_ISSUER)
    assert [entry["kind"] for entry in desk.entries(Stream.PERMITS)].count(Kind.OPENED) == 1
