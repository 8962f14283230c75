"""Tasks that serve users of a real OpenID provider, opened through the token service."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from forestall.clock import Clock
from forestall.proof.fault import Fault
from tests.desk import IDENTITY, Desk, desk_at, exchange, opening
from tests.identity.conftest import World

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("identity")]

ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"

USERS = """
[[users]]
issuer = "{issuer}"
client = "front-end"
tenant = "acme"
loopback = true
"""


@pytest.fixture
def desk(world: World, tmp_path: Path) -> Iterator[Desk]:
    identity = IDENTITY + USERS.format(issuer=world.provider.issuer)
    with desk_at(tmp_path / "desk", identity=identity) as found:
        found.now = Clock()()
        yield found


def test_a_task_serves_who_signed_in_at_the_provider(world: World, desk: Desk) -> None:
    agent = desk.agent("agent-a")
    id_token, access_token = world.provider.sign_in("alice", nonce="n-1")
    answer = agent.ask({**opening(), **exchange(id_token, ID_TOKEN)})
    assert answer.status == 200, desk.denial(answer)
    grant = desk.parts.state.find_grant(answer.task)
    assert grant is not None
    assert grant.user == f"{world.provider.issuer}#alice"
    assert id_token not in answer.token  # an inbound token is never passed on
    for shown, fault in ((access_token, Fault.MALFORMED), (world.token(), Fault.WRONG_AUDIENCE)):
        refused = agent.ask({**opening(), **exchange(shown, ID_TOKEN)})
        assert refused.error == "invalid_request"
        assert fault.value in desk.denial(refused)["detail"]


def test_a_sign_in_that_is_too_old_serves_nobody(world: World, desk: Desk) -> None:
    id_token, _ = world.provider.sign_in("alice", nonce="n-1")
    desk.now += 2 * 3_600_000
    answer = desk.agent("agent-a").ask({**opening(), **exchange(id_token, ID_TOKEN)})
    assert answer.error == "invalid_request"
    assert desk.denial(answer)["reason"] == "invalid_proof"
