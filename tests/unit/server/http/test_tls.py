"""TLS with real certificates, made here: what is agreed on, who is let in, and what a rotation changes."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from forestall.core.errors import SetupError
from forestall.proof.bundle import Bundle, JwtAuthorities, X509Authorities, parse_bundle
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.svid import verify_x509_svid
from forestall.server.http.message import Request, Response
from forestall.server.http.tls import Authorities, Tls
from forestall.testing.authority import Authority, Issued
from tests.points import until_async
from tests.unit.adapter.oidc.site import authority, certificate, roots
from tests.web import WAIT_S, Line, line, listening, play, request


def now() -> int:
    return time.time_ns() // 1_000_000


def pem(private: ec.EllipticCurvePrivateKey) -> bytes:
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_server(folder: Path, seed: str = "ours") -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    made = certificate("127.0.0.1", private, authority(seed))
    (folder / "server.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "server.key").write_bytes(pem(private))
    (folder / "server.key").chmod(0o600)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_server(tmp_path)
    return tmp_path


SETTINGS = {"tls_certificate": "server.pem", "tls_key": "server.key"}


def client(seed: str = "ours", shows: Issued | None = None, folder: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=roots(seed))
    if shows is not None and folder is not None:
        file = folder / "client.pem"
        chain = "".join(ssl.DER_cert_to_PEM_cert(each) for each in shows.chain)
        key = ssl.DER_cert_to_PEM_cert(shows.key).replace("CERTIFICATE", "PRIVATE KEY")
        file.write_text(chain + key)
        context.load_cert_chain(file)
    return context


class Bundles:
    """What is known of trust domains just now."""

    def __init__(self, *authorities: Authority) -> None:
        self.known = {each.trust_domain: each for each in authorities}

    def _bundle(self, trust_domain: str) -> Bundle:
        if trust_domain not in self.known:
            raise InvalidProof(Fault.NO_BUNDLE)
        return parse_bundle(self.known[trust_domain].bundle(), trust_domain)

    def x509(self, trust_domain: str, now: int) -> X509Authorities:
        return self._bundle(trust_domain).x509

    def jwt(self, trust_domain: str, now: int) -> JwtAuthorities:
        return self._bundle(trust_domain).jwt


def of_bundles(bundles: Bundles, trust_domains: list[str], now: Callable[[], int]) -> Authorities:
    def authorities() -> tuple[bytes, ...]:
        found: list[bytes] = []
        for name in trust_domains:
            with suppress(InvalidProof):
                found += [each.public_bytes(Encoding.DER) for each in bundles.x509(name, now()).certificates]
        return tuple(found)

    return authorities


class Seen:
    """A route that remembers what it was given."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    async def __call__(self, asked: Request) -> Response:
        self.requests.append(asked)
        return Response(200)


async def is_let_in(listener: Any, context: ssl.SSLContext) -> bool:
    """TLS 1.3 tells a client only after it believes that it is through."""
    try:
        async with line(listener, context) as opened:
            opened.send(request(listener))
            return (await opened.answer()).status == 200
    except (ssl.SSLError, ConnectionError, asyncio.IncompleteReadError):
        return False


def test_requests_over_tls(folder: Path) -> None:
    async def scenario() -> None:
        seen = Seen()
        async with (
            listening({("GET", "/"): seen}, more={"root": folder}, **SETTINGS) as listener,
            line(listener, client()) as opened,
        ):
            for _ in range(2):
                opened.send(request(listener))
                assert (await opened.answer()).status == 200
            assert listener.url == f"https://{listener.address.netloc}"
            assert seen.requests[0].url == f"{listener.url}/"
            assert seen.requests[0].certificate is None
            tls = opened.writer.get_extra_info("ssl_object")
            assert tls.version() == "TLSv1.3"

    play(scenario)


def test_versions_and_ciphers_of_yesterday_are_refused(folder: Path) -> None:
    async def scenario() -> None:
        async with listening(ROUTE, more={"root": folder}, **SETTINGS) as listener:
            new = client()
            new.maximum_version = ssl.TLSVersion.TLSv1_2
            assert await is_let_in(listener, new)
            old = client()
            with pytest.warns(DeprecationWarning, match="deprecated"):
                old.minimum_version = ssl.TLSVersion.TLSv1
            with pytest.warns(DeprecationWarning, match="deprecated"):
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.set_ciphers("ALL:@SECLEVEL=0")
            assert not await is_let_in(listener, old)
            weak = client()
            weak.maximum_version = ssl.TLSVersion.TLSv1_2
            weak.set_ciphers("ECDHE-ECDSA-AES128-SHA")
            assert not await is_let_in(listener, weak)

    play(scenario)


async def _ok(_asked: Request) -> Response:
    return Response(200)


