"""Functions with credentials on a real home: `credentials.toml`, a ledger, backends, and a process that dies."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from forestall import Credential, Guard
from forestall.core.entry import Stream
from forestall.core.errors import InvalidInput, Refused, SetupError
from forestall.core.reason import Reason
from forestall.home import Home
from forestall.pep.sought import MAX_OVER
from tests.backends import Desk, install
from tests.points import WAIT_S, entries, until, verify_ledger

REPOSITORY = Path(__file__).parent.parent.parent
PASSWORD = "correct/horse battery"
POLICY = """\
@id("lent") @credential("shop") permit (principal, action in Action::"read", resource);
@id("unlent") permit (principal, action in Action::"write", resource);
@id("risky") forbid (principal, action in Action::"read", resource)
when { context has risk && context.risk == "high" };
"""
STATIC = """\
[credentials.shop]
backend = "static"
scope = "SCOPE"
secrets = { user = "env:SHOP_USER", password = "file:password" }
place = { where = "argument", name = "dsn", template = "postgresql://{user|url}:{password|url}@db/shop" }
"""
FILES = '[credentials.shop]\nbackend = "files"\npath = "desk"\nscope = "SCOPE"\n'


@pytest.fixture(autouse=True)
def _backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))
    monkeypatch.setenv("SHOP_USER", "the agent")


@pytest.fixture(params=["action", "task"])
def scope(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.policy.mkdir(parents=True)
    (home.policy / "own.cedar").write_text(POLICY)
    (home.root / "password").write_text(PASSWORD)
    (home.root / "password").chmod(0o600)
    return home


@pytest.fixture
def desk(home: Home) -> Desk:
    return Desk(home.root / "desk")


def kinds(home: Home) -> list[str]:
    return [entry["kind"] for entry in entries(home)]


def of(home: Home, kind: str) -> list[Mapping[str, Any]]:
    return [entry for entry in entries(home) if entry["kind"] == kind]


def everything(home: Home) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(home.ledger.rglob("*")) if path.is_file())


class Shop:
    """A function of each shape, and what they kept."""

    def __init__(self, guard: Guard) -> None:
        self.kept: list[Credential] = []

        @guard.tool(effects={"read"}, control={"customer"}, credential="shop")
        def orders(customer: str, shop: Credential) -> str:
            self.kept.append(shop)
            return f"{customer}: {len(shop.value)}"

        @guard.tool(effects={"read"}, control={"customer"}, credential="shop")
        async def orders_later(customer: str, shop: Credential) -> str:
            self.kept.append(shop)
            await asyncio.sleep(0)
            return f"{customer}: {len(shop.value)}"

        @guard.tool(effects={"read"}, credential="shop")
        def lines(shop: Credential) -> Iterator[int]:
            self.kept.append(shop)
            yield 1
            yield len(shop.value)

        @guard.tool(effects={"read"}, credential="shop")
        async def lines_later(shop: Credential) -> AsyncIterator[int]:
            self.kept.append(shop)
            yield 1
            yield len(shop.value)

        @guard.tool(effects={"write"}, credential="shop")
        def publish(shop: Credential) -> None:
            self.kept.append(shop)

        self.orders: Any = orders
        self.orders_later: Any = orders_later
        self.lines: Any = lines
        self.lines_later: Any = lines_later
        self.publish: Any = publish


VALUE = "postgresql://the%20agent:correct%2Fhorse%20battery@db/shop"


def test_a_secret_by_reference_is_lent_to_each_shape_of_function(home: Home, scope: str) -> None:
    home.credentials.write_text(STATIC.replace("SCOPE", scope))

    async def both(shop: Shop) -> None:
        async with guard.task("read"):
            assert await shop.orders_later("acme") == f"acme: {len(VALUE)}"
            assert [item async for item in shop.lines_later()] == [1, len(VALUE)]

    with Guard.open(home.root, name="shop") as guard:
        shop = Shop(guard)
        with guard.task("read"):
            assert shop.orders("acme") == f"acme: {len(VALUE)}"
            assert list(shop.lines()) == [1, len(VALUE)]
        asyncio.run(both(shop))
        assert len(shop.kept) == 4
        for credential in shop.kept:
            with pytest.raises(InvalidInput, match="is over"):
                _ = credential.value
    assert [entry["fate"] for entry in of(home, "settled")] == ["done"] * 4
    leased, revoked = of(home, "leased"), of(home, "revoked")
    assert {entry["id"] for entry in leased} == {entry["id"] for entry in revoked}
    assert len(leased) == (4 if scope == "action" else 2)
    assert b"horse" not in everything(home)
    verify_ledger(home)


def test_where_policy_names_none_the_operator_is_told(home: Home) -> None:
    home.credentials.write_text(STATIC.replace("SCOPE", "action"))
    with Guard.open(home.root, name="shop") as guard:
        shop = Shop(guard)
        with guard.task("publish"), pytest.raises(Refused, match="write @credential on it") as caught:
            shop.publish()
    assert (caught.value.reason, shop.kept) == (Reason.UNAVAILABLE, [])
    (settled,) = of(home, "settled")
    assert (settled["fate"], "names no class" in settled["detail"]) == ("not_started", True)
    assert "leased" not in kinds(home)


def test_who_gives_it_is_refused(home: Home) -> None:
    home.credentials.write_text(STATIC.replace("SCOPE", "action"))
    with Guard.open(home.root, name="shop") as guard:
        shop = Shop(guard)
        with guard.task("read"), pytest.raises(Refused, match="filled in by a credential alone"):
            shop.orders("acme", shop="postgresql://attacker")
    (denied,) = [entry for entry in entries(home, Stream.DENIALS) if entry["kind"] == "denied"]
    assert denied["reason"] == "invalid_arguments"
    assert "permitted" not in kinds(home)


def test_a_policy_cannot_speak_of_it(home: Home) -> None:
    home.credentials.write_text(STATIC.replace("SCOPE", "action"))
    (home.policy / "more.cedar").write_text(
        '@id("more") forbid (principal, action == Action::"shop/orders", resource) when { context.args.shop == "" };'
    )
    with Guard.open(home.root, name="shop") as guard:
        Shop(guard)
        with pytest.raises(SetupError, match=r"more\.cedar"):
            guard.task("read")


@pytest.mark.parametrize("place", ["environment", "descriptor", "command"])
def test_what_is_there_from_a_servers_start_is_lent_to_no_function(home: Home, place: str) -> None:
    text = STATIC.replace("SCOPE", "task").replace('"argument", name = "dsn"', f'"{place}", name = "DSN"')
    home.credentials.write_text(f'{text}server = "shop"\n')
    with Guard.open(home.root, name="shop") as guard:
        shop = Shop(guard)
        with guard.task("read"), pytest.raises(Refused):
            shop.orders("acme")
    assert shop.kept == []


# -- what comes back


def leak_of(guard: Guard, how: str) -> Any:
    @guard.tool(effects={"read"}, credential="shop")
    def leak(shop: Credential) -> Any:
        if how == "error":
            raise ConnectionError(f"cannot connect to {shop.get('token') or shop.value}")
        return {"connected with": shop.get("token") or shop.value}

    @guard.tool(effects={"read"}, credential="shop")
    def leak_items(shop: Credential) -> Iterator[Any]:
        yield "fine"
        yield shop.get("token") or shop.value

    return {"items": lambda: list(leak_items())}.get(how, leak)


@pytest.mark.parametrize("how", ["value", "error", "items"])
def test_what_comes_back_is_withheld_and_the_task_is_at_high_risk(home: Home, desk: Desk, scope: str, how: str) -> None:
    home.credentials.write_text(FILES.replace("SCOPE", scope))
    with Guard.open(home.root, name="shop") as guard:
        leak, shop = leak_of(guard, how), Shop(guard)
        with guard.task("read"):
            with pytest.warns(RuntimeWarning, match="a credential came back"), pytest.raises(Refused) as caught:
                leak()
            assert caught.value.reason is Reason.LEAKED
            until(lambda: not desk.live)
            with pytest.raises(Refused) as after:
                shop.orders("acme")
            assert after.value.reason is Reason.FORBIDDEN
        until(lambda: len(of(home, "revoked")) == 1)
    (settled,) = of(home, "settled")
    assert (settled["fate"], settled["leaked"]) == ("failed" if how == "error" else "done", True)
    (order,) = [entry for entry in of(home, "ordered") if entry["order"] == "risk"]
    assert order["level"] == "high"
    assert "a credential came back in the output of shop/leak" in order["why"]
    (revoked,) = of(home, "revoked")
    assert revoked["why"] in ({"leaked"} if scope == "task" else {"leaked", "done", "failed"})
    verify_ledger(home)


def test_where_warnings_are_errors_it_is_withheld_and_recorded_all_the_same(home: Home, desk: Desk) -> None:
    home.credentials.write_text(FILES.replace("SCOPE", "task"))
    with Guard.open(home.root, name="shop") as guard:
        leak = leak_of(guard, "value")
        with guard.task("read"), warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(Refused, match="held a credential"):
                leak()
    assert len(of(home, "ordered")) == 1
    assert of(home, "settled")[0]["leaked"] is True
    assert not desk.live


# -- how long it lives


def test_a_dropped_stream_ends_its_credential_by_itself(home: Home, desk: Desk) -> None:
    home.credentials.write_text(FILES.replace("SCOPE", "action"))
    with Guard.open(home.root, name="shop") as guard:

        @guard.tool(effects={"read"}, credential="shop")
        def lines(shop: Credential) -> Iterator[int]:
            yield len(shop)
            yield len(shop)

        with guard.task("read"):
            stream = lines()
            assert next(stream) == 1
            assert len(desk.live) == 1
            del stream
            gc.collect()
            until(lambda: not desk.live)  # nobody calls anything, and the task goes on
            until(lambda: [entry["fate"] for entry in of(home, "settled")] == ["ambiguous"])


def test_calls_of_a_task_share_what_is_the_tasks_own(home: Home, desk: Desk) -> None:
    home.credentials.write_text(FILES.replace("SCOPE", "task"))
    tokens = []
    with Guard.open(home.root, name="shop") as guard:

        @guard.tool(effects={"read"}, credential="shop")
        def connect(shop: Credential) -> None:
            tokens.append(shop["token"])

        with guard.task("read"):
            connect()
            connect()
            assert desk.works(tokens[0])
        until(lambda: not desk.live)
    assert len(set(tokens)) == 1


PROGRAM = """
import os, signal, sys
sys.path[:0] = {path!r}
from pathlib import Path
from forestall import Guard
guard = Guard.open({home!r}, name="shop")
@guard.tool(effects={{"read"}}, credential="shop")
def lines(shop):
    Path({told!r}).write_text(shop["token"])
    yield 1
    if {when!r} == "between":
        os.kill(os.getpid(), signal.SIGKILL)
