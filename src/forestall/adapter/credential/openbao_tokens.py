"""The child tokens that leases hang on: made as asked, found by their metadata, ended and seen to have ended."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from forestall.adapter.credential.openbao_api import Said, Server, accessor_of, listed, token_of
from forestall.core.model import Json

NAME, LEASES = "forestall_lease", "forestall_leases"
"""Of a token's metadata: the lease's name, and where its secrets are, a path a word."""

PAUSE_S = 0.05
"""Between two looks at whether something has ended."""

LOOKS = 20
"""At a token that was revoked. One that was ending already, as of one whose uses are used up, ends while we look."""

NOBODYS = "forestall-asks-for-nobody"
"""An accessor that no token has. Of one whose token is half made, or half gone, a server says that we may not ask, as
it does to those who may not; but they may not ask for this one either.
"""


@dataclass(frozen=True, slots=True)
class Child:
    token: str = field(repr=False)
    accessor: str
    seconds: int


class Tokens:
    """The tokens of one token role, as their metadata tells them. What that says of one never changes, so each is
    looked up once: where the time is too short for all, the next call goes on.
    """

    def __init__(self, server: Server, path: str, pause: Callable[[float], None]) -> None:
        self._server, self._path, self._pause = server, path, pause
        self._lock = threading.Lock()
        self._seen: dict[str, tuple[str, tuple[str, ...]]] = {}

    def named(self, name: str, until: float) -> Mapping[str, tuple[str, ...]]:
        """Accessors of this lease's tokens, with the paths of their secrets."""
        return {each: paths for each, (given, paths) in self._all(until).items() if given == name}

    def names(self, until: float) -> frozenset[str]:
        return frozenset(given for given, _ in self._all(until).values() if given)

    def end(self, accessor: str, until: float) -> None:
        """Revoke it, unless it has ended, and see that it has."""
        body = {"accessor": accessor}
        said = self._server.ask("POST", "auth/token/revoke-accessor", until=until, body=body)
        if not said.gone:
            said.require("revoke a token")
        for _ in range(LOOKS):
            if self._look_up(accessor, until) is None:
                return
            self._pause(PAUSE_S)
        raise said.odd("the token that it said it had revoked")

    def _all(self, until: float) -> Mapping[str, tuple[str, tuple[str, ...]]]:
        said = self._server.ask("LIST", "auth/token/accessors", until=until)
        listed_now = listed(said, "list tokens")
        with self._lock:
            self._seen = {each: self._seen[each] for each in listed_now if each in self._seen}
            found = dict(self._seen)
        for each in listed_now:
            if each in found:
                continue
            token = self._look_up(each, until)
            if token is not None:
                found[each] = self._told(token)
                with self._lock:
                    self._seen[each] = found[each]
        return found

    def _look_up(self, accessor: str, until: float) -> Mapping[str, Json] | None:
        """None: there is none any more."""
        said = self._ask_of(accessor, until)
        if said.gone or (said.status == HTTPStatus.FORBIDDEN and self._ask_of(NOBODYS, until).gone):
            return None
        return said.require("look up a token").part("data")

    def _ask_of(self, accessor: str, until: float) -> Said:
        return self._server.ask("POST", "auth/token/lookup-accessor", until=until, body={"accessor": accessor})

    def _told(self, token: Mapping[str, Json]) -> tuple[str, tuple[str, ...]]:
        """The name and the paths; of a token that is not of our role, none."""
        path, meta = token.get("path"), token.get("meta")
        if not isinstance(path, str) or not f"{path}/".startswith(f"{self._path}/") or not isinstance(meta, dict):
            return "", ()
        name, paths = meta.get(NAME), meta.get(LEASES)
        if not isinstance(name, str) or not isinstance(paths, str):
            return "", ()
        return name, tuple(paths.split())


def child_of(said: Said, asked: Mapping[str, Any], seconds: int) -> Child:
    """What was made, where it is what was asked for: nothing less could be ended, nothing more may be given out."""
    auth = said.part("auth")
    right = (
        auth.get("token_type") == "service"
        and auth.get("orphan") is True
        and auth.get("policies") == asked["policies"]
        and not auth.get("identity_policies")
        and auth.get("metadata") == asked["meta"]
        and (not asked["num_uses"] or auth.get("num_uses") == asked["num_uses"])
    )
    if not right:
        raise said.odd(
            "another token than was asked for; its token role has `orphan=true`, `token_type=service`, the policies of "
            "the class in `allowed_policies`, and no `token_num_uses`"
        )
    return Child(token_of(said, auth), accessor_of(said, auth), bounded(said, auth, seconds))


def bounded(said: Said, part: Mapping[str, Json], seconds: int) -> int:
    granted = said.seconds(part)
    if not 0 < granted <= seconds:
        raise said.odd("a longer life than was asked for, or none; see that the role has no period, and renewals")
    return granted
