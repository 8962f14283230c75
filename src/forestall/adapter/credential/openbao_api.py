"""One request to an OpenBao or Vault server, and an answer that was understood.

Nothing that a server said is ever shown: an error of it can quote what it was sent. What it said is known by its
status, and where a status has several meanings by the few sentences that both servers have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

from forestall.adapter.credential.http import Ask, Trust, Web, path, unavailable
from forestall.core.ask import CannotDo
from forestall.core.model import NOTHING, Json
from forestall.core.reason import Reason

MAX_BYTES = 1_048_576
"""Of an answer. The largest is the list of all tokens: some forty thousand of them."""

MAX_LEASE_ID = 512
"""Characters. Servers make the path and 24 more."""

_TOKEN = re.compile(r"[!-~]{1,4096}")
_ACCESSOR = re.compile(r"[A-Za-z0-9_.-]{8,128}")
_LEASE_ID = re.compile(r"[A-Za-z0-9_./@-]+")
_GONE = re.compile(r"(1 error occurred:\s*\* )?(invalid accessor|token not found|invalid lease|lease not found)\s*")
_SEALED = re.compile(r"(Vault|OpenBao) is sealed")

_SENTENCES: Mapping[int, str] = {
    400: "did not take a request; look at the paths and roles of the class, and at the server's log",
    403: "does not permit it; look at the policy of Forestall's own token, and that it is still valid",
    404: "has nothing there; look at the paths and roles of the class",
    405: "has nothing there that is asked so; look at the paths of the class",
    429: "has too much to do, or stands by; name the active server",
    472: "is a replica for disasters; name the active server",
    473: "stands by; name the active server",
    503: "cannot work; see that its storage and what it makes credentials at are up",
}


@dataclass(frozen=True, slots=True)
class Site:
    """Which server, and what of it."""

    address: str
    """https; http on this machine alone."""
    namespace: str = ""
    trust: Trust = field(default_factory=Trust)


class Keys(Protocol):
    """Forestall's own token there."""

    def token(self, until: float) -> str:
        """Raises CannotDo, in time."""
        ...

    def refused(self, token: str) -> bool:
        """The server did not take it. Is there another to try?"""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """An answer, whatever its status."""

    host: str
    status: int
    body: Mapping[str, Json] = field(default_factory=lambda: NOTHING, repr=False)

    @property
    def good(self) -> bool:
        return HTTPStatus.OK <= self.status < HTTPStatus.MULTIPLE_CHOICES

    @property
    def gone(self) -> bool:
        """What was asked for by its handle is not there, or not any more. Not: we may not know."""
        errors = self.body.get("errors")
        return not self.good and isinstance(errors, list) and len(errors) == 1 and _is(_GONE, errors[0])

    @property
    def sealed(self) -> bool:
        errors = self.body.get("errors")
        return isinstance(errors, list) and any(_is(_SEALED, each) for each in errors)

    def fail(self, doing: str) -> CannotDo:
        """To raise, as all of the following."""
        if self.sealed:
            return unavailable(f"{self.host} is sealed; unseal it.")
        if HTTPStatus.MULTIPLE_CHOICES <= self.status < HTTPStatus.BAD_REQUEST:
            return unavailable(f"{self.host} sends elsewhere; name the active server's own address.")
        sentence = _SENTENCES.get(self.status, "failed; look at its log")
        return unavailable(f"{self.host} was to {doing} and answered {self.status}: it {sentence}.")

    def odd(self, what: str) -> CannotDo:
        return unavailable(f"{self.host} answered with {what}.")

    def require(self, doing: str) -> Said:
        if not self.good:
            raise self.fail(doing)
        return self

    def part(self, name: str) -> Mapping[str, Json]:
        """`data` or `auth`."""
        found = self.body.get(name)
        if not isinstance(found, dict):
            raise self.odd(f"no `{name}`; see that its address and the paths of the class are right")
        return found

    def seconds(self, part: Mapping[str, Json], name: str = "lease_duration") -> int:
        found = part.get(name)
        if type(found) is not int or found < 0:
            raise self.odd(f"a `{name}` that is no number of seconds")
        return found


