"""A job is told by its repository's number, which nobody else can take, in both shapes of the subject."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault
from forestall.proof.github import ISSUER, REQUIRED, Workflows
from forestall.proof.oidc import Issuer, Workload, verify_workload
from forestall.proof.workload import Match
from tests.tokens import NOW, SECONDS, key, keys, refused, token, without

SIGNER = key(Algorithm.RS256)
TOLD = {
    "repository_id": "456789",
    "repository_owner_id": "123456",
    "event_name": "push",
    "workflow_ref": "octocat/my-repo/.github/workflows/deploy.yml@refs/heads/main",
}
GITHUB = Issuer(
    issuer=ISSUER,
    audience="https://forestall.example",
    algorithms=frozenset({Algorithm.RS256}),
    trust_domain="example.org",
    rule=Workflows((Match("/ci/deploy", TOLD),)),
    max_life_ms=3_600_000,
)
CLAIMS: dict[str, Any] = {
    **TOLD,
    "iss": ISSUER,
    "aud": GITHUB.audience,
    "sub": "repo:octocat/my-repo:ref:refs/heads/main",
    "iat": SECONDS,
    "nbf": SECONDS - 300,
    "exp": SECONDS + 300,
    "jti": "j",
    "repository": "octocat/my-repo",
    "repository_owner": "octocat",
    "ref": "refs/heads/main",
    "sha": "a" * 40,
    "actor": "octocat",
    "run_id": "1",
}
NUMBERED = "repo:octocat@123456/my-repo@456789:ref:refs/heads/main"


def check(claims: dict[str, Any], *rules: Match) -> Workload:
    issuer = replace(GITHUB, rule=Workflows(rules)) if rules else GITHUB
    return verify_workload(token(claims, SIGNER, x5t="AA"), keys(SIGNER), issuer, now=NOW)


@pytest.mark.parametrize("subject", [CLAIMS["sub"], NUMBERED])
def test_both_shapes_of_the_subject_are_the_same_job(subject: str) -> None:
    found = check({**CLAIMS, "sub": subject})
    assert str(found.id) == "spiffe://example.org/ci/deploy"
    assert found.subject == subject
    assert {name: found.facts[name] for name in ("repository_id", "sha", "run_id", "actor")} == {
        "repository_id": "456789",
        "sha": "a" * 40,
        "run_id": "1",
        "actor": "octocat",
    }


@pytest.mark.parametrize("subject", [CLAIMS["sub"], NUMBERED])
@pytest.mark.parametrize("name", sorted(TOLD))
def test_another_repository_of_the_same_name_is_another(name: str, subject: str) -> None:
    with refused(Fault.WRONG_SUBJECT):
        check({**CLAIMS, "sub": subject, name: "9"})


@pytest.mark.parametrize(
    "subject",
    [
        "repo:octocat@9/my-repo@456789:ref:refs/heads/main",
        "repo:octocat@123456/my-repo@9:ref:refs/heads/main",
        "repo:octocat@123456/my-repo:ref:refs/heads/main",
        "repo:octocat/my-repo@456789:ref:refs/heads/main",
        "repo:octocat@/my-repo@:ref:refs/heads/main",
        "repo:other/my-repo:ref:refs/heads/main",
        "repo:octocat/other:ref:refs/heads/main",
        "repo:octocat/my-repo/other:ref:refs/heads/main",
        "repo:octocat/my-repo:ref:refs/heads/other",
        "repo:octocat/my-repo:ref:",
        "repo:octocat/my-repo:pull_request",
        "repo:octocat/my-repo:environment:production",
        "repo:octocat/my-repo:anything",
        "repo:octocat/my-repo:",
        "repo:octocat/my-repo",
        "repository_owner_id:123456:repository_id:456789",
        "repo:octocat/my-repo:ref:refs/heads/main\n",
        "x",
    ],
)
def test_a_subject_that_names_another_job_than_the_claims_is_refused(subject: str) -> None:
    with refused(Fault.WRONG_SUBJECT):
        check({**CLAIMS, "sub": subject})


@pytest.mark.parametrize("environment", ["production", "a:b"])
def test_an_environment_is_in_the_subject_and_in_a_claim(environment: str) -> None:
    rule = Match("/ci/deploy", {**TOLD, "environment": environment})
    subject = f"repo:octocat/my-repo:environment:{environment.replace(':', '%3A')}"
    claims = {**CLAIMS, "sub": subject, "environment": environment}
    assert str(check(claims, rule).id) == "spiffe://example.org/ci/deploy"
    for changed in (without(claims, "environment"), {**claims, "environment": "other"}, {**claims, "environment": ""}):
        with refused(Fault.WRONG_SUBJECT):
            check(changed, rule)


def test_a_pull_request_counts_only_for_a_rule_about_it() -> None:
    claims = {
        **CLAIMS,
        "sub": "repo:octocat/my-repo:pull_request",
        "event_name": "pull_request",
        "ref": "refs/pull/1/merge",
    }
    with refused(Fault.WRONG_SUBJECT):
        check(claims)
    asked = Match("/ci/test", {**TOLD, "event_name": "pull_request"})
    assert str(check(claims, asked).id) == "spiffe://example.org/ci/test"
    with refused(Fault.WRONG_SUBJECT):
        check({**claims, "event_name": "pull_request_target"}, asked)


def test_two_rules_that_fit_are_none() -> None:
    wider = Match("/ci/other", {name: TOLD[name] for name in REQUIRED})
    assert str(check(CLAIMS, wider).id) == "spiffe://example.org/ci/other"
    with refused(Fault.WRONG_SUBJECT):
        check(CLAIMS, wider, Match("/ci/deploy", TOLD))


@pytest.mark.parametrize("name", sorted(REQUIRED))
def test_a_rule_without_the_numbers_or_the_event_cannot_be_made(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Workflows((Match("/ci/deploy", TOLD), Match("/ci/other", without(TOLD, name))))


def test_there_is_no_list_of_nothing() -> None:
    with pytest.raises(ValueError, match="each workflow"):
        Workflows(())


@pytest.mark.parametrize("name", ["sub", "repository", "repository_owner", "repository_id", "repository_owner_id"])
def test_a_token_without_a_claim_is_malformed(name: str) -> None:
    with refused(Fault.MALFORMED):
        check(without(CLAIMS, name))


def test_the_default_audience_is_not_ours() -> None:
    with refused(Fault.WRONG_AUDIENCE):
        check({**CLAIMS, "aud": "https://github.com/octocat"})
