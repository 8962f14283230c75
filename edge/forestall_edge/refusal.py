"""Why a call is refused: a closed set, for whoever runs the resource. Who calls is told none of it."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    MISSING = "missing"  # no permit, no proof, or more than one of either
    TOO_LARGE = "too_large"
    MALFORMED = "malformed"  # not a token in its one form
    WRONG_TYPE = "wrong_type"  # another kind of token, or another algorithm
    UNKNOWN_KEY = "unknown_key"
    BAD_SIGNATURE = "bad_signature"
    WRONG_ISSUER = "wrong_issuer"
    WRONG_AUDIENCE = "wrong_audience"
    WRONG_INSTANCE = "wrong_instance"
    EXPIRED = "expired"
    NOT_YET_VALID = "not_yet_valid"
    TOO_LONG = "too_long"  # lives longer than a permit may
    OLD_EPOCH = "old_epoch"  # from before an order that was heard of
    BEFORE_START = "before_start"  # from before the burns were kept: nobody knows whether it was used
    BAD_PROOF = "bad_proof"
    OTHER_KEY = "other_key"  # the proof is of a key that the permit is not bound to
    OTHER_PERMIT = "other_permit"  # the proof is for another one
    OTHER_REQUEST = "other_request"  # of another method, or to another address
    STALE_PROOF = "stale_proof"
    OTHER_TOOL = "other_tool"
    OTHER_PIN = "other_pin"
    BAD_ARGUMENTS = "bad_arguments"  # not JSON with one meaning
    OTHER_ARGUMENTS = "other_arguments"
    OTHER_CONTENT = "other_content"
    BURNED = "burned"  # it was used
    UNAVAILABLE = "unavailable"  # its keys, or its burns, cannot be reached
    NOT_OPEN = "not_open"  # no tool call, and not among what passes without a permit


class Refused(Exception):
    """The call is not carried out. The message holds nothing of the token, and is for the resource's own log."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason.value}: {detail}" if detail else reason.value)
        self.reason = reason
