"""A projected token is one service account's of one cluster, and never one that the cluster itself would take."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault
from forestall.proof.kubernetes import API_SERVER, ServiceAccounts
from forestall.proof.oidc import Issuer, Workload, verify_workload
from tests.tokens import NOW, SECONDS, key, keys, refused, token, without

SIGNER = key(Algorithm.RS256)
CLUSTER = Issuer(
    issuer="https://kubernetes.default.svc.cluster.local",
    audience="forestall",
    algorithms=frozenset({Algorithm.RS256}),
    trust_domain="example.org",
    rule=ServiceAccounts(),
    max_life_ms=24 * 3_600_000,
)
BOUND: dict[str, Any] = {
    "namespace": "shop",
    "serviceaccount": {"name": "billing-agent", "uid": "11111111-1111-4111-8111-111111111111"},
    "pod": {"name": "billing-agent-7d9f", "uid": "22222222-2222-4222-8222-222222222222"},
    "node": {"name": "node-1", "uid": "33333333-3333-4333-8333-333333333333"},
}
CLAIMS: dict[str, Any] = {
    "iss": CLUSTER.issuer,
    "sub": "system:serviceaccount:shop:billing-agent",
    "aud": ["forestall"],
    "iat": SECONDS,
    "nbf": SECONDS,
    "exp": SECONDS + 3607,
    "jti": "44444444-4444-4444-8444-444444444444",
    "kubernetes.io": BOUND,
}


def check(claims: dict[str, Any], issuer: Issuer = CLUSTER) -> Workload:
    return verify_workload(token(claims, SIGNER, typ=None), keys(SIGNER), issuer, now=NOW)


def test_a_projected_token_is_its_service_accounts() -> None:
    found = check(CLAIMS)
    assert str(found.id) == "spiffe://example.org/ns/shop/sa/billing-agent"
    assert found.facts == {
        "namespace": "shop",
        "serviceaccount": "billing-agent",
        "serviceaccount_uid": BOUND["serviceaccount"]["uid"],
        "pod": "billing-agent-7d9f",
        "pod_uid": BOUND["pod"]["uid"],
        "node": "node-1",
        "node_uid": BOUND["node"]["uid"],
    }


def test_a_token_that_is_bound_to_no_pod_has_no_pod() -> None:
    found = check({**CLAIMS, "kubernetes.io": without(BOUND, "pod", "node")})
    assert set(found.facts) == {"namespace", "serviceaccount", "serviceaccount_uid"}


def test_a_cluster_has_a_place_of_its_own() -> None:
    one, other = (check(CLAIMS, replace(CLUSTER, rule=ServiceAccounts(f"/k8s/{name}"))) for name in ("one", "other"))
    assert str(one.id) == "spiffe://example.org/k8s/one/ns/shop/sa/billing-agent"
    assert one.id != other.id
    with pytest.raises(ValueError, match="path"):
        ServiceAccounts("k8s")


@pytest.mark.parametrize("audience", sorted(API_SERVER | {CLUSTER.issuer}))
def test_a_token_for_the_api_server_is_refused_whoever_else_it_is_for(audience: str) -> None:
    for aud in (audience, [audience], ["forestall", audience]):
        with refused(Fault.WRONG_AUDIENCE):
            check({**CLAIMS, "aud": aud})


@pytest.mark.parametrize(
    "subject",
    [
        "billing-agent",
        "system:serviceaccount:shop",
        "system:serviceaccount:shop:",
        "system:serviceaccount::billing-agent",
        "system:serviceaccount:shop:billing-agent:x",
        "system:serviceaccount:shop:billing-agent\n",
        "system:serviceaccount:shop:Billing-agent",
        "system:serviceaccount:shop/x:billing-agent",
        "system:node:node-1",
        "system:serviceaccount:shop:other",
        "system:serviceaccount:other:billing-agent",
        "system:serviceaccount:shop:..",
    ],
)
def test_a_subject_is_the_account_that_the_claim_names(subject: str) -> None:
    with refused(Fault.WRONG_SUBJECT):
        check({**CLAIMS, "sub": subject})


def test_a_name_that_is_no_segment_is_no_workload() -> None:
    named = {**BOUND, "serviceaccount": {"name": "..", "uid": "u"}}
    with refused(Fault.WRONG_SUBJECT):
        check({**CLAIMS, "sub": "system:serviceaccount:shop:..", "kubernetes.io": named})


@pytest.mark.parametrize(
    "bound",
    [None, {}, [], "shop", without(BOUND, "namespace"), without(BOUND, "serviceaccount"), {**BOUND, "pod": "p"}],
)
def test_a_token_that_is_not_projected_is_refused(bound: Any) -> None:
    with refused(Fault.WRONG_SUBJECT):
        check({**CLAIMS, "kubernetes.io": bound})


def test_an_old_token_of_a_secret_is_refused() -> None:
    """It has no end, and neither an audience nor the claim."""
    old = {
        "iss": "kubernetes/serviceaccount",
        "sub": CLAIMS["sub"],
        "kubernetes.io/serviceaccount/namespace": "shop",
        "kubernetes.io/serviceaccount/service-account.name": "billing-agent",
    }
    with refused(Fault.WRONG_ISSUER):
        check(old)
    with refused(Fault.MALFORMED):
        check({**old, "iss": CLUSTER.issuer})


def test_a_namespace_that_does_not_count_is_refused() -> None:
    only = replace(CLUSTER, rule=ServiceAccounts(namespaces=frozenset({"other"})))
    with refused(Fault.WRONG_SUBJECT):
        check(CLAIMS, only)
    with refused(Fault.WRONG_SUBJECT):
        check(CLAIMS, replace(CLUSTER, rule=ServiceAccounts(namespaces=frozenset())))
    assert check(CLAIMS, replace(CLUSTER, rule=ServiceAccounts(namespaces=frozenset({"shop"})))) == check(CLAIMS)
