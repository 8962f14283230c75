"""Fetch a trust bundle from its bundle endpoint, in either profile (SPIFFE_Federation.md, section 5.2).

`https_web` is authenticated as every web site is. `https_spiffe` presents an X.509-SVID: the path is OpenSSL's to
check, against the endpoint's own trust domain alone; the name in it, and that it is a workload's, is for us. No
redirect is followed: where a bundle comes from is configured.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from cryptography.hazmat.primitives.serialization import Encoding

from forestall.core.errors import SetupError, Unavailable
from forestall.proof.bundle import MAX_BUNDLE, X509Authorities
from forestall.proof.chain import parse_certificate
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.spiffe_id import SpiffeId
from forestall.proof.svid import read_leaf, require_time

FETCH_S = 20.0
"""Seconds for a whole fetch, however slowly bytes come."""

SILENCE_S = 10.0
"""Seconds without a byte."""


@dataclass(frozen=True, slots=True)
class Spiffe:
    """What `https_spiffe` needs beside the address."""

    id: SpiffeId
    """Who serves the bundle."""
    initial: Path
    """A bundle of that workload's trust domain, obtained in another way: authenticates the first fetch."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a bundle is served. Without `spiffe` the profile is `https_web`."""

    url: str
    spiffe: Spiffe | None = None

    def __post_init__(self) -> None:
        """Raises SetupError for anything but an https address without a user, a password or a fragment."""
        try:
            parts = urlsplit(self.url)
            good = parts.scheme == "https" and parts.hostname and (parts.port is None or parts.port > 0)
        except ValueError:
            good = False
        if not good or parts.username is not None or parts.password is not None or parts.fragment:
            raise SetupError("The address of a bundle endpoint has to be https://host[:port]/path.")

    @property
    def parts(self) -> SplitResult:
        return urlsplit(self.url)


class Fetch:
    """One fetch. `stop` ends it from another thread, for good."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stopped = False
        self._line: socket.socket | None = None

    def web(self, endpoint: Endpoint, roots: str | None) -> bytes:
        """`https_web`. `roots`: PEM of the authorities to trust; None for the machine's.

        Raises:
            Unavailable: it was not reached, is not who it should be, or did not answer with a document of some size.
        """
        return self._get(endpoint, ssl.create_default_context(cadata=roots), lambda _: None)

    def spiffe(self, endpoint: Endpoint, expected: SpiffeId, authorities: X509Authorities, now: int) -> bytes:
        """`https_spiffe`. `authorities`: those of `expected`'s trust domain. Raises as `web`, and InvalidProof."""
        if not authorities.certificates:
            raise InvalidProof(Fault.UNTRUSTED, "the endpoint's trust domain has no X.509 authorities")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # the SPIFFE ID is the name, and `require` compares it
        context.verify_mode = ssl.CERT_REQUIRED
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # an authority need not have signed itself
        certificates = authorities.certificates
        context.load_verify_locations(cadata=b"".join(each.public_bytes(Encoding.DER) for each in certificates))

        def require(der: bytes) -> None:
            leaf = parse_certificate(der)
            if read_leaf(leaf) != expected:
                raise InvalidProof(Fault.WRONG_SUBJECT, "another workload serves the bundle")
            require_time(leaf, now)

        return self._get(endpoint, context, require)

    def stop(self) -> None:
        with self._lock:
            self._stopped = True
            if self._line is not None:
                with suppress(OSError):
                    self._line.shutdown(socket.SHUT_RDWR)

    def _get(self, endpoint: Endpoint, context: ssl.SSLContext, require: Callable[[bytes], None]) -> bytes:
        host, port = endpoint.parts.hostname or "", endpoint.parts.port or 443
        timer = threading.Timer(FETCH_S, self.stop)
        timer.daemon = True
        timer.start()
        try:
            with self._open(host, port) as plain, context.wrap_socket(plain, server_hostname=host) as secured:
                require(secured.getpeercert(binary_form=True) or b"")
                return _ask(secured, endpoint)
        except ssl.SSLCertVerificationError:
            raise Unavailable("The bundle endpoint is not who it should be; look at its certificate.") from None
        except (OSError, http.client.HTTPException):
            raise Unavailable("The bundle endpoint does not answer; see that it is up.") from None
        finally:
            timer.cancel()
            with self._lock:
                if self._line is not None:
                    self._line.close()
                self._line = None

    def _open(self, host: str, port: int) -> socket.socket:
        plain = socket.create_connection((host, port), timeout=SILENCE_S)
        with self._lock:
            # a second handle on the connection: TLS takes the first one over, and `stop` must not touch TLS
            self._line = plain.dup()
            if self._stopped:
                self._line.shutdown(socket.SHUT_RDWR)
        return plain


def _ask(secured: ssl.SSLSocket, endpoint: Endpoint) -> bytes:
    connection = http.client.HTTPSConnection(endpoint.parts.netloc)
    connection.sock = secured
    path = endpoint.parts.path or "/"
    query = f"?{endpoint.parts.query}" if endpoint.parts.query else ""
    connection.request("GET", path + query, headers={"Accept": "application/json", "Connection": "close"})
    answer = connection.getresponse()
    if answer.status != http.HTTPStatus.OK:
        raise Unavailable(f"The bundle endpoint answered with status {answer.status}; look at its address.")
    data = answer.read(MAX_BUNDLE + 1)
    if len(data) > MAX_BUNDLE:
        raise Unavailable(f"The bundle endpoint sent more than {MAX_BUNDLE} bytes.")
    if answer.length:  # `read` with a limit does not say that the rest never came
        raise Unavailable("The bundle endpoint hung up early.")
    return data