ROUTE = {("GET", "/"): _ok}


def test_a_client_that_speaks_no_tls_or_none_to_its_end(folder: Path) -> None:
    async def scenario() -> None:
        settings: Mapping[str, Any] = {**SETTINGS, "handshake_timeout_ms": 500}
        async with listening(ROUTE, more={"root": folder}, **settings) as listener:
            for data in (request(listener), b"\x16\x03\x01", b""):
                async with line(listener) as plain:
                    plain.send(data)
                    assert b"HTTP" not in await plain.rest()
            await until_async(lambda: listener.connections == 0)
            async with asyncio.timeout(WAIT_S):
                while not await is_let_in(listener, client()):  # a busy machine may be too late now and then
                    pass

    play(scenario)


def test_a_client_certificate_of_a_spiffe_bundle_is_handed_on_with_its_chain(folder: Path) -> None:
    async def scenario() -> None:
        domain, seen = Authority("example.org", now), Seen()
        bundles = Bundles(domain)
        shown = domain.x509_svid("/agent", through=(domain.subordinate(),))
        more = {"root": folder, "authorities": of_bundles(bundles, ["example.org", "silent.example"], now)}
        async with listening({("GET", "/"): seen}, more=more, **SETTINGS) as listener:
            assert await is_let_in(listener, client(shows=shown, folder=folder))
            (asked,) = seen.requests
            assert asked.certificate == shown.chain[0]
            assert asked.chain[: len(shown.chain)] == shown.chain
            verified = verify_x509_svid(asked.chain, bundles, trust_domains=frozenset({"example.org"}), now=now())
            assert str(verified.id) == "spiffe://example.org/agent"
            assert await is_let_in(listener, client())
            assert seen.requests[1].certificate is None

    play(scenario)


def test_a_client_certificate_that_does_not_verify_ends_the_connection(folder: Path) -> None:
    async def scenario() -> None:
        domain, stranger = Authority("example.org", now), Authority("example.org", now)
        more = {"root": folder, "authorities": of_bundles(Bundles(domain), ["example.org"], now)}
        async with listening(ROUTE, more=more, **SETTINGS) as listener:
            for shown in (stranger.x509_svid("/agent"), domain.x509_svid("/agent", lifetime_ms=-1000)):
                assert not await is_let_in(listener, client(shows=shown, folder=folder))
            assert await is_let_in(listener, client(shows=domain.x509_svid("/agent"), folder=folder))

    play(scenario)


def test_an_authority_that_is_taken_back_counts_no_more_and_a_new_one_does(folder: Path) -> None:
    """Also for a client that has been here before: no session is taken up again."""

    async def scenario() -> None:
        domain = Authority("example.org", now)
        more = {"root": folder, "authorities": of_bundles(Bundles(domain), ["example.org"], now)}
        async with listening(ROUTE, more=more, **SETTINGS) as listener:
            before = client(shows=domain.x509_svid("/agent"), folder=folder)
            assert await is_let_in(listener, before)
            domain.rotate()
            after = client(shows=domain.x509_svid("/agent"), folder=folder)
            assert await is_let_in(listener, before)
            assert await is_let_in(listener, after)
            domain.retire()
            assert not await is_let_in(listener, before)
            assert await is_let_in(listener, after)

    play(scenario)


def test_where_all_authorities_are_taken_back_nobodys_certificate_counts(folder: Path) -> None:
    async def scenario() -> None:
        domain, seen = Authority("example.org", now), Seen()
        more = {"root": folder, "authorities": of_bundles(Bundles(domain), ["example.org"], now)}
        async with listening({("GET", "/"): seen}, more=more, **SETTINGS) as listener:
            shows = client(shows=domain.x509_svid("/agent"), folder=folder)
            domain.revoke_all()
            assert await is_let_in(listener, shows)
            assert seen.requests[-1].certificate is None

    play(scenario)


def test_client_authorities_from_a_file(folder: Path) -> None:
    async def scenario() -> None:
        domain, seen = Authority("example.org", now), Seen()
        pem_text = "".join(ssl.DER_cert_to_PEM_cert(each) for each in [domain.x509_bundle()])
        (folder / "ca.pem").write_text(pem_text)
        settings = {**SETTINGS, "client_ca": "ca.pem"}
        async with listening({("GET", "/"): seen}, more={"root": folder}, **settings) as listener:
            shown = domain.x509_svid("/agent")
            assert await is_let_in(listener, client(shows=shown, folder=folder))
            assert seen.requests[0].certificate == shown.chain[0]

    play(scenario)


