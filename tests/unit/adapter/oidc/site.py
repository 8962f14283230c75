"""An https server of this machine with an authority of its own, and one for http: what it answers the test says."""

from __future__ import annotations

import ipaddress
import ssl
import tempfile
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

WAIT_S = 60.0
"""Seconds after which something that has to happen has failed to; nothing waits for it to pass."""

Answer = Callable[["Asked"], None]


class Asked(BaseHTTPRequestHandler):
    """One request. `body` is read already."""

    protocol_version = "HTTP/1.1"
    body = b""

    def do_GET(self) -> None:
        site: Site = self.server.site  # type: ignore[attr-defined]
        self.body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        site.asked.append((self.command, self.path, dict(self.headers.items()), self.body))
        self.close_connection = True
        site.answer(self)

    do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815 - the names that the base class looks for

    def say(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Length": str(len(body)), **given}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


class Site:
    """Serves from `with` to its end. `name`: what its certificate is for; None for http."""

    def __init__(self, answer: Answer, *, name: str | None = "127.0.0.1") -> None:
        self.answer, self.secure = answer, name is not None
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        self._server.site = self  # type: ignore[attr-defined]
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up is no news
        if name is not None:
            self._server.socket = context(name).wrap_socket(self._server.socket, server_side=True)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})

    @property
    def url(self) -> str:
        return f"{'https' if self.secure else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(WAIT_S)
        self._server.server_close()


@cache
def authority(seed: str) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    private = ec.generate_private_key(ec.SECP256R1())
    return certificate(f"authority {seed}", private, None), private


def roots(seed: str = "ours") -> str:
    return authority(seed)[0].public_bytes(Encoding.PEM).decode()


@cache
def context(name: str) -> ssl.SSLContext:
    private = ec.generate_private_key(ec.SECP256R1())
    made = certificate(name, private, authority("ours"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pem"
        key = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(made.public_bytes(Encoding.PEM) + key)
        context.load_cert_chain(file)
    return context


def certificate(
    name: str,
    private: ec.EllipticCurvePrivateKey,
    by: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None,
) -> x509.Certificate:
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = private if by is None else by[1]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject if by is None else by[0].subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=by is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(usage(signs=by is None), critical=True)
    )
    if by is not None:
        try:
            known: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(name))
        except ValueError:
            known = x509.DNSName(name)
        builder = builder.add_extension(x509.SubjectAlternativeName([known]), critical=False)
    return builder.sign(signer, SHA256())


def usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
