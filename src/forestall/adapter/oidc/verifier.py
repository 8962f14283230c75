"""Who a token is of: the rules that an operator wrote, applied with keys that are the issuer's now.

The token chooses among the rules by its `iss`, and that is all it chooses. Each method here is a `Check`: hand it to
`check_blocking` or `check_on_loop`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from forestall.adapter.oidc.checking import Check
from forestall.adapter.oidc.claimed import claimed_issuer
from forestall.adapter.oidc.keys import IssuerKeys, Times
from forestall.adapter.oidc.review import review
from forestall.adapter.oidc.web import Fetch
from forestall.core.errors import Unavailable
from forestall.identities import Identities, WorkloadIssuer
from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.id_jag import GrantIssuer, IdentityGrant, verify_identity_grant
from forestall.proof.jwk import KeySet
from forestall.proof.oidc import Issuer, Workload, verify_workload
from forestall.proof.possession import Proof
from forestall.proof.user import User, UserIssuer, verify_user

REVIEWS = 4
"""Threads that ask clusters about tokens; each is within `web.TOTAL_S`."""

R = TypeVar("R")
T = TypeVar("T")


class Verifier:
    """Workloads, users and grants of the issuers in `identity.toml`."""

    def __init__(self, identities: Identities, *, fetch: Fetch, times: Times | None = None) -> None:
        """Nothing is fetched before the first token comes.

        Args:
            identities: the rules.
            fetch: blocks; is called in threads of its own.
            times: how long keys count.
        """
        self._workloads = {each.rule.issuer: each for each in identities.issuers}
        self._users = {each.rule.issuer: each.rule for each in identities.users}
        self._grants = {each.rule.issuer: each.rule for each in identities.grants}
        self._keys = _keys(identities, fetch, times or Times())
        self._fetch = fetch
        self._reviews = ThreadPoolExecutor(REVIEWS, thread_name_prefix="token-review")

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, for the operator: a sentence for each issuer that could not be asked."""
        return tuple(keys.problem for _, keys in sorted(self._keys.items()) if keys.problem)

    def close(self) -> None:
        """Wait for no review that has not begun. What is fetched is ended by whoever closes the `Web`."""
        self._reviews.shutdown(wait=True, cancel_futures=True)

    def workload(self, token: str, *, now: int) -> Check[Workload]:
        """The workload that a token is of. Raises as `verify_workload`; NO_BUNDLE; and as `review`, where one is due.

        `now`: milliseconds since the epoch.
        """
        known = _rule(self._workloads, token)
        found = yield from self._with_keys(
            known.rule.issuer, now, lambda keys: verify_workload(token, keys, known.rule, now=now)
        )
        if known.reviewer is not None:
            yield (asked := self._review(token, found, known))
            if not asked.done():
                raise Unavailable("The cluster did not say in time whether a token still counts.")
            return asked.result()
        return found

    def user(
        self,
        token: str,
        *,
        now: int,
        nonce: str | None,
        access_token: str | None,
        max_sign_in_age_ms: int | None = None,
    ) -> Check[User]:
        """The user that an ID token is of. Raises as `verify_user`, whose arguments these are; NO_BUNDLE."""
        rule = _rule(self._users, token)

        def check(keys: KeySet) -> User:
            return verify_user(
                token,
                keys,
                rule,
                now=now,
                nonce=nonce,
                access_token=access_token,
                max_sign_in_age_ms=max_sign_in_age_ms,
            )

        return (yield from self._with_keys(rule.issuer, now, check))

    def grant(
        self, token: str, *, client: str, proof: Proof | None, certificate: bytes | None, now: int
    ) -> Check[IdentityGrant]:
        """The user and client that an ID-JAG is of. Raises as `verify_identity_grant`, whose arguments these are;
        NO_BUNDLE.
        """
        rule = _rule(self._grants, token)

        def check(keys: KeySet) -> IdentityGrant:
            return verify_identity_grant(
                token, keys, rule, client=client, proof=proof, certificate=certificate, now=now
            )

        return (yield from self._with_keys(rule.issuer, now, check))

    def _with_keys(self, issuer: str, now: int, check: Callable[[KeySet], T]) -> Check[T]:
        keys = self._keys[issuer]
        due = keys.due(now)
        if due is not None:
            yield due
        try:
            return check(keys.held(now))
        except InvalidProof as error:
            if error.fault is not Fault.UNKNOWN_KEY:
                raise
            due = keys.due(now, unknown=True)
            if due is None:
                raise
        yield due
        return check(keys.held(now))

    def _review(self, token: str, found: Workload, known: WorkloadIssuer) -> Future[Workload]:
        assert known.reviewer is not None
        audience = known.rule.audience
        return self._reviews.submit(review, token, found, known.reviewer, audience=audience, fetch=self._fetch)


def _rule(rules: Mapping[str, R], token: str) -> R:
    rule = rules.get(claimed_issuer(token))
    if rule is None:
        raise InvalidProof(Fault.WRONG_ISSUER, "no rule is configured for the token's issuer")
    return rule


def _keys(identities: Identities, fetch: Fetch, times: Times) -> dict[str, IssuerKeys]:
    """One set of keys for each issuer, however many rules there are for its tokens."""
    algorithms: dict[str, frozenset[Algorithm]] = {}
    rules: list[Issuer | UserIssuer | GrantIssuer] = [
        *(each.rule for each in identities.issuers),
        *(each.rule for each in identities.users),
        *(each.rule for each in identities.grants),
    ]
    for rule in rules:
        algorithms[rule.issuer] = algorithms.get(rule.issuer, frozenset()) | rule.algorithms
    loopback = {rule.issuer: rule.loopback for rule in rules}
    return {
        issuer: IssuerKeys(
            issuer,
            identities.sources[issuer],
            algorithms=allowed,
            loopback=loopback[issuer],
            fetch=fetch,
            times=times,
        )
        for issuer, allowed in algorithms.items()
    }
