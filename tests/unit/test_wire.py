"""How the parts come together, and what stops them."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.identity import LocalIdentity, Peer, asserted
from forestall.config import load_mandates
from forestall.core.ask import Admit, CannotDo, FindGrant
from forestall.core.control import Command, Order, Reach, Target
from forestall.core.entry import Stream, closed, opened, permitted
from forestall.core.errors import PolicyInvalid, SetupError, Unavailable
from forestall.core.flow import conclude
from forestall.core.model import Decision, Permit
from forestall.core.reason import Reason
from forestall.home import Home
from forestall.policy.cedar import CedarEngine
from forestall.server.listening import prepare
from forestall.testing.world import AGENT, GRANT, PERMITTED, TOOL, action, facts
from forestall.wire import Parts, build, confirm, handlers, order, order_blocking, record_blocking
from tests.points import make_home


def test_a_new_home_gets_keys_once_and_a_mandate(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    prepare(home)
    parts = build(home)
    parts.close()
    assert "every call is denied" in parts.rules.notice
    assert load_mandates(home)["default"].tools == ("*",)
    key = (home.keys / "log.key").read_text()
    build(home).close()
    assert (home.keys / "log.key").read_text() == key


def test_mandates_that_are_there_are_left_alone(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    home.mandates.mkdir()
    build(home).close()
    assert load_mandates(home) == {}


def test_a_policy_engine_that_permits_a_canary_stops_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = make_home(tmp_path)
    real = CedarEngine._evaluate

    def permissive(engine: CedarEngine, question: Any) -> Any:
        return replace(real(engine, question), decision=Decision.PERMIT, policies=("any",))

    monkeypatch.setattr(CedarEngine, "_evaluate", permissive)
    with pytest.raises(PolicyInvalid, match="self-test"):
        build(home)
    assert not (home.ledger / "permits.log").exists()


def test_what_does_not_check_stops_it_before_the_ledger_is_opened(tmp_path: Path) -> None:
    home = make_home(tmp_path, policy="permit (principal")
    with pytest.raises(SetupError, match=r"own\.cedar"):
        build(home)
    assert not (home.keys / "log.key").exists()


def test_a_reload_replaces_all_or_nothing(tmp_path: Path) -> None:
    home = make_home(tmp_path)
    parts = build(home)
    before = parts.rules
    (home.policy / "own.cedar").write_text("permit (principal, action, resource);")
    (home.catalogue / "files.toml").write_text("format = 2")
    with pytest.raises(SetupError):
        parts.reload()
    assert parts.rules is before
    parts.close()


def test_a_peer_is_its_uid_and_its_server() -> None:
    identity = LocalIdentity({7})
    subject = identity.verify(Peer(7, 1, "files", "a client"))
    assert (subject.id, subject.assurance.value, subject.asserted_name) == ("local/7/files", "local", "a client")


@pytest.mark.parametrize("proof", [None, "local/7/files", Peer(8, 1), {"uid": 7}])
def test_whoever_may_not_ask_is_refused(proof: object) -> None:
    with pytest.raises(CannotDo) as caught:
        LocalIdentity({7}).verify(proof)
    assert caught.value.reason.value == "invalid_proof"


@pytest.mark.parametrize(
    ("client", "name"),
    [
        (None, ""),
        ("x", ""),
        ({}, ""),
        ({"name": 3}, ""),
        ({"name": "a", "version": "1"}, "a 1"),
        ({"name": "a\nb\x1b[0m\u202e"}, "ab[0m"),
        ({"name": "x" * 999}, "x" * 128),
    ],
)
def test_what_a_client_calls_itself_is_one_short_line(client: object, name: str) -> None:
    assert asserted(client) == name


# -- orders


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    home = Home(tmp_path / "home")
    prepare(home)
    made = build(home)
    yield made
    made.close()


KILL = Command(Order.KILL, Target(Reach.TASK, GRANT.task), "it went wrong", "uid/0")
SUSPEND = replace(KILL, order=Order.SUSPEND)


def open_in(parts: Parts) -> Permit:
    """A task, and a permit in it that stands."""
    now = parts.now()
    grant = replace(GRANT, expires_at=now + 60_000)
    record_blocking(parts, opened(grant, AGENT, now))
    asked = replace(action(), at=now)
    ruled = conclude(PERMITTED, asked, TOOL, facts())
    assert isinstance(ruled, Permit)
    record_blocking(parts, permitted(ruled, asked, AGENT, facts(), durable=True))
    assert confirm(parts, ruled) is None
    return ruled


@pytest.mark.parametrize(("command", "reason"), [(KILL, Reason.REVOKED), (SUSPEND, Reason.SUSPENDED)])
@pytest.mark.parametrize("blocking", [True, False])
def test_once_an_order_is_answered_it_is_in_the_ledger_in_force_and_told(
    parts: Parts, command: Command, reason: Reason, blocking: bool
) -> None:
    permit, told = open_in(parts), []
    parts.on_order.append(lambda given: told.append((given, parts.state.stopped(GRANT.task))))
    if blocking:
        order_blocking(parts, command)
    else:

        async def give() -> None:
            await order(parts, command)

        asyncio.run(give())
    assert told == [(command, reason)], "when it is told, it is in force"
    assert confirm(parts, permit) is reason
    with pytest.raises(CannotDo) as caught:
        handlers(parts, directory="/")[FindGrant](FindGrant(GRANT.task))
    assert caught.value.reason is reason
    *_, last = parts.ledger.read(Stream.PERMITS)
    assert (last.body["kind"], last.body["order"], last.body["by"]) == ("ordered", command.order, "uid/0")


def test_one_who_cannot_be_told_keeps_nobody_else_from_being_told(parts: Parts) -> None:
    open_in(parts)
    told: list[Command] = []

    def broken(_command: Command) -> None:
        raise ZeroDivisionError

    parts.on_order += [broken, told.append]
    with pytest.raises(ZeroDivisionError):
        order_blocking(parts, KILL)
    assert told == [KILL]
    assert parts.state.stopped(GRANT.task) is Reason.REVOKED


def test_a_permit_that_does_not_stand_says_why(parts: Parts) -> None:
    permit = open_in(parts)
    assert confirm(parts, replace(permit, id="never recorded")) is Reason.TASK_ENDED
    assert confirm(parts, replace(permit, id="another", expires_at=0)) is Reason.DEADLINE
    record_blocking(parts, closed(GRANT.task, "completed", parts.now()))
    assert confirm(parts, permit) is Reason.TASK_ENDED


def test_whoever_is_barred_is_not_admitted(parts: Parts) -> None:
    admit = handlers(parts, directory="/")[Admit]
    assert admit(Admit(AGENT, "")) is None
    order_blocking(parts, replace(SUSPEND, target=Target(Reach.AGENT, AGENT.id)))
    assert admit(Admit(AGENT, "")) is Reason.SUSPENDED


def test_an_order_that_the_disk_does_not_take_is_said_to_be_none(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    permit, told = open_in(parts), []
    parts.on_order.append(told.append)

    def full(*_arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for name in ("write", "pwrite", "writev", "fdatasync", "fsync"):
        monkeypatch.setattr(os, name, full)
    with pytest.raises(Unavailable):
        order_blocking(parts, KILL)
    monkeypatch.undo()
    assert told == []
    assert confirm(parts, permit) is None