with guard.task("read"):
    stream = lines()
    next(stream)
    if {when!r} == "during":
        os.kill(os.getpid(), signal.SIGKILL)
    list(stream)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["during", "between", "after"])
def test_what_a_killed_program_was_lent_is_ended_by_the_next(
    home: Home, desk: Desk, tmp_path: Path, scope: str, when: str
) -> None:
    home.credentials.write_text(FILES.replace("SCOPE", scope))
    told = tmp_path / "token"
    path = [str(tmp_path / "site"), str(REPOSITORY)]
    program = PROGRAM.format(path=path, home=str(home.root), told=str(told), when=when)
    ended = subprocess.run([sys.executable, "-c", program], check=False, timeout=WAIT_S, env=dict(os.environ))
    assert ended.returncode == -9
    token = told.read_text()
    assert desk.works(token) == (when != "after" or scope == "task")
    with Guard.open(home.root, name="shop"):
        until(lambda: not desk.works(token))
        until(lambda: len(of(home, "revoked")) == 1)
    assert not desk.live
    assert of(home, "settled")[0]["fate"] == ("done" if when == "after" else "ambiguous")
    assert token.encode() not in everything(home)
    verify_ledger(home)


@pytest.mark.parametrize(("scope", "told"), [("action", 1), ("task", 0)])
def test_the_end_of_a_call_tells_once_that_its_own_credential_is_over_and_never_of_its_tasks(
    home: Home, desk: Desk, scope: str, told: int
) -> None:
    home.credentials.write_text(FILES.replace("SCOPE", scope))
    with Guard.open(home.root, name="shop") as guard:

        @guard.tool(effects={"read"}, credential="shop")
        def look(shop: Credential) -> str:
            return shop["token"][:0]

        with guard.task("read") as task:
            look()
            gc.collect()
            assert len(task.sought._ended) == told


def test_what_a_long_call_has_is_looked_for_to_its_end_whatever_others_were_lent_meanwhile(
    home: Home, desk: Desk
) -> None:
    home.credentials.write_text(FILES.replace("SCOPE", "action"))
    with Guard.open(home.root, name="shop") as guard:

        @guard.tool(effects={"read"}, credential="shop")
        def quick(shop: Credential) -> str:
            return shop["token"][:0]

        @guard.tool(effects={"read"}, credential="shop")
        def long(shop: Credential) -> str:
            for _ in range(MAX_OVER + 1):
                quick()
            return shop["token"]

        with guard.task("read") as task:
            with pytest.raises(Refused, match="held a credential"):
                long()
            assert set(task.sought._alive) == set(task.sought._ended), "of each it was told that it is over"
    assert desk.live == set()
