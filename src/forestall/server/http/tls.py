"""Transport security: TLS 1.2 and 1.3 by our certificate, and client certificates where a client has one (RFC 8705, 2).

A context is made for new connections whenever a file or a trust bundle changed, so that a rotation needs no restart.
"""

from __future__ import annotations

import ssl
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from forestall.core.errors import SetupError, cure

MAX_FILE = 1024 * 1024
"""Bytes of a certificate's, a key's or the authorities' file."""

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2: those with forward secrecy and authenticated encryption (RFC 9325, 4.2). TLS 1.3 has no others."""

Authorities = Callable[[], tuple[bytes, ...]]
"""Those that client certificates may come from besides the file's, in DER, as they are at this moment."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a context was made of."""

    files: tuple[tuple[int, int, int], ...]
    authorities: tuple[bytes, ...] = field(repr=False)


class Tls:
    def __init__(
        self,
        certificate: Path,
        key: Path,
        client_ca: Path | None,
        *,
        authorities: Authorities,
        complain: Callable[[str], None],
    ) -> None:
        """Raises SetupError: a file is not there, not what it should be, or the key is not the certificate's."""
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._authorities, self._complain = authorities, complain
        self._seen: _Seen | None
        seen = self._look()
        self._context, self._seen = self._make(seen.authorities), seen

    def context(self) -> ssl.SSLContext:
        """For a connection that begins now.

        Where a new one is needed and cannot be made, our old certificate is shown on, which is complained of; and no
        client's certificate counts, as nobody can say whether its authority was taken back.
        """
        try:
            seen = self._look()
            if seen != self._seen:
                self._context, self._seen = self._make(seen.authorities), seen
        except SetupError as error:
            self._complain(str(error).rstrip("."))
            self._seen, self._context.verify_mode = None, ssl.CERT_NONE
        return self._context

    def _look(self) -> _Seen:
        files = tuple(filter(None, (self._certificate, self._key, self._client_ca)))
        return _Seen(tuple(map(_identity, files)), self._authorities())

    def _make(self, authorities: tuple[bytes, ...]) -> ssl.SSLContext:
        _require_private(self._key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(CIPHERS)
        context.set_alpn_protocols(["http/1.1"])
        # a session that is taken up again would bring back a certificate that nobody verified again
        context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
        context.num_tickets = 0
        try:
            context.load_cert_chain(self._certificate, self._key, password="")  # never ask at a terminal
        except (OSError, ValueError):
            raise SetupError(
                f"{self._certificate} and {self._key} are not a certificate and its key, unencrypted, in PEM."
            ) from None
        if self._client_ca is None and not authorities:
            return context
        context.verify_mode = ssl.CERT_OPTIONAL
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # a trust bundle may hold an intermediate
        try:
            if self._client_ca is not None:
                context.load_verify_locations(cafile=self._client_ca)
            if authorities:
                context.load_verify_locations(cadata=b"".join(authorities))
        except (OSError, ValueError):
            raise SetupError(f"{self._client_ca or 'A trust bundle'} does not hold certificates in PEM.") from None
        return context


def _identity(path: Path) -> tuple[int, int, int]:
    try:
        status = path.stat()
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {cure(error)}.") from None
    if not stat.S_ISREG(status.st_mode) or status.st_size > MAX_FILE:
        raise SetupError(f"{path} is not a file of at most {MAX_FILE} bytes.")
    return status.st_ino, status.st_size, status.st_mtime_ns


def _require_private(key: Path) -> None:
    try:
        mode = key.stat().st_mode
    except OSError as error:
        raise SetupError(f"{key} cannot be read: {cure(error)}.") from None
    if stat.S_IMODE(mode) & 0o007:
        raise SetupError(f"Everybody can read {key}; run `chmod 600 {key}`.")