def _is(pattern: re.Pattern[str], said: object) -> bool:
    return isinstance(said, str) and len(said) <= 1024 and pattern.fullmatch(said) is not None


class Server:
    """From any thread. Within one broker's call all requests share `until`."""

    def __init__(self, site: Site, web: Web, keys: Keys, *, total_s: float) -> None:
        """`total_s`: what `web` was given."""
        self._site, self._web, self._keys, self._total_s = site, web, keys, total_s

    def until(self) -> float:
        return self._web.until()

    def is_late(self, until: float, seconds: float) -> bool:
        """Is it over within so many seconds?"""
        return self._web.until() + seconds >= until + self._total_s

    def ask(self, method: str, *segments: str, until: float, body: Json | None = None) -> Said:
        """As Forestall itself."""
        token = self._keys.token(until)
        said = self.ask_as(token, method, *segments, until=until, body=body)
        if said.status == HTTPStatus.FORBIDDEN and not said.gone and self._keys.refused(token):
            # a refused request did nothing, so it may be made again
            return self.ask_as(self._keys.token(until), method, *segments, until=until, body=body)
        return said

    def ask_as(self, token: str, method: str, *segments: str, until: float, body: Json | None = None) -> Said:
        return ask(self._web, self._site, method, *segments, token=token, until=until, body=body)

    def close(self) -> None:
        self._web.close()


def ask(
    web: Web, site: Site, method: str, *segments: str, token: str | None, until: float, body: Json | None = None
) -> Said:
    """`segments`: of the path behind `/v1/`, each with slashes of its own where it is a path. Raises CannotDo."""
    parts = [part for segment in segments for part in segment.split("/")]
    headers = {"X-Vault-Request": "true"}
    if token is not None:
        headers["X-Vault-Token"] = token
    if site.namespace:
        headers["X-Vault-Namespace"] = site.namespace
    try:
        url = path(site.address, "v1", *parts)
    except ValueError:
        raise CannotDo(Reason.INVALID_ARGUMENTS, "What the class asks for has a path that climbs or ends.") from None
    answer = web.ask(Ask(method, url, headers, json=body), until=until)
    if not answer.body:
        return Said(answer.host, answer.status)
    found = answer.json()
    if not isinstance(found, dict):
        raise unavailable(f"{answer.host} answered {answer.status} with JSON that is no object; look at the address.")
    return Said(answer.host, answer.status, found)


def token_of(said: Said, auth: Mapping[str, Json]) -> str:
    return _text(said, auth, "client_token", _TOKEN)


def accessor_of(said: Said, auth: Mapping[str, Json]) -> str:
    return _text(said, auth, "accessor", _ACCESSOR)


def lease_id_of(said: Said, location: str) -> str:
    """Of what was made at this path."""
    found = said.body.get("lease_id")
    if not isinstance(found, str) or len(found) > MAX_LEASE_ID or not _LEASE_ID.fullmatch(found):
        raise said.odd("a lease without an id")
    if not found.startswith(f"{location}/"):
        raise said.odd("the lease of another path")
    return found


def _text(said: Said, part: Mapping[str, Json], name: str, pattern: re.Pattern[str]) -> str:
    found = part.get(name)
    if not isinstance(found, str) or not pattern.fullmatch(found):
        raise said.odd(f"no `{name}` that can be one")
    return found


def listed(said: Said, doing: str) -> tuple[str, ...]:
    """The keys of a list. Of nothing, both servers say that it is not there."""
    if said.status == HTTPStatus.NOT_FOUND and said.body.get("errors") == []:
        return ()
    keys = said.require(doing).part("data").get("keys")
    if not isinstance(keys, list) or not all(isinstance(each, str) for each in keys):
        raise said.odd("a list that is none")
    return tuple(keys)
