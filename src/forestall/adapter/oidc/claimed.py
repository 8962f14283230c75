"""Which issuer a token says it is from: how to choose the rule that it has to satisfy, and nothing else.

Nobody has signed this yet. It picks one of the rules that an operator wrote, and the rule's own check compares `iss`
with that issuer again, after the signature.
"""

from __future__ import annotations

from forestall.core.canonical import parse
from forestall.core.errors import InvalidInput
from forestall.proof.claims import text
from forestall.proof.encoding import decode
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jws import MAX_CLAIMS_DEPTH, MAX_TOKEN


def claimed_issuer(token: str | bytes) -> str:
    """`iss`, as the token has it.

    Raises:
        InvalidProof: TOO_LARGE, MALFORMED.
    """
    if len(token) > MAX_TOKEN:
        raise InvalidProof(Fault.TOO_LARGE)
    try:
        parts = (token.decode("ascii") if isinstance(token, bytes) else token).split(".")
        if len(parts) != 3:
            raise InvalidProof(Fault.MALFORMED, "the token does not have three parts")
        claims = parse(decode(parts[1]), max_bytes=MAX_TOKEN, max_depth=MAX_CLAIMS_DEPTH)
    except (UnicodeDecodeError, InvalidInput):
        raise InvalidProof(Fault.MALFORMED, "a part is not JSON with one meaning") from None
    if not isinstance(claims, dict):
        raise InvalidProof(Fault.MALFORMED, "a part is not a JSON object")
    return text(claims, "iss")
