"""Ask a Kubernetes cluster whether a token still counts (TokenReview, authentication.k8s.io/v1).

A projected token verifies until it expires, whatever became of its pod. The cluster knows better, and is asked with
our own audience, so that a token for anybody else is refused there as well.
"""

from __future__ import annotations

from typing import Any

from forestall.adapter.oidc.keys import MAX_ROOTS
from forestall.adapter.oidc.token_file import read_small, read_token
from forestall.adapter.oidc.web import Fetch, Request
from forestall.core.canonical import canonical, parse
from forestall.core.errors import InvalidInput, Unavailable
from forestall.identities import Reviewer
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.oidc import Workload

PATH = "/apis/authentication.k8s.io/v1/tokenreviews"

API_VERSION, KIND = "authentication.k8s.io/v1", "TokenReview"

MAX_REVIEW = 65_536
"""Bytes of an answer; it repeats the token, and says a little more."""

EXTRA = "authentication.kubernetes.io/"
"""Before the names of what the cluster says of the token's pod and node."""


def review(token: str, workload: Workload, reviewer: Reviewer, *, audience: str, fetch: Fetch) -> Workload:
    """The workload, where the cluster says that its token still counts.

    Args:
        token: verified already, so that nobody makes us ask about anything else.
        workload: what it came to.
        reviewer: where to ask, and as whom.
        audience: ours.
        fetch: blocks.

    Raises:
        InvalidProof: REVOKED; WRONG_AUDIENCE; WRONG_SUBJECT, where the cluster calls it another's; MALFORMED.
        Unavailable: the cluster did not say.
    """
    question = {"apiVersion": API_VERSION, "kind": KIND, "spec": {"token": token, "audiences": [audience]}}
    roots = None if reviewer.ca_file is None else _text(read_small(reviewer.ca_file, MAX_ROOTS))
    request = Request(
        reviewer.api.removesuffix("/") + PATH,
        MAX_REVIEW,
        reviewer.loopback,
        roots,
        read_token(reviewer.token_file),
        canonical(question),
    )
    try:
        answer = fetch(request)
    except Unavailable as error:
        raise Unavailable(
            f"The cluster was not heard about a token (it needs system:auth-delegator). {error}"
        ) from None
    require_live(answer, workload, audience=audience)
    return workload


def require_live(answer: bytes, workload: Workload, *, audience: str) -> None:
    """What the cluster answered, where it says that this workload's token still counts. Raises as `review`."""
    status = _object(_parse(answer), "status")
    if status.get("authenticated") is not True or status.get("error"):
        raise InvalidProof(Fault.REVOKED, "the cluster does not take the token any more")
    audiences = status.get("audiences")
    # an answer without any is of a server that does not know audiences, and looked at none
    if not isinstance(audiences, list) or audience not in audiences:
        raise InvalidProof(Fault.WRONG_AUDIENCE, "the cluster did not find our audience in the token")
    user = _object(status, "user")
    extra = user.get("extra", {})
    if not isinstance(extra, dict):
        raise InvalidProof(Fault.MALFORMED, "`extra` is not an object")
    same = user.get("username") == workload.subject and user.get("uid") == workload.facts.get("serviceaccount_uid")
    for kind in ("pod-name", "pod-uid"):
        known = workload.facts.get(kind.replace("-", "_").removesuffix("_name"))
        same = same and extra.get(EXTRA + kind) == (None if known is None else [known])
    if not same:
        raise InvalidProof(Fault.WRONG_SUBJECT, "the cluster and the token name two workloads")


def _parse(answer: bytes) -> dict[str, Any]:
    try:
        document = parse(answer, max_bytes=MAX_REVIEW)
    except InvalidInput:
        raise InvalidProof(Fault.MALFORMED, "the cluster's answer is not JSON with one meaning") from None
    if not isinstance(document, dict) or (document.get("apiVersion"), document.get("kind")) != (API_VERSION, KIND):
        raise InvalidProof(Fault.MALFORMED, "the cluster's answer is no review")
    return document


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    member = value.get(name)
    if not isinstance(member, dict):
        raise InvalidProof(Fault.MALFORMED, f"`{name}` is missing from the cluster's answer")
    return member


def _text(data: bytes) -> str:
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise Unavailable("The cluster's authorities are not certificates in PEM; look at their file.") from None
