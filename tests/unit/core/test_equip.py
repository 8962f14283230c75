"""A server is started with a credential only under a recorded permit that names its class, and nothing is left over."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.core.action import ask_for
from forestall.core.ask import CannotDo, Issue, Perform
from forestall.core.effects import Effect
from forestall.core.entry import Kind
from forestall.core.equip import EQUIP, equip
from forestall.core.model import Action, Approval, Decision, Deny, Hold, Lease, Ruling, Scope
from forestall.core.place import Place, Where
from forestall.core.reason import Reason
from forestall.run import run
from forestall.testing.world import AGENT, GRANT, LEASE, NOW, PERMITTED, SECRET, Fault, World

OF_TASK = replace(LEASE, scope=Scope.TASK, place=Place(Where.ENVIRONMENT, "KEY", "{password}"), exposed=True)
LENT = replace(PERMITTED, credential="database")
ABLE = replace(GRANT, effects=GRANT.effects | {Effect.CREDENTIAL})
HELD = Ruling(Decision.HOLD, "b", "s", Reason.NEEDS_APPROVAL, ("ask",), (Approval(("owner",)),), credential="database")


def asked(*, exposed: bool = True) -> Action:
    arguments = {"server": "files", "credential": "database", "exposed": exposed}
    return ask_for(
        EQUIP.id,
        arguments,
        action_id="action-1",
        task=GRANT.task,
        pin=EQUIP.pin,
        salt=b"salt" * 4,
        at=NOW,
        proof="proof",
    )


def world(**changes: Any) -> World:
    return World(**{"grant": ABLE, "ruling": LENT, "lease": OF_TASK, **changes})


def kinds(known: World) -> list[Kind]:
    return [entry.kind for entry in known.entries]


def test_it_is_permitted_written_down_made_settled_and_then_handed_over() -> None:
    known = world()
    lease = run(equip(asked()), known.handlers())
    assert lease == replace(OF_TASK, secret=SECRET)
    assert kinds(known) == [Kind.PERMITTED, Kind.LEASED, Kind.SETTLED]
    assert known.entries[-1].body["fate"] == "done"
    assert known.credentials == {OF_TASK.name}, "it lives on: it is the task's"
    assert not [ask for ask in known.asked if isinstance(ask, Perform)]


def test_where_another_user_runs_it_the_record_says_that_it_is_not_exposed() -> None:
    known = world()
    lease = run(equip(asked(exposed=False)), known.handlers())
    assert isinstance(lease, Lease)
    assert not lease.exposed
    assert known.entries[1].body["exposed"] is False


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"ruling": PERMITTED}, Reason.NO_POLICY),
        ({"ruling": replace(LENT, credential="other")}, Reason.NO_POLICY),
        ({"ruling": Ruling(Decision.DENY, "b", "s", Reason.FORBIDDEN, ("no",))}, Reason.FORBIDDEN),
        ({"ruling": replace(HELD), "said": Reason.NOT_APPROVED}, Reason.NOT_APPROVED),
        ({"subject": None}, Reason.INVALID_PROOF),
        ({"grant": None}, Reason.NO_GRANT),
        ({"grant": replace(ABLE, holder="another")}, Reason.NOT_HOLDER),
        ({"grant": replace(ABLE, expires_at=NOW)}, Reason.TASK_ENDED),
        ({"grant": replace(ABLE, effects=ABLE.effects - {Effect.CREDENTIAL})}, Reason.OUT_OF_SCOPE),
        ({"budget": 0}, Reason.BUDGET),
        ({"stopped": Reason.REVOKED}, Reason.REVOKED),
        ({"lease": CannotDo(Reason.OUT_OF_SCOPE)}, Reason.OUT_OF_SCOPE),
        ({"lease": replace(OF_TASK, scope=Scope.ACTION)}, Reason.UNAVAILABLE),
        ({"lease": replace(OF_TASK, place=None)}, Reason.UNAVAILABLE),
        ({"lease": replace(OF_TASK, place=Place(Where.ARGUMENT, "A", "{password}"))}, Reason.UNAVAILABLE),
    ],
)
def test_everything_else_is_a_denial(changes: dict[str, Any], reason: Reason) -> None:
    known = world(**changes)
    decided = run(equip(asked()), known.handlers())
    assert isinstance(decided, Deny)
    assert decided.reason is reason
    assert kinds(known)[-1] in {Kind.DENIED, Kind.SETTLED}
    issued = any(isinstance(ask, Issue) for ask in known.asked)
    assert not issued or not known.credentials or known.lease.scope is Scope.TASK  # type: ignore[union-attr]


def test_a_hold_brings_nothing_into_being() -> None:
    known = world(ruling=HELD, subject=replace(AGENT, uid=1000))
    decided = run(equip(asked()), known.handlers())
    assert isinstance(decided, Hold)
    assert kinds(known) == [Kind.HELD]
    assert known.credentials == set()


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("step", range(14))
def test_whatever_fails_nothing_is_handed_over_that_is_not_written(step: int, fault: Fault) -> None:
    known = world(faults={step: fault})
    decided = run(equip(asked()), known.handlers())
    written = kinds(known)
    if isinstance(decided, Lease):
        assert Kind.SETTLED in written
        assert Kind.LEASED in written
    else:
        assert isinstance(decided, Deny)
    assert not known.credentials or Kind.LEASED in written
    assert Kind.LEASED not in written or Kind.PERMITTED in written
