"""The key that an enforcement point will present permits with, as it shows on its connection that it has it."""

from __future__ import annotations

from forestall.core.errors import InvalidInput
from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import InvalidProof
from forestall.proof.possession import SOCKET_METHOD, SOCKET_URL, verify_proof

ALGORITHMS = frozenset({Algorithm.ES256})
"""The one that every verifier takes."""


def require_key(proof: str, nonce: str, at: int) -> str:
    """Thumbprint (RFC 7638) of the key that signed a proof for this connection.

    It needs no burning: the nonce is the connection's, which takes one key.

    Raises:
        InvalidInput: it does not hold. What is wrong with it is not for whoever sent it.
    """
    try:
        shown = verify_proof(
            proof,
            method=SOCKET_METHOD,
            url=SOCKET_URL,
            now=at,
            access_token=None,
            nonces=frozenset({nonce}),
            algorithms=ALGORITHMS,
        )
    except InvalidProof:
        raise InvalidInput("The proof of the key for permits does not hold.") from None
    return shown.thumbprint
