"""A credential is written down before it exists, and its end once it is certain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from forestall.core import entry
from forestall.core.ask import CannotDo, Record, Revoke, Tell
from forestall.core.entry import Kind
from forestall.core.lend import end_all
from forestall.run import run
from forestall.testing.playbook import Playbook
from forestall.testing.world import LEASE, NOW, SECRET, Fault, World

OTHER = replace(LEASE, name="forestall-0badcafe-action-2")


def test_each_ends_for_its_own_reason() -> None:
    book = Playbook(end_all([(LEASE, "expired"), (OTHER, "killed")])) << Revoke(LEASE) >> None << Tell() >> NOW
    book = book << Record(entry.revoked(LEASE, "expired", NOW)) >> None << Revoke(OTHER) >> None << Tell() >> NOW
    book = book << Record(entry.revoked(OTHER, "killed", NOW)) >> None
    assert book.outcome == ()


def test_one_that_cannot_be_ended_has_no_end_and_the_rest_go_on() -> None:
    down = CannotDo(detail="database down")
    book = Playbook(end_all([(LEASE, "expired"), (OTHER, "killed")])) << Revoke(LEASE) >> down
    book = book << Revoke(OTHER) >> None << Tell() >> NOW << Record(entry.revoked(OTHER, "killed", NOW)) >> None
    assert book.outcome == ((LEASE, down),)


@pytest.mark.parametrize("fault", Fault)
@pytest.mark.parametrize("step", range(6))
def test_ending_them_again_finishes_what_a_fault_left(step: int, fault: Fault) -> None:
    world = World(faults={step: fault}, credentials={LEASE.name, OTHER.name})
    left = run(end_all([(LEASE, "swept"), (OTHER, "swept")]), world.handlers())
    assert len(left) == 1
    assert run(end_all([(left[0][0], "swept")]), world.handlers()) == ()
    assert world.credentials == set()
    assert {one.id for one in world.entries} == {LEASE.name, OTHER.name}
    assert {one.kind for one in world.entries} == {Kind.REVOKED}


def test_a_secret_is_in_no_text() -> None:
    lease = replace(LEASE, secret=SECRET)
    written = entry.leased(lease, NOW)
    assert "hunter2" not in f"{lease!r}{SECRET!r}{written!r}{written.leaf()!r}"
