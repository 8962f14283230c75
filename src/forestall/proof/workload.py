"""What the tokens of an issuer come to: a workload of one trust domain, by rules that an operator wrote."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from forestall.proof.claims import MAX_TEXT
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.spiffe_id import SpiffeId, parse_workload_id


@dataclass(frozen=True, slots=True)
class Found:
    """Which workload it is, within the trust domain, and what else the token vouches for."""

    path: str
    """Of the workload's SPIFFE ID, from `/` on."""
    facts: Mapping[str, str]
    """For policy and the record, by claim."""


class Rule(Protocol):
    """How one issuer's claims come to a workload."""

    def find(self, claims: Mapping[str, Any]) -> Found:
        """Raises InvalidProof: WRONG_SUBJECT, where no rule fits or more than one does."""
        ...


def workload_id(trust_domain: str, path: str) -> SpiffeId:
    """The id of a workload that a token was mapped to. Raises InvalidProof: WRONG_SUBJECT, where it spells none."""
    try:
        return parse_workload_id(f"spiffe://{trust_domain}{path}")
    except InvalidProof:
        raise InvalidProof(Fault.WRONG_SUBJECT, "what the token names has no place in a SPIFFE ID") from None


def require_path(path: str) -> str:
    """`path`, where a rule may name it as a workload's. Raises ValueError."""
    try:
        workload_id("example.org", path)
    except InvalidProof:
        raise ValueError("a workload's path begins with `/`, and has segments of a-z A-Z 0-9 . - _") from None
    return path


@dataclass(frozen=True, slots=True)
class Match:
    """One workload, by claims that have to be there and have exactly these values."""

    path: str
    equal: Mapping[str, str]
    """By name of a claim that is a string. Never empty: a rule that asks for nothing is everybody's."""

    def __post_init__(self) -> None:
        require_path(self.path)
        if not self.equal or not all(self.equal.values()):
            raise ValueError("a rule that asks for nothing")

    def fits(self, claims: Mapping[str, Any]) -> bool:
        return all(isinstance(claims.get(name), str) and claims[name] == value for name, value in self.equal.items())


@dataclass(frozen=True, slots=True)
class Listed:
    """Any issuer: workloads that an operator listed, each by its claims."""

    workloads: tuple[Match, ...]

    def __post_init__(self) -> None:
        if not self.workloads:
            raise ValueError("a list of no workloads")

    def find(self, claims: Mapping[str, Any]) -> Found:
        match = only([each for each in self.workloads if each.fits(claims)])
        return Found(match.path, facts(claims, sorted(match.equal)))


def only(found: list[Match]) -> Match:
    """The one that fits. Two are a mistake in the rules, and which of them was meant is not ours to guess."""
    if len(found) != 1:
        raise InvalidProof(Fault.WRONG_SUBJECT, "more than one rule fits" if found else "no rule fits")
    return found[0]


def facts(claims: Mapping[str, Any], names: list[str]) -> dict[str, str]:
    """Those of the claims that are strings, and not too long to keep."""
    return {name: value for name in names if isinstance(value := claims.get(name), str) and 0 < len(value) <= MAX_TEXT}
