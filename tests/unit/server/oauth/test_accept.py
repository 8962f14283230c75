"""A grant on the socket: good with its key, on this connection, while its task lives; with nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

from forestall.core.ask import CannotDo
from forestall.core.model import Assurance
from forestall.core.reason import Reason
from forestall.proof.fault import Fault
from forestall.server.oauth.accept import accept_grant
from tests.desk import DOMAIN, ISSUER, Desk
from tests.tokens import key, token


@contextmanager
def refused(reason: Reason, fault: Fault | None = None) -> Iterator[None]:
    with pytest.raises(CannotDo) as caught:
        yield
    assert caught.value.reason is reason
    assert fault is None or caught.value.detail.startswith(f"grant: {fault}")


def accept(desk: Desk, token: str, proof: str, nonce: str = "n") -> Any:
    return accept_grant(desk.parts, token, proof, nonce, desk.now)


def test_whoever_holds_the_key_acts_in_the_task(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    answer = agent.open()
    grant, subject = accept(desk, answer.token, agent.on_socket(answer.token, "n"))
    assert grant is desk.parts.state.find_grant(answer.task)
    assert (subject.id, subject.assurance, subject.trust_domain) == ("agent-a", Assurance.KEY, DOMAIN)
    assert (subject.key, subject.instance, subject.tenant) == (grant.key, grant.instance, "acme")


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"nonce": "another"}, Fault.NONCE),
        ({"nonce": None}, Fault.NONCE),
        ({"method": "POST"}, Fault.OTHER_METHOD),
        ({"url": ISSUER}, Fault.OTHER_URL),
        ({"access_token": "another"}, Fault.OTHER_TOKEN),
        ({"access_token": None}, Fault.OTHER_TOKEN),
        ({"key": key(seed="found")}, Fault.OTHER_KEY),
    ],
)
def test_a_proof_for_anything_else_is_refused(desk: Desk, changed: dict[str, Any], fault: Fault) -> None:
    agent = desk.agent("agent-a")
    grant = agent.open().token
    with refused(Reason.INVALID_PROOF, fault):
        accept(desk, grant, agent.on_socket(grant, **{"nonce": "n", **changed}))


def test_an_old_proof_and_one_of_a_clock_that_is_off_are_refused(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    grant = agent.open().token
    for off, fault in ((-75_000, Fault.TOO_OLD), (15_000, Fault.CLOCK)):
        with refused(Reason.INVALID_PROOF, fault):
            accept(desk, grant, agent.on_socket(grant, "n", now=desk.now + off))


def test_a_token_of_anybody_else_or_of_no_task_is_refused(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    grant = agent.open().token
    proof = agent.on_socket(grant, "n")
    with refused(Reason.INVALID_PROOF, Fault.MALFORMED):
        accept(desk, "no token", proof)
    forged = token({"iss": ISSUER}, key(seed="forger"), typ="task-grant+jwt")
    with refused(Reason.INVALID_PROOF, Fault.UNKNOWN_KEY):
        accept(desk, forged, proof)
    desk.now += 30 * 60_000
    with refused(Reason.INVALID_PROOF, Fault.EXPIRED):
        accept(desk, grant, agent.on_socket(grant, "n"))


def test_a_task_that_is_over_is_not_revived(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    grant = agent.open().token
    assert agent.revoke(grant).status == 200
    with refused(Reason.TASK_ENDED, Fault.ENDED):
        accept(desk, grant, agent.on_socket(grant, "n"))


def test_a_trust_domain_that_is_taken_out_takes_its_grants_along(desk: Desk) -> None:
    agent = desk.agent("stranger")
    grant = agent.open().token
    accept(desk, grant, agent.on_socket(grant, "n"))
    file = desk.home.root / "identity.toml"
    file.write_text('[[trust_domains]]\nname = "example.org"\ntenant = "acme"\n')
    desk.parts.reload()
    with refused(Reason.INVALID_PROOF, Fault.WRONG_TRUST_DOMAIN):
        accept(desk, grant, agent.on_socket(grant, "n"))


def test_a_tenant_that_was_renamed_is_another(desk: Desk) -> None:
    agent = desk.agent("stranger")
    grant = agent.open().token
    file = desk.home.root / "identity.toml"
    file.write_text(file.read_text().replace('tenant = "other"', 'tenant = "third"'))
    desk.parts.reload()
    with refused(Reason.INVALID_PROOF, Fault.WRONG_TENANT):
        accept(desk, grant, agent.on_socket(grant, "n"))


def test_without_identities_or_a_name_of_our_own_no_grant_is_good(desk: Desk) -> None:
    agent = desk.agent("agent-a")
    grant = agent.open().token
    assert desk.parts.tokens is not None
    desk.parts.tokens = replace(desk.parts.tokens, issuer="")
    with refused(Reason.INVALID_PROOF):
        accept(desk, grant, agent.on_socket(grant, "n"))
    desk.parts.tokens.close()
    desk.parts.tokens = None
    with refused(Reason.INVALID_PROOF):
        accept(desk, grant, agent.on_socket(grant, "n"))