def test_our_own_certificate_is_renewed_without_a_restart_and_a_broken_one_is_not_taken(folder: Path) -> None:
    async def scenario() -> None:
        complaints: list[str] = []
        async with listening(ROUTE, complaints=complaints, more={"root": folder}, **SETTINGS) as listener:
            assert await is_let_in(listener, client("ours"))
            write_server(folder, "renewed")
            assert await is_let_in(listener, client("renewed"))
            assert not await is_let_in(listener, client("ours"))
            (folder / "server.pem").write_text("half a certifi")
            assert await is_let_in(listener, client("renewed"))
            assert "unencrypted, in PEM" in complaints[0]
            write_server(folder, "again")
            assert await is_let_in(listener, client("again"))

    play(scenario)


def test_where_the_authorities_file_is_gone_nobodys_certificate_counts_until_it_is_back(folder: Path) -> None:
    async def scenario() -> None:
        complaints: list[str] = []
        domain, seen = Authority("example.org", now), Seen()
        ca = folder / "ca.pem"
        ca.write_text(ssl.DER_cert_to_PEM_cert(domain.x509_bundle()))
        shows = client(shows=domain.x509_svid("/agent"), folder=folder)
        settings = {**SETTINGS, "client_ca": "ca.pem"}
        async with listening(
            {("GET", "/"): seen}, complaints=complaints, more={"root": folder}, **settings
        ) as listener:
            assert await is_let_in(listener, shows)
            ca.rename(folder / "moved.pem")
            assert await is_let_in(listener, shows)
            (folder / "moved.pem").rename(ca)
            assert await is_let_in(listener, shows)
            assert [asked.certificate is not None for asked in seen.requests] == [True, False, True]
            assert "cannot be read" in complaints[0]

    play(scenario)


def tls_of(folder: Path, client_ca: Path | None = None) -> Tls:
    return Tls(
        folder / "server.pem", folder / "server.key", client_ca, authorities=tuple, complain=lambda _sentence: None
    )


def test_files_that_cannot_be(folder: Path) -> None:
    (folder / "server.key").chmod(0o604)
    with pytest.raises(SetupError, match="chmod 600"):
        tls_of(folder)
    (folder / "server.key").write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    (folder / "server.key").chmod(0o600)
    with pytest.raises(SetupError, match="its key"):
        tls_of(folder)
    write_server(folder)
    (folder / "ca.pem").write_text("nothing")
    with pytest.raises(SetupError, match="certificates in PEM"):
        tls_of(folder, folder / "ca.pem")
    os.mkfifo(folder / "pipe")
    with pytest.raises(SetupError, match="not a file"):
        tls_of(folder, folder / "pipe")


def test_a_key_with_a_password_asks_nobody_for_it(folder: Path) -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption

    private = ec.generate_private_key(ec.SECP256R1())
    (folder / "server.pem").write_bytes(certificate("127.0.0.1", private, authority("ours")).public_bytes(Encoding.PEM))
    sealed = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"a password"))
    (folder / "server.key").write_bytes(sealed)
    with pytest.raises(SetupError, match="unencrypted"):
        tls_of(folder)


def test_it_closes_while_clients_are_still_shaking_hands(folder: Path) -> None:
    async def scenario() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: faults.append(context))
        async with listening(ROUTE, more={"root": folder}, **SETTINGS) as listener:
            async with line(listener) as silent, line(listener) as half:
                half.send(b"\x16\x03\x01")
                await until_async(lambda: listener.connections == 2)
                await listener.close()
                assert await silent.rest() == b""
                assert await half.rest() == b""
            assert listener.connections == 0
        assert faults == []

    play(scenario)


@pytest.mark.parametrize("secure", [False, True])
def test_who_hangs_up_while_they_are_answered_makes_no_room_before_that_is_over(folder: Path, secure: bool) -> None:
    """Else a client would begin as much as it likes, and wait for none of it."""

    async def scenario() -> None:
        begun, go_on = 0, asyncio.Event()

        async def slow(_asked: Request) -> Response:
            nonlocal begun
            begun += 1
            await go_on.wait()
            return Response(200)

        settings = SETTINGS if secure else {}
        tls = client() if secure else None
        async with listening({("GET", "/"): slow}, more={"root": folder}, max_connections=2, **settings) as listener:
            for number in range(8):
                with suppress(OSError, ssl.SSLError):
                    opened = await Line.open(listener, tls)
                    opened.send(request(listener))
                    await opened.writer.drain()
                    if number < 2:
                        await until_async(lambda number=number: begun > number)  # type: ignore[misc]
                    linger = struct.pack("ii", 1, 0)  # so that the other side hears of it at once
                    opened.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    opened.writer.transport.abort()
            assert listener.connections == 2
            assert begun == 2
            go_on.set()
            await until_async(lambda: listener.connections == 0)
            async with line(listener, tls) as another:
                another.send(request(listener))
                assert (await another.answer()).status == 200

    play(scenario)
