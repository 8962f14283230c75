"""A token service to talk to, and workloads that talk to it: real keys, real requests, the routes as they are."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from forestall.core.entry import Kind, Stream
from forestall.home import Home
from forestall.proof.algorithm import Algorithm
from forestall.proof.client_assertion import ASSERTION_TYPE, make_assertion
from forestall.proof.jwk import SigningKey, key_set
from forestall.proof.possession import SOCKET_METHOD, SOCKET_URL, make_proof
from forestall.proof.ticket import DETAIL_TYPE as DELEGATION
from forestall.proof.ticket import TOKEN_TYPE as TICKET
from forestall.proof.token import DETAIL_TYPE
from forestall.server.http.message import Request
from forestall.server.oauth.answer import ACCESS_TOKEN
from forestall.server.oauth.routes import routes
from forestall.server.oauth.token import CLIENT_CREDENTIALS, EXCHANGE
from forestall.wire import Parts, build
from tests.points import write_catalogue
from tests.tokens import NOW

ISSUER = "https://forestall.example"
DOMAIN = "example.org"

POLICY = """\
@id("reads") permit (principal, action in Action::"read", resource);
@id("opens") permit (principal, action == Action::"forestall/open", resource);
@id("hands-on") permit (principal, action == Action::"forestall/delegate", resource);
@id("lives-on") permit (principal, action == Action::"forestall/extend", resource);
"""

WORK = """\
purpose = "Sort the files of one order."
tools = ["files/*"]
effects = ["read", "write"]
lifetime_minutes = 30
depth = 2
[parameters.order]
pattern = "[0-9]{4}"
[resources."files/*"]
path = "orders/{order}/*"
[budget]
read = 20
fan_out = 3
"""

IDENTITY = """\
[[trust_domains]]
name = "example.org"
tenant = "acme"
[[trust_domains]]
name = "other.example"
tenant = "other"
"""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def error(self) -> str:
        return str(self.body.get("error", ""))

    @property
    def token(self) -> str:
        assert self.status == 200, self.body
        return str(self.body["access_token"])

    @property
    def task(self) -> str:
        return str(self.body["task"])


@dataclass
class Desk:
    """The service, at a time that the test says."""

    home: Home
    parts: Parts
    now: int = NOW
    agents: dict[str, Agent] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parts.now = lambda: self.now
        self.routes = routes(self.parts)

    async def send(self, request: Request) -> Answer:
        response = await self.routes[request.method, request.path](request)
        return Answer(response.status, response.headers, json.loads(response.body))

    def post(self, path: str, form: Mapping[str, str], headers: Mapping[str, str], **more: Any) -> Answer:
        return asyncio.run(self.send(request(path, form, headers, **more)))

    def get(self, path: str) -> Answer:
        return asyncio.run(self.send(Request("GET", path, "", {}, b"", ISSUER + path)))

    def entries(self, stream: Stream, kind: str = "") -> list[Mapping[str, Any]]:
        return [one.body for one in self.parts.ledger.read(stream) if kind in {"", one.body["kind"]}]

    def denial(self, answer: Answer) -> Mapping[str, Any]:
        """What the operator finds by the decision that who asked was told; the one that it repeats, where it does."""
        denials = self.entries(Stream.DENIALS, Kind.DENIED)
        return next((one for one in denials if one["id"] == answer.body["decision"]), denials[-1])

    def agent(self, name: str) -> Agent:
        return self.agents[name]


@dataclass(frozen=True)
class Agent:
    """A registered client with a key of its own to sign in, and one to hold grants with."""

    desk: Desk
    id: str
    signing: SigningKey
    holding: SigningKey

    def assertion(self, **more: Any) -> dict[str, str]:
        given = {"client": self.id, "audience": ISSUER, "now": self.desk.now, "jti": secrets.token_hex(16), **more}
        key = given.pop("key", self.signing)
        return {"client_assertion_type": ASSERTION_TYPE, "client_assertion": make_assertion(key, **given)}

    def proof(self, path: str = "/token", **more: Any) -> dict[str, str]:
        given = {
            "method": "POST",
            "url": ISSUER + path,
            "now": self.desk.now,
            "jti": secrets.token_hex(16),
            "access_token": None,
            "nonce": None,
            **more,
        }
        return {"dpop": make_proof(given.pop("key", self.holding), **given)}

    def ask(self, form: Mapping[str, str], path: str = "/token") -> Answer:
        return self.desk.post(path, {**self.assertion(), **form}, self.proof(path))

    def open(self, **members: Any) -> Answer:
        return self.ask(opening(**members))

    def ticket(self, grant: str, to: str, **wanted: Any) -> Answer:
        return self.ask(handing_on(grant, to, **wanted))

    def receive(self, ticket: str) -> Answer:
        return self.ask(receiving(ticket))

    def extend(self, grant: str, until: int) -> Answer:
        return self.ask(exchange(grant, ACCESS_TOKEN, [{"type": DETAIL_TYPE, "expires_at": until}]))

    def introspect(self, token: str) -> Answer:
        return self.ask({"token": token}, "/introspect")

    def revoke(self, token: str, **more: str) -> Answer:
        return self.ask({"token": token, **more}, "/revoke")

    def on_socket(self, token: str, nonce: str | None, **more: Any) -> str:
        given = {"method": SOCKET_METHOD, "url": SOCKET_URL, "access_token": token, "nonce": nonce, **more}
        return self.proof(**given)["dpop"]

    def with_new_key(self) -> Agent:
        return replace(self, holding=SigningKey.generate(Algorithm.ES256, secrets.token_bytes))


def request(path: str, form: Mapping[str, str], headers: Mapping[str, str], **more: Any) -> Request:
    sent = {"content-type": "application/x-www-form-urlencoded", **headers}
    body = more.pop("body", urlencode(form).encode())
    return Request("POST", path, more.pop("query", ""), sent, body, ISSUER + path, **more)


def opening(**members: Any) -> dict[str, str]:
    detail = {"type": DETAIL_TYPE, "mandate": "work", "parameters": {"order": "4711"}, **members}
    detail = {name: value for name, value in detail.items() if value is not None}
    return {"grant_type": CLIENT_CREDENTIALS, "authorization_details": json.dumps([detail])}


def exchange(token: str, kind: str, details: Any = None, wanted: str = "") -> dict[str, str]:
    return {
        "grant_type": EXCHANGE,
        "subject_token": token,
        "subject_token_type": kind,
        **({"authorization_details": json.dumps(details)} if details is not None else {}),
        **({"requested_token_type": wanted} if wanted else {}),
    }


def handing_on(grant: str, to: str, **wanted: Any) -> dict[str, str]:
    return exchange(grant, ACCESS_TOKEN, [{"type": DELEGATION, "to": to, **wanted}], TICKET)


def receiving(ticket: str) -> dict[str, str]:
    return exchange(ticket, TICKET)


def keys_of(*several: SigningKey) -> str:
    return json.dumps(key_set(several).to_json())


def write_home(root: Path, clients: Mapping[str, str], *, identity: str = IDENTITY) -> dict[str, SigningKey]:
    """A home with these clients, by id with the trust domain of each; and the keys that they sign with."""
    home = Home(root)
    write_catalogue(home)
    home.mandates.mkdir(parents=True, exist_ok=True)
    (home.policy / "p.cedar").write_text(POLICY)
    (home.mandates / "work.toml").write_text(WORK)
    keys = {name: SigningKey.generate(Algorithm.EDDSA, secrets.token_bytes) for name in clients}
    lines = [identity]
    for name, domain in clients.items():
        (root / f"{name}.jwks").write_text(keys_of(keys[name]))
        lines.append(f'[[clients]]\nid = "{name}"\ntrust_domain = "{domain}"\njwks = "{name}.jwks"\n')
    (root / "identity.toml").write_text("".join(lines))
    return keys


CLIENTS = {"agent-a": DOMAIN, "agent-b": DOMAIN, "agent-c": DOMAIN, "stranger": "other.example"}


@contextmanager
def desk_at(root: Path, *, identity: str = IDENTITY) -> Iterator[Desk]:
    keys = write_home(root, CLIENTS, identity=identity)
    with opened(root, keys) as desk:
        yield desk


@contextmanager
def opened(
    root: Path, keys: Mapping[str, SigningKey], holding: Mapping[str, SigningKey] | None = None
) -> Iterator[Desk]:
    """A home that is there already, as after a restart. `holding`: keys that agents kept."""
    parts = build(Home(root))
    parts.called(ISSUER)
    try:
        desk = Desk(Home(root), parts)
        for name, key in keys.items():
            held = (holding or {}).get(name) or SigningKey.generate(Algorithm.ES256, secrets.token_bytes)
            desk.agents[name] = Agent(desk, name, key, held)
        yield desk
    finally:
        parts.close()
