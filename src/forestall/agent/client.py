"""What an agent asks of the decision point's token service, and what it is told."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from forestall.agent.held import Held, Ticket
from forestall.agent.identity import Identity
from forestall.agent.key import new_key
from forestall.agent.transport import Answer, Transport
from forestall.core.canonical import canonical, parse
from forestall.core.errors import ForestallError, InvalidInput, Unavailable
from forestall.core.model import NOTHING, Json
from forestall.proof.id_jag import GRANT_TYPE as ASSERTED
from forestall.proof.jwk import SigningKey
from forestall.proof.possession import make_proof
from forestall.proof.ticket import DETAIL_TYPE as DELEGATION
from forestall.proof.ticket import TOKEN_TYPE as TICKET
from forestall.proof.token import DETAIL_TYPE as TASK

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 - no password
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - no password


class TaskRefused(ForestallError):
    """The decision point said no. `reason` is one of docs/reasons/, where it says one."""

    exit_code = 77

    def __init__(self, said: Mapping[str, Any]) -> None:
        def member(name: str) -> str:
            value = said.get(name, "")
            return value if isinstance(value, str) else ""

        self.error, self.reason = member("error") or "refused", member("reason")
        self.retry, self.decision = member("retry"), member("decision")
        why = f"{self.error}: {self.reason}" if self.reason else self.error
        sentence = member("error_description") or _HINTS.get(self.error, "")
        where = f" The operator finds it by {self.decision}." if self.decision else ""
        super().__init__(f"Refused ({why}). {sentence}{where}".strip())


_HINTS = {
    "invalid_client": "The decision point does not know this agent; look at identity.toml and the agent's key.",
    "invalid_dpop_proof": "The proof of the key does not hold; is the clock right, and the address the issuer's?",
    "invalid_request": "The request is malformed, or its token is not good here.",
    "invalid_grant": "What was shown is not good here.",
    "invalid_authorization_details": "What was asked for is malformed.",
}


class Agent:
    """Not safe to share between threads. Each new task has a key of its own, unless one is given."""

    def __init__(
        self,
        url: str,
        identity: Identity,
        *,
        ca_file: Path | None = None,
        bound_to_certificate: bool = False,
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """Nothing is asked yet.

        Args:
            url: the issuer: https, or http on this machine.
            identity: who the agent is.
            ca_file: PEM of the authorities of the decision point's certificate; None for the machine's.
            bound_to_certificate: tasks are bound to the identity's client certificate, and have no key.
            now: milliseconds since the epoch.

        Raises:
            SetupError: `url` is none.
        """
        self._identity, self._now, self._certificate = identity, now, bound_to_certificate
        self._transport = Transport(url, ca_file=ca_file, show=identity.show)
        self.issuer = self._transport.url
        self._nonce: str | None = None

    def open(
        self,
        mandate: str,
        *,
        parameters: Mapping[str, str] = NOTHING,
        purpose: str = "",
        tools: Sequence[str] = (),
        effects: Sequence[str] = (),
        request: str = "",
        signed_request: str = "",
        user_token: str = "",
        user_grant: str = "",
        lifetime_s: int | None = None,
        key: SigningKey | None = None,
    ) -> Held:
        """Open a task.

        Args:
            mandate: the reviewed template.
            parameters: its parameters.
            purpose: what the task is for, in the agent's words.
            tools: patterns, where less than the mandate's will do.
            effects: likewise.
            request: what the user asked, in the agent's words, which vouch for nothing.
            signed_request: the same, as a front end signed it.
            user_token: the ID token of the user that it is for.
            user_grant: an ID-JAG in its place.
            lifetime_s: seconds, where less than the mandate's will do.
            key: to hold the grant with; made where there is none.

        Raises:
            TaskRefused: it was decided, and refused.
            Unavailable: nothing is known about what became of it.
        """
        said: dict[str, Json] = {"purpose": purpose, "tools": list(tools), "effects": list(effects)}
        said |= {"request": request, "signed_request": signed_request}
        detail = {"type": TASK, "mandate": mandate, **{name: value for name, value in said.items() if value}}
        if parameters:
            detail["parameters"] = dict(parameters)
        if lifetime_s is not None:
            detail["expires_in_s"] = lifetime_s
        form = {"grant_type": "client_credentials"}
        if user_grant:
            form = {"grant_type": ASSERTED, "assertion": user_grant}
        elif user_token:
            form = {"grant_type": EXCHANGE, "subject_token": user_token, "subject_token_type": ID_TOKEN}
        return self._token({**form, "authorization_details": _json([detail])}, self._new(key))

    def delegate(self, held: Held, *, to: str, **narrower: Json) -> Ticket:
        """A ticket for another agent. `narrower`: `tools`, `effects`, `resources`, `confidentiality`, `expires_at`,
        `budget`, `per_call` and `max_depth`; what is not said is as in the task above. Raises as `open`.
        """
        form = {
            "grant_type": EXCHANGE,
            "subject_token": held.token,
            "subject_token_type": ACCESS_TOKEN,
            "requested_token_type": TICKET,
            "authorization_details": _json([{"type": DELEGATION, "to": to, **narrower}]),
        }
        said = self._post("/token", form, held.key)
        return Ticket(_text(said, "access_token"), int(said.get("expires_in", 0)))

    def accept(self, ticket: Ticket | str, *, key: SigningKey | None = None) -> Held:
        """The grant for a ticket that names this agent. Raises as `open`."""
        token = ticket if isinstance(ticket, str) else ticket.token
        form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": TICKET}
        return self._token(form, self._new(key))

    def extend(self, held: Held, *, expires_at: int) -> Held:
        """The same task, for longer. `expires_at`: milliseconds since the epoch. Raises as `open`."""
        form = {
            "grant_type": EXCHANGE,
            "subject_token": held.token,
            "subject_token_type": ACCESS_TOKEN,
            "authorization_details": _json([{"type": TASK, "expires_at": expires_at}]),
        }
        return self._token(form, held.key)

    def complete(self, held: Held, *, failed: bool = False) -> None:
        """End the task and all below it. One that is over already is no error. Raises as `open`."""
        self._post("/revoke", {"token": held.token, **({"outcome": "failed"} if failed else {})}, held.key)

    def introspect(self, token: str) -> Mapping[str, Any]:
        """Does a grant count now, and what does it say? `active` is always there. Raises as `open`."""
        return self._post("/introspect", {"token": token}, self._new(None))

    # -- inside

    def _new(self, key: SigningKey | None) -> SigningKey | None:
        return None if self._certificate else key or new_key()

    def _token(self, form: Mapping[str, str], key: SigningKey | None) -> Held:
        return Held(_text(self._post("/token", form, key), "access_token"), key)

    def _post(self, path: str, form: Mapping[str, str], key: SigningKey | None) -> Mapping[str, Any]:
        """Where the decision point asks for a nonce, once more with it (RFC 9449, 8)."""
        said = self._ask(path, form, key)
        if said.get("error") == "use_dpop_nonce" and key is not None and self._nonce is not None:
            said = self._ask(path, form, key)
        if "error" in said:
            raise TaskRefused(said)
        return said

    def _ask(self, path: str, form: Mapping[str, str], key: SigningKey | None) -> dict[str, Any]:
        now = self._now()
        headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
        if key is not None:
            jti = secrets.token_urlsafe(24)
            headers["DPoP"] = make_proof(
                key, method="POST", url=self.issuer + path, now=now, jti=jti, access_token=None, nonce=self._nonce
            )
        body = urlencode({**self._identity.parameters(self.issuer, now), **form}).encode()
        answer = self._transport.post(path, body, headers)
        self._nonce = answer.headers.get("dpop-nonce", self._nonce)
        return _read(answer)


def _read(answer: Answer) -> dict[str, Any]:
    try:
        said = parse(answer.body, max_bytes=len(answer.body))
    except InvalidInput:
        said = None
    if not isinstance(said, dict) or (answer.status != 200) is not ("error" in said):
        raise Unavailable(f"The decision point answered with status {answer.status}, and nothing that can be read.")
    if answer.status >= 500:
        raise Unavailable("The decision point cannot decide just now; try again.")
    return said


def _text(said: Mapping[str, Any], name: str) -> str:
    value = said.get(name)
    if not isinstance(value, str) or not value:
        raise Unavailable(f"The decision point answered without `{name}`.")
    return value


def _json(value: Json) -> str:
    return canonical(value).decode()
