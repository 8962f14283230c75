"""Who acts for whom (RFC 8693, 4.1): the chain of actors in a token's `act` claim.

The outermost actor is the one that acts now, and the only one that authorization may look at; those inside are history,
for the record. An actor is the pair of its issuer and its subject: a subject alone is anybody's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

from forestall.core.grant import MAX_DEPTH
from forestall.proof.claims import optional_text, require_members, text
from forestall.proof.fault import Fault, InvalidProof

MAX_ACTORS = MAX_DEPTH + 1
"""The agent that opened the task, and one for each hop."""

REQUIRED, OPTIONAL = frozenset({"iss", "sub"}), frozenset({"sub_profile", "act"})


@dataclass(frozen=True, slots=True)
class Actor:
    issuer: str
    subject: str
    profile: str | None = None
    """What kind it is (`ai_agent`, `service`, `user`): said by the issuer, and no part of who it is."""

    @property
    def pair(self) -> tuple[str, str]:
        return self.issuer, self.subject

    def to_json(self) -> dict[str, Any]:
        members: dict[str, Any] = {"iss": self.issuer, "sub": self.subject}
        return members if self.profile is None else {**members, "sub_profile": self.profile}


@dataclass(frozen=True, slots=True)
class ActorChain:
    """At least one actor, no two the same, the current one first. Made by `start`, `extend` and `parse_act`."""

    actors: tuple[Actor, ...]

    def __post_init__(self) -> None:
        if not self.actors:
            raise InvalidProof(Fault.MALFORMED, "a chain without an actor")
        if len(self.actors) > MAX_ACTORS:
            raise InvalidProof(Fault.TOO_DEEP)
        if len({actor.pair for actor in self.actors}) != len(self.actors):
            raise InvalidProof(Fault.CYCLE)

    @classmethod
    def start(cls, actor: Actor) -> Self:
        return cls((actor,))

    @property
    def current(self) -> Actor:
        """The one that acts: the only one that may be asked about."""
        return self.actors[0]

    @property
    def history(self) -> tuple[Actor, ...]:
        """Those it acts for, the nearest first. Evidence, never authority."""
        return self.actors[1:]

    def extend(self, actor: Actor) -> ActorChain:
        """The chain after one more hop, `actor` being the current one.

        Raises:
            InvalidProof: TOO_DEEP; CYCLE, where the actor is in the chain already.
        """
        return ActorChain((actor, *self.actors))

    def to_json(self) -> dict[str, Any]:
        """The `act` claim."""
        act: dict[str, Any] = {}
        for actor in reversed(self.actors):
            act = {**actor.to_json(), "act": act} if act else actor.to_json()
        return act


def parse_act(value: object) -> ActorChain:
    """The chain in an `act` claim.

    Raises:
        InvalidProof: MALFORMED, where an actor has no issuer, no subject, or a member that has no meaning here;
            TOO_DEEP; CYCLE.
    """
    actors: list[Actor] = []
    while True:
        if not isinstance(value, dict):
            raise InvalidProof(Fault.MALFORMED, "an actor is not an object")
        if len(actors) == MAX_ACTORS:
            raise InvalidProof(Fault.TOO_DEEP)
        require_members(value, required=REQUIRED, optional=OPTIONAL)
        actors.append(Actor(text(value, "iss"), text(value, "sub"), optional_text(value, "sub_profile", longest=64)))
        if "act" not in value:
            return ActorChain(tuple(actors))
        value = value["act"]
