"""Whom a security event is from: the transmitters in `identity.toml`, checked with keys that are theirs now."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from forestall.adapter.oidc.checking import Check
from forestall.adapter.oidc.claimed import claimed_issuer
from forestall.adapter.oidc.keys import IssuerKeys, Times
from forestall.adapter.oidc.token_file import read_small
from forestall.adapter.oidc.web import Fetch
from forestall.core.errors import Unavailable
from forestall.identities import Transmitter
from forestall.proof.discovery import signals_url
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import MAX_SET, KeySet, parse_set
from forestall.proof.set import SecurityEvent, verify_event


class Transmitters:
    def __init__(self, transmitters: tuple[Transmitter, ...], *, fetch: Fetch, times: Times | None = None) -> None:
        """Nothing is fetched or read before the first event comes."""
        self._known = {each.issuer: each for each in transmitters}
        self._keys = {
            each.issuer: IssuerKeys(
                each.issuer,
                each.source,
                algorithms=each.algorithms,
                loopback=each.loopback,
                fetch=fetch,
                times=times or Times(),
                discovery=signals_url(each.issuer),
            )
            for each in transmitters
            if each.jwks_file is None
        }
        self._files = ThreadPoolExecutor(1, thread_name_prefix="transmitters")

    def close(self) -> None:
        """What is fetched is ended by whoever closes the `Web`."""
        self._files.shutdown(wait=True, cancel_futures=True)

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong now, for the operator, a sentence each."""
        return tuple(keys.problem for _, keys in sorted(self._keys.items()) if keys.problem)

    def event(self, token: str, *, now: int) -> Check[tuple[Transmitter, SecurityEvent]]:
        """What has happened, and who says so.

        Raises:
            InvalidProof: as `verify_event`; WRONG_ISSUER, where no transmitter of that name is configured; NO_BUNDLE,
                where its keys are not known.
            Unavailable: the file with its keys cannot be read now.
        """
        known = self._known.get(claimed_issuer(token))
        if known is None:
            raise InvalidProof(Fault.WRONG_ISSUER, "no such transmitter is configured")
        if known.jwks_file is not None:
            read: Future[KeySet] = self._files.submit(_read, known.jwks_file)
            yield read
            if not read.done():
                raise Unavailable(f"The keys of {known.issuer} were not read in time.")
            return known, _verify(token, read.result(), known, now)
        return known, (yield from self._fetched(token, self._keys[known.issuer], known, now))

    def _fetched(self, token: str, keys: IssuerKeys, known: Transmitter, now: int) -> Check[SecurityEvent]:
        due = keys.due(now)
        if due is not None:
            yield due
        try:
            return _verify(token, keys.held(now), known, now)
        except InvalidProof as error:
            due = keys.due(now, unknown=True) if error.fault is Fault.UNKNOWN_KEY else None
            if due is None:
                raise
        yield due
        return _verify(token, keys.held(now), known, now)


def _verify(token: str, keys: KeySet, known: Transmitter, now: int) -> SecurityEvent:
    return verify_event(
        token,
        keys,
        issuer=known.issuer,
        audience=known.audience,
        now=now,
        skew_ms=known.skew_ms,
        max_age_ms=known.max_age_ms,
        algorithms=known.algorithms,
    )


def _read(file: Path) -> KeySet:
    return parse_set(read_small(file, MAX_SET))
