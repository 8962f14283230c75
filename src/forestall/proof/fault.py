"""What is wrong with a proof: for the operator and the ledger, each a code of its own. Who sent it learns none of them.

A caller that is told `expired` and not `wrong_key` learns which half of its forgery is good, so every refusal to it is
`invalid_proof` (`forestall.core.reason`), and nothing more.
"""

from __future__ import annotations

from enum import StrEnum

from forestall.core.errors import ForestallError


class Fault(StrEnum):
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"
    WRONG_TYPE = "wrong_type"  # `typ` is another kind of token's
    UNSIGNED = "unsigned"  # `none`
    ALGORITHM = "algorithm"  # one that is not allowed here, or not this key's
    EMBEDDED_KEY = "embedded_key"  # `jwk`, `jku`, `x5c` or `x5u` where the key has to be known beforehand
    UNKNOWN_HEADER = "unknown_header"  # a header member, or `crit`, that has no meaning here
    NOT_PUBLIC = "not_public"  # a private or symmetric key where a public one has to be
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    CLOCK = "clock"  # issued in the future: one of the two clocks is off
    TOO_OLD = "too_old"
    TOO_LONG = "too_long"  # lives longer than this kind of token may
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_SUBJECT = "wrong_subject"  # no rule maps it to a workload
    WRONG_TRUST_DOMAIN = "wrong_trust_domain"
    UNTRUSTED = "untrusted"  # no path to the trust domain's bundle
    NO_BUNDLE = "no_bundle"  # the keys to check it with are not there, or too old
    WRONG_TENANT = "wrong_tenant"
    NOT_BOUND = "not_bound"  # `cnf` is missing where it has to be
    NO_PROOF = "no_proof"  # bound to a key, and nothing shows that the presenter has it
    OTHER_KEY = "other_key"  # bound to a key that is not the presenter's
    OTHER_METHOD = "other_method"
    OTHER_URL = "other_url"
    OTHER_TOKEN = "other_token"  # noqa: S105 - no password; `ath` is another token's
    NONCE = "nonce"
    CYCLE = "cycle"  # an actor occurs twice in its chain
    TOO_DEEP = "too_deep"  # more actors than a chain may have
    SCOPE = "scope"  # `authorization_details` of a type, or with a member, that has no meaning here
    UNKNOWN_EVENT = "unknown_event"
    REPLAYED = "replayed"
    REVOKED = "revoked"
    ENDED = "ended"  # the task that a grant token is of is not open any more
    UNLIKE_RECORD = "unlike_record"  # a grant token says something else than the log


class InvalidProof(ForestallError):
    """The proof does not hold. The message is for the operator, and holds nothing of the token itself."""

    def __init__(self, fault: Fault, detail: str = "") -> None:
        super().__init__(f"{fault.value}: {detail}" if detail else fault.value)
        self.fault = fault
