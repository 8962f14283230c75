"""GitHub Actions, by the token of a job.

A repository's name can be given up and taken by somebody else; its number cannot. So workloads are told apart by
`repository_id` and `repository_owner_id`. The subject comes in two shapes, with names alone, and since July 2026 with
numbers beside them (`repo:octocat@123456/my-repo@456789:...`): both are read, and have to agree with the claims.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forestall.proof.claims import text
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.workload import Found, Match, facts, only

ISSUER = "https://token.actions.githubusercontent.com"

REQUIRED = frozenset({"repository_id", "repository_owner_id", "event_name"})
"""What every rule has to say. An event such as `pull_request_target` runs what a stranger wrote."""

RECORDED = (
    *("actor", "actor_id", "environment", "event_name", "job_workflow_ref", "job_workflow_sha", "ref", "ref_type"),
    *("repository", "repository_id", "repository_owner", "repository_owner_id", "repository_visibility"),
    *("run_attempt", "run_id", "runner_environment", "sha", "workflow_ref", "workflow_sha"),
)

_SUBJECT = re.compile(r"repo:([A-Za-z0-9._-]+)(?:@([0-9]+))?/([A-Za-z0-9._-]+)(?:@([0-9]+))?:(.+)")


@dataclass(frozen=True, slots=True)
class Workflows:
    """Workflows that an operator listed. Each rule asks for at least what `REQUIRED` names.

    Further claims that tell jobs apart: `workflow_ref` (file and ref), `job_workflow_ref` (a reusable workflow's),
    `environment`, `ref`, `runner_environment`.
    """

    workloads: tuple[Match, ...]

    def __post_init__(self) -> None:
        if not self.workloads or not all(set(each.equal) >= REQUIRED for each in self.workloads):
            raise ValueError(f"each workflow is told by {', '.join(sorted(REQUIRED))} at least")

    def find(self, claims: Mapping[str, Any]) -> Found:
        _check_subject(claims)
        match = only([each for each in self.workloads if each.fits(claims)])
        return Found(match.path, facts(claims, list(RECORDED)))


def _check_subject(claims: Mapping[str, Any]) -> None:
    """The subject says the same as the claims that the rules look at. Raises InvalidProof: WRONG_SUBJECT."""
    subject = _SUBJECT.fullmatch(text(claims, "sub"))
    if subject is None:
        raise InvalidProof(Fault.WRONG_SUBJECT, "the subject has neither of the two shapes")
    owner, owner_id, name, repository_id, context = subject.groups()
    if (owner_id is None) != (repository_id is None):
        raise InvalidProof(Fault.WRONG_SUBJECT, "the subject has one number of two")
    numbers = (text(claims, "repository_owner_id"), text(claims, "repository_id"))
    agree = (
        text(claims, "repository") == f"{owner}/{name}"
        and text(claims, "repository_owner") == owner
        and (owner_id is None or (owner_id, repository_id) == numbers)
    )
    if not agree or not _agrees(context, claims):
        raise InvalidProof(Fault.WRONG_SUBJECT, "the subject and the claims name two jobs")


def _agrees(context: str, claims: Mapping[str, Any]) -> bool:
    kind, _, value = context.partition(":")
    if kind == "environment":
        return claims.get("environment") == value.replace("%3A", ":")  # a colon would end the part, and is escaped
    if kind == "ref":
        return claims.get("ref") == value
    return context == "pull_request" and str(claims.get("event_name")).startswith("pull_request")
