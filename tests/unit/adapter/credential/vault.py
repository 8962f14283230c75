"""A broker, and a server beside it that says of each request what the test says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.openbao import OpenBaoBroker, Settings
from forestall.adapter.credential.openbao_api import Site
from forestall.adapter.credential.openbao_login import Login, TokenFile
from forestall.adapter.credential.openbao_rights import Kind, Method, Wanted
from forestall.core.effects import Effect
from forestall.core.label import WORST
from forestall.core.model import NOTHING, Action, Grant, Lease, Permit, Scope
from tests.unit.adapter.credential.raw import Peer, Raw
from tests.unit.adapter.oidc.site import WAIT_S

NOW = 1_800_000_000_000
LEASE = "database/creds/shop-ro/0123456789"
ACCESSOR, TOKEN, OWN = "accessor-of-the-child", "hvs.token-of-the-child", "hvs.token-of-forestall"
NAME = f"forestall-0a1b2c3d-{'7' * 32}"
DATABASE = Wanted(Kind.DATABASE, ("shop-ro",), "database/creds/shop-ro")
GIVEN_OUT = Wanted(Kind.TOKEN, ("shop-ro",), leases=("database/creds/shop-ro",))
WRITTEN = Wanted(Kind.DYNAMIC, ("shop-ro",), "database/creds/shop-ro", Method.WRITE, {"name": "x", "count": 3})

CREATED: Mapping[str, Any] = {
    "auth": {
        "client_token": TOKEN,
        "accessor": ACCESSOR,
        "policies": ["shop-ro"],
        "token_policies": ["shop-ro"],
        "identity_policies": None,
        "metadata": {"forestall_lease": NAME, "forestall_leases": "database/creds/shop-ro"},
        "orphan": True,
        "lease_duration": 60,
        "renewable": False,
        "token_type": "service",
        "num_uses": 2,
    }
}
DRAWN: Mapping[str, Any] = {
    "lease_id": LEASE,
    "lease_duration": 60,
    "renewable": True,
    "data": {"username": "u", "password": "a-password-of-the-test", "port": 5432, "tls": True, "hosts": ["a", "b"]},
}
GONE: Mapping[str, Any] = {"errors": ["invalid accessor"]}
NO_LEASE: Mapping[str, Any] = {"errors": ["invalid lease"]}

Say = tuple[int, Any]
"""A status, and what is said: JSON, bytes as they are, or None for nothing."""

GOOD: Mapping[str, Say] = {
    "POST auth/token/create/forestall": (200, CREATED),
    "GET database/creds/shop-ro": (200, DRAWN),
    "POST database/creds/shop-ro": (200, DRAWN),
    "POST sys/leases/renew": (200, {"lease_id": LEASE, "lease_duration": 60, "renewable": True}),
    "POST sys/leases/revoke": (204, None),
    "POST sys/leases/lookup": (400, NO_LEASE),
    "POST auth/token/revoke-accessor": (204, None),
    "POST auth/token/lookup-accessor": (400, GONE),
    "POST auth/token/renew-accessor": (200, {"auth": {"lease_duration": 60}}),
    "LIST auth/token/accessors": (200, {"data": {"keys": []}}),
    "LIST sys/leases/lookup/database/creds/shop-ro": (404, {"errors": []}),
}

Heard = list[tuple[str, Mapping[str, str], Any]]


class Desk:
    """`says`: by method and path; it may be changed at any time. A callable is asked with the request's body."""

    def __init__(self, broker: OpenBaoBroker, says: dict[str, Say | Callable[[Any], Say]], heard: Heard) -> None:
        self.broker, self.says, self.heard = broker, says, heard

    @property
    def asked(self) -> list[str]:
        return [line for line, _, _ in self.heard]

    def lease(self, scope: Scope = Scope.ACTION, lives_ms: int = 60_999) -> Lease:
        rights = self.broker.plan(permit(), action(), grant())
        return Lease(NAME, "shop", "openbao", "t", "p", scope, rights, NOW + lives_ms)


@contextmanager
def desk(
    folder: Path,
    wanted: Wanted = DATABASE,
    *,
    login: Callable[[Path], Login] | None = None,
    now: Callable[[], int] = lambda: NOW,
    namespace: str = "",
    timeout_s: float = WAIT_S,
) -> Iterator[Desk]:
    file = folder / "token"
    file.write_text(f"{OWN}\n")
    answers: dict[str, Say | Callable[[Any], Say]] = dict(GOOD)
    heard: Heard = []

    def play(peer: Peer) -> None:
        while data := peer.hear():
            line, headers, body = _parsed(data)
            heard.append((line, headers, body))
            say = answers.get(line, (404, {"errors": []}))
            status, said = say(body) if callable(say) else say
            raw = said if isinstance(said, bytes) else b"" if said is None else json.dumps(said).encode()
            peer.answer(raw, f"{status} Said")

    with Raw(play) as server:
        settings = Settings(
            Site(server.url, namespace), login(folder) if login else TokenFile(file), "forestall", wanted
        )
        context = Context("0a1b2c3d", now, bytes, timeout_s, folder)
        with closing(OpenBaoBroker(settings, context, pause=lambda _: None)) as broker:
            yield Desk(broker, answers, heard)


def _parsed(data: bytes) -> tuple[str, Mapping[str, str], Any]:
    head, body = data.split(b"\r\n\r\n", 1)
    first, *lines = head.decode().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    return f"{method} {target.removeprefix('/v1/')}", headers, json.loads(body) if body else None


def permit(*effects: Effect) -> Permit:
    return Permit("p", "t", "s/t", "", "", frozenset(effects or (Effect.READ,)), WORST, (), "", NOW + 60_000)


def grant(*effects: Effect, parameters: Mapping[str, str] = NOTHING) -> Grant:
    return Grant("t", "a", "", "", (), frozenset(effects or (Effect.READ,)), NOW + 600_000, parameters=parameters)


def action() -> Action:
    return Action("a", "t", "s/t", "", {}, b"{}", "", b"", NOW, None)
