"""The check of a permit, from its bytes to its burn.

The rules, in the order of the code:

 1. Nothing is read of what is too large; one form, ES256, the type of permits, a key that the issuer publishes.
 2. It is ours: issuer, audience, and the instance that it names.
 3. It is in time, was issued since the burns are kept, and not before the last order that was heard of.
 4. Whoever presents it holds its key, and made the proof for this permit and this request, now.
 5. It is for this tool, as it is here, for the arguments that were received here, and for the content that they name.
 6. Nobody has used it: the burn comes last, so that what is refused is not used up.
"""

from __future__ import annotations

import hashlib
import hmac
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from forestall_edge.burns import Burns
from forestall_edge.canonical import NotJson, canonical, digest
from forestall_edge.content import Content, bound, text_at
from forestall_edge.keys import Keys
from forestall_edge.permit import MAX_LIFE_S, MAX_PERMIT, TYPE, Permit, read_permit
from forestall_edge.proof import Presenters
from forestall_edge.refusal import Reason, Refused
from forestall_edge.token import read, require_type

METHOD = "POST"
"""`htm` where a call has no request line of its own, as over stdio. Its `htu` is the audience."""

_HEADER = frozenset({"alg", "kid", "typ"})


class Verifier:
    """Of one audience. Safe to use from many threads; `verify` blocks for the burn's disk, and for keys at a URL."""

    def __init__(
        self,
        keys: Keys,
        audience: str,
        burns: Burns,
        instance: str | None = None,
        *,
        now: Callable[[], float] = time.time,
        skew_s: int = 2,
    ) -> None:
        """`verify` is the check; this says what it goes by.

        Args:
            keys: of the decision point.
            audience: what this resource is called, letter by letter as in `[permits.SERVER]`.
            burns: what was used.
            instance: which instance of the audience this is; then no permit counts that does not name it.
            now: seconds since the epoch.
            skew_s: how far the decision point's clock and ours may be apart.

        Raises:
            ValueError: the burns are this instance's alone, and it has no name.
        """
        if not burns.shared and not instance:
            raise ValueError("burns that are not shared are good for one instance: name it, or share a store of burns")
        self.audience = audience
        self._keys, self._burns, self._instance = keys, burns, instance or ""
        self._now, self._skew = now, skew_s
        self._epoch = 0
        self._rising = threading.Lock()
        self._presenters = Presenters()
        self._header = "", ""
        """The last that a key of the issuer signed, and which key: those of one key are all the same."""

    @property
    def epoch(self) -> int:
        """The last that was heard of. It never falls."""
        return self._epoch

    def verify(
        self,
        token: str,
        proof: str,
        tool: str,
        arguments: Any,
        *,
        pin: str | None = None,
        content: Content | None = None,
        method: str = METHOD,
        url: str | None = None,
    ) -> Permit:
        """The permit, used up. Carry out exactly this call, once.

        Args:
            token: the permit, as it came.
            proof: the proof that came with it.
            tool: `server/tool` that is asked for.
            arguments: as they were received and will be used; a JSON value.
            pin: of the tool's definition here; None where it is not known.
            content: digests what a text in the arguments refers to here; None: a permit with `refs` is refused.
            method: of the request.
            url: of the request, without its query; None for the audience itself.

        Raises:
            Refused: for a reason of the closed set. Nothing was used up, unless that is `unavailable`.
        """
        now = self._now()
        permit = self._open(token)
        self._require_ours(permit)
        self._require_in_time(permit, now)
        where = self.audience if url is None else url
        self._presenters.require_proof(
            proof, permit=token, key=permit.key, method=method, url=where, now=now, skew=self._skew
        )
        _require_for(permit, tool, arguments, pin)
        _require_content(permit, arguments, content)
        self._heard(permit.epoch)
        self._burns.burn(_key(permit), permit.expires_at + self._skew, int(now))
        return permit

    def _open(self, token: str) -> Permit:
        opened = read(token, max_bytes=MAX_PERMIT)
        seen, kid = self._header
        if opened.head != seen:
            kid = _kid(opened.header())
        trust = self._keys.trust()
        self._heard(trust.epoch)
        key = trust.keys.get(kid)
        if key is None:
            raise Refused(Reason.UNKNOWN_KEY)
        claims = opened.require_signed(key)
        self._header = opened.head, kid
        permit = read_permit(claims)
        if permit.issuer != trust.issuer:
            raise Refused(Reason.WRONG_ISSUER)
        return permit

    def _require_ours(self, permit: Permit) -> None:
        if permit.audience != self.audience:
            raise Refused(Reason.WRONG_AUDIENCE)
        if permit.instance != self._instance:
            raise Refused(Reason.WRONG_INSTANCE)

    def _require_in_time(self, permit: Permit, now: float) -> None:
        if permit.expires_at - permit.issued_at > MAX_LIFE_S:
            raise Refused(Reason.TOO_LONG)
        if now >= permit.expires_at + self._skew:
            raise Refused(Reason.EXPIRED)
        if max(permit.issued_at, permit.not_before) > now + self._skew:
            raise Refused(Reason.NOT_YET_VALID)
        if permit.issued_at <= self._burns.since + self._skew:
            raise Refused(Reason.BEFORE_START)
        if permit.epoch < self._epoch:
            raise Refused(Reason.OLD_EPOCH)

    def _heard(self, epoch: int) -> None:
        if epoch > self._epoch:
            with self._rising:
                self._epoch = max(self._epoch, epoch)


def _kid(header: Mapping[str, Any]) -> str:
    """Raises Refused: wrong_type, unknown_key."""
    require_type(header, TYPE, _HEADER)
    kid = header["kid"]
    if not isinstance(kid, str):
        raise Refused(Reason.UNKNOWN_KEY)
    return kid


def _require_for(permit: Permit, tool: str, arguments: Any, pin: str | None) -> None:
    if permit.tool != tool:
        raise Refused(Reason.OTHER_TOOL)
    if pin is not None and permit.pin != pin:
        raise Refused(Reason.OTHER_PIN)
    try:
        found = digest(bound(arguments, permit.refs) if permit.refs else arguments)
    except NotJson as error:
        raise Refused(Reason.BAD_ARGUMENTS, str(error)) from None
    if not hmac.compare_digest(found.encode(), permit.arguments.encode()):
        raise Refused(Reason.OTHER_ARGUMENTS)


def _require_content(permit: Permit, arguments: Any, content: Content | None) -> None:
    """Last before the burn: it may have to read a file."""
    for pointer, wanted in permit.refs.items():
        if content is None:
            raise Refused(Reason.OTHER_CONTENT, "nobody looks at content here")
        if not hmac.compare_digest(content(text_at(arguments, pointer)).encode(), wanted.encode()):
            raise Refused(Reason.OTHER_CONTENT)


def _key(permit: Permit) -> bytes:
    """Of the permit among all: an id is its issuer's to choose."""
    return hashlib.sha256(canonical([permit.issuer, permit.audience, permit.id])).digest()
