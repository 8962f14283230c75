"""Bundles from files and from endpoints that really serve TLS: each for its trust domain, none for ever."""

from __future__ import annotations

import http.server
import ipaddress
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from forestall.adapter.workload.bundles import LEAST_POLL_S, BundleFeeds, ByTrustDomain, Feed
from forestall.adapter.workload.endpoint import Endpoint, Spiffe
from forestall.adapter.workload.follow import Waits
from forestall.core.errors import SetupError
from forestall.proof.bundle import MAX_BUNDLE, Bundles
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.spiffe_id import parse_spiffe_id
from forestall.testing.authority import Authority, der, key_usage, new_key
from tests.unit.adapter.workload.conftest import NOW, WAIT_S, Clock

DOMAIN = "partner.example"
BOUND_MS = 600_000


def real_time() -> int:
    """OpenSSL checks certificates at the machine's time and takes no other."""
    return time.time_ns() // 1_000_000


def fault(call: Callable[[], object]) -> Fault | None:
    try:
        call()
    except InvalidProof as refused:
        return refused.fault
    return None


class Polled:
    """Feeds whose polls happen one at a time, when the test asks."""

    def __init__(self, *feeds: Feed, clock: Callable[[], int], web_roots: str | None = None) -> None:
        self.waited: list[float] = []
        self._changed = threading.Condition()
        self._let_through = 0
        waits = Waits(random=lambda: 0.0, wait=self._wait)
        self.feeds = BundleFeeds(feeds, clock=clock, waits=waits, web_roots=web_roots)

    def start(self) -> None:
        self.feeds.start()
        self._until(1)

    def again(self) -> None:
        with self._changed:
            self._let_through += 1
            self._changed.notify_all()
        self._until(self._let_through + 1)

    def close(self) -> None:
        with self._changed:
            self._let_through = 1 << 30
            self._changed.notify_all()
        self.feeds.close()

    def _until(self, waits: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.waited) >= waits, WAIT_S), self.feeds.problems

    def _wait(self, _closed: threading.Event, seconds: float) -> None:
        with self._changed:
            self.waited.append(seconds)
            turn = len(self.waited)
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._let_through >= turn)


@pytest.fixture
def poll() -> Iterator[Callable[..., Polled]]:
    made: list[Polled] = []

    def start(*feeds: Feed, **more: Any) -> Polled:
        made.append(Polled(*feeds, **more))
        made[-1].start()
        return made[-1]

    yield start
    for each in made:
        each.close()


def certificates(bundles: Bundles, now: int, trust_domain: str = DOMAIN) -> int:
    return len(bundles.x509(trust_domain, now).certificates)


# -- files


def test_a_file_is_read_and_read_again(tmp_path: Path, clock: Clock, poll: Callable[..., Polled]) -> None:
    source, file = Authority(DOMAIN, clock), tmp_path / "bundle.json"
    file.write_bytes(source.bundle())
    polled = poll(Feed(DOMAIN, file), clock=clock)
    assert certificates(polled.feeds, NOW) == 1
    assert [key.kid for key in polled.feeds.jwt(DOMAIN, NOW).keys.keys] == ["jwt-1"]
    source.rotate()
    file.write_bytes(source.bundle())
    polled.again()
    assert certificates(polled.feeds, NOW) == 2
    source.revoke_all()
    file.write_bytes(source.bundle())
    polled.again()
    assert certificates(polled.feeds, NOW) == 0
    assert polled.feeds.problems == ()
    assert polled.waited == [LEAST_POLL_S] * 3


def test_a_file_that_is_gone_ages_until_there_is_no_bundle(
    tmp_path: Path, clock: Clock, poll: Callable[..., Polled]
) -> None:
    source, file = Authority(DOMAIN, clock), tmp_path / "bundle.json"
    file.write_bytes(source.bundle())
    polled = poll(Feed(DOMAIN, file, BOUND_MS), clock=clock)
    file.unlink()
    clock.now += BOUND_MS
    polled.again()
    assert "No such file" in polled.feeds.problems[0]
    assert certificates(polled.feeds, clock.now) == 1
    assert fault(lambda: polled.feeds.x509(DOMAIN, clock.now + 1)) is Fault.NO_BUNDLE
    assert fault(lambda: polled.feeds.jwt(DOMAIN, clock.now + 1)) is Fault.NO_BUNDLE
    file.write_bytes(source.bundle())
    polled.again()
    assert certificates(polled.feeds, clock.now + 1) == 1


def test_a_bundle_that_was_polled_ages_even_when_nothing_failed(
    tmp_path: Path, clock: Clock, poll: Callable[..., Polled]
) -> None:
    file = tmp_path / "bundle.json"
    file.write_bytes(Authority(DOMAIN, clock).bundle())
    polled = poll(Feed(DOMAIN, file, BOUND_MS), clock=clock)
    assert certificates(polled.feeds, NOW + BOUND_MS) == 1
    assert fault(lambda: polled.feeds.x509(DOMAIN, NOW + BOUND_MS + 1)) is Fault.NO_BUNDLE


def test_a_bundle_does_not_go_back(tmp_path: Path, clock: Clock, poll: Callable[..., Polled]) -> None:
    source, file = Authority(DOMAIN, clock), tmp_path / "bundle.json"
    old = source.bundle()
    source.rotate()
    source.retire()
    file.write_bytes(source.bundle())
    polled = poll(Feed(DOMAIN, file), clock=clock)
    held = polled.feeds.x509(DOMAIN, NOW)
    file.write_bytes(old)
    polled.again()
    assert polled.feeds.x509(DOMAIN, NOW) == held
    assert "too_old" in polled.feeds.problems[0]


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff", b"[" * 100_000, b" " * (MAX_BUNDLE + 1)])
def test_a_damaged_file_is_a_problem_and_changes_nothing(
    tmp_path: Path, clock: Clock, poll: Callable[..., Polled], damage: bytes
) -> None:
    file = tmp_path / "bundle.json"
    file.write_bytes(Authority(DOMAIN, clock).bundle())
    polled = poll(Feed(DOMAIN, file), clock=clock)
    file.write_bytes(damage)
    polled.again()
    assert certificates(polled.feeds, NOW) == 1
    assert "cannot be used" in polled.feeds.problems[0]


def test_a_trust_domain_has_one_feed_and_others_none(tmp_path: Path, clock: Clock) -> None:
    waits = Waits(random=lambda: 0.0, wait=lambda closed, _: closed.wait())
    one, two = Feed(DOMAIN, tmp_path / "one"), Feed(DOMAIN, tmp_path / "two")
    with pytest.raises(SetupError, match="two bundles"):
        BundleFeeds([one, two], clock=clock, waits=waits)
    feeds = BundleFeeds([one], clock=clock, waits=waits)
    assert feeds.trust_domains == {DOMAIN}
    assert fault(lambda: feeds.x509("example.org", NOW)) is Fault.NO_BUNDLE
    feeds.close()


def test_a_feed_says_what_is_wrong_with_it(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="trust domain"):
        Feed("Partner.example", tmp_path)
    with pytest.raises(SetupError, match="at least 20 s"):
        Feed(DOMAIN, tmp_path, 19_999)


def test_a_configured_trust_domain_is_not_helped_out_by_the_others(
    tmp_path: Path, clock: Clock, poll: Callable[..., Polled]
) -> None:
    ours, theirs = tmp_path / "ours.json", tmp_path / "theirs.json"
    ours.write_bytes(Authority("example.org", clock).bundle())
    theirs.write_bytes(Authority(DOMAIN, clock).bundle())
    agent = poll(Feed("example.org", ours), clock=clock).feeds
    partner = poll(Feed(DOMAIN, theirs), clock=clock).feeds
    missing = poll(Feed(DOMAIN, tmp_path / "missing.json"), clock=clock).feeds
    assert certificates(ByTrustDomain({DOMAIN: partner}, agent), NOW) == 1
    assert certificates(ByTrustDomain({DOMAIN: partner}, agent), NOW, "example.org") == 1
    assert ByTrustDomain({DOMAIN: partner}, agent).jwt(DOMAIN, NOW).trust_domain == DOMAIN
    assert fault(lambda: ByTrustDomain({DOMAIN: missing}, partner).x509(DOMAIN, NOW)) is Fault.NO_BUNDLE
    assert fault(lambda: ByTrustDomain({DOMAIN: partner}, None).x509("example.org", NOW)) is Fault.NO_BUNDLE


# -- endpoints


class Server:
    """A web server with TLS. What it answers is `status`, `headers` and `body`, as they are when it is asked."""

    def __init__(self, certificate_chain: Path) -> None:
        self.status, self.body = 200, b""
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                self.send_response(outer.status)
                for name, value in {"Content-Length": str(len(outer.body)), **outer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(outer.body)

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """Clients that refuse our certificate are what half of these tests are about."""

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate_chain)
        self._http = Quiet(("127.0.0.1", 0), Handler)
        self._http.socket = context.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._http.server_port}/bundle?of=partner"

    def stop(self) -> None:
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(source: Authority, *, key: Any, chain: list[x509.Certificate]) -> Server:
        file = tmp_path / f"server-{len(servers)}.pem"
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        file.write_bytes(pem + b"".join(each.public_bytes(Encoding.PEM) for each in chain))
        servers.append(Server(file))
        servers[-1].body = source.bundle()
        return servers[-1]

    yield start
    for each in servers:
        each.stop()


def as_workload(serve: Callable[..., Server], source: Authority, path: str = "/bundle", **more: Any) -> Server:
    key = new_key()
    leaf = source.certify("bundle", key, source.x509[-1], uris=(source.id + path,), **more)
    return serve(source, key=key, chain=[leaf])


def spiffe_feed(server: Server, source: Authority, tmp_path: Path, **changes: Any) -> Feed:
    initial = tmp_path / "initial.json"
    initial.write_bytes(source.bundle())
    known = {"id": parse_spiffe_id(source.id + "/bundle"), "initial": initial, **changes}
    return Feed(DOMAIN, Endpoint(server.url, Spiffe(**known)))


def test_a_workload_serves_its_trust_domains_bundle_and_is_followed_through_a_rotation(
    tmp_path: Path, serve: Callable[..., Server], poll: Callable[..., Polled]
) -> None:
    source = Authority(DOMAIN, real_time)
    server = as_workload(serve, source)
    polled = poll(spiffe_feed(server, source, tmp_path), clock=real_time)
    assert polled.feeds.problems == ()
    assert certificates(polled.feeds, real_time()) == 1
    assert server.asked == ["/bundle?of=partner"]
    (tmp_path / "initial.json").unlink()  # from here on the last bundle says who may serve the next
    source.rotate()
    server.body = source.bundle()
    polled.again()
    assert certificates(polled.feeds, real_time()) == 2
    assert polled.waited == [300, 300]


def test_the_hint_says_when_to_look_again_within_reason(
    tmp_path: Path, serve: Callable[..., Server], poll: Callable[..., Polled]
) -> None:
    source = Authority(DOMAIN, real_time)
    server = as_workload(serve, source)
    polled = poll(spiffe_feed(server, source, tmp_path), clock=real_time)
    for hint in (60, 1, 100_000):
        source.refresh_hint_s = hint
        server.body = source.bundle()
        polled.again()
    document = json.loads(source.bundle())
    del document["spiffe_refresh_hint"]
    server.body = json.dumps(document).encode()
    polled.again()
    assert polled.waited == [300, 60, LEAST_POLL_S, BOUND_MS / 2000, 300]


@pytest.mark.parametrize(
    "who",
    [
        lambda source: {"path": "/other"},
        lambda source: {"path": "/bundle/below"},
        lambda source: {"lifetime_ms": -30_000},
        lambda source: {"extensions": [(x509.BasicConstraints(ca=True, path_length=None), True)]},
        lambda source: {"extensions": [(key_usage(authority=False), True)]},
    ],
)
def test_whoever_else_serves_a_bundle_is_not_heard(
    tmp_path: Path,
    serve: Callable[..., Server],
    poll: Callable[..., Polled],
    who: Callable[[Authority], dict[str, Any]],
) -> None:
    source = Authority(DOMAIN, real_time)
    server = as_workload(serve, source, **who(source))
    polled = poll(spiffe_feed(server, source, tmp_path), clock=real_time)
    assert fault(lambda: polled.feeds.x509(DOMAIN, real_time())) is Fault.NO_BUNDLE
    assert len(polled.feeds.problems) == 1
    assert server.asked == []


def test_a_workload_of_that_name_from_another_authority_is_not_heard(
    tmp_path: Path, serve: Callable[..., Server], poll: Callable[..., Polled]
) -> None:
    source, forged = Authority(DOMAIN, real_time), Authority(DOMAIN, real_time)
    server = as_workload(serve, forged)
    polled = poll(spiffe_feed(server, source, tmp_path), clock=real_time)
    assert "not who it should be" in polled.feeds.problems[0]
    assert fault(lambda: polled.feeds.x509(DOMAIN, real_time())) is Fault.NO_BUNDLE
    assert server.asked == []


def test_a_certificate_that_our_clock_calls_old_is_not_heard(
    tmp_path: Path, serve: Callable[..., Server], poll: Callable[..., Polled]
) -> None:
    source = Authority(DOMAIN, real_time)
    server = as_workload(serve, source)
    polled = poll(spiffe_feed(server, source, tmp_path), clock=lambda: real_time() + 2 * 3_600_000)
    assert "expired" in polled.feeds.problems[0]
    assert server.asked == []


def test_an_endpoint_of_another_trust_domain_is_known_by_that_ones_bundle(
    tmp_path: Path, serve: Callable[..., Server], poll: Callable[..., Polled]
) -> None:
    source, host = Authority(DOMAIN, real_time), Authority("host.example", real_time)
    server = as_workload(serve, host)
    server.body = source.bundle()
    initial = tmp_path / "host.json"
    initial.write_bytes(host.bundle())
    known = Spiffe(parse_spiffe_id("spiffe://host.example/bundle"), initial)
    polled = poll(Feed(DOMAIN, Endpoint(server.url, known)), clock=real_time)
    assert polled.feeds.problems == ()
    assert polled.feeds.x509(DOMAIN, real_time()).certificates == (source.x509[0].certificate,)
    host.revoke_all()
    initial.write_bytes(host.bundle())
    polled.again()
    assert "untrusted" in polled.feeds.problems[0]


def test_a_web_endpoint_is_known_by_its_address(serve: Callable[..., Server], poll: Callable[..., Polled]) -> None:
    source, web = Authority(DOMAIN, real_time), Authority("web.example", real_time)
    key = new_key()
    usual = [
        (x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False),
        (key_usage(authority=False), True),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(web.x509[0].key.public_key()), False),
    ]
    leaf = web.certify("web", key, web.x509[0], extensions=usual)
    server = serve(source, key=key, chain=[leaf])
    roots = ssl.DER_cert_to_PEM_cert(der(web.x509[0].certificate))
    feed = Feed(DOMAIN, Endpoint(server.url))
    assert certificates(poll(feed, clock=real_time, web_roots=roots).feeds, real_time()) == 1
    assert "not who it should be" in poll(feed, clock=real_time).feeds.problems[0]
    by_name = Feed(DOMAIN, Endpoint(server.url.replace("127.0.0.1", "localhost")))
    assert "not who it should be" in poll(by_name, clock=real_time, web_roots=roots).feeds.problems[0]
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("status", "headers", "body", "problem"),
    [
        (404, {}, b"", "status 404"),
        (500, {}, b"", "status 500"),
        (302, {"Location": "/bundle"}, b"", "status 302"),
        (301, {"Location": "https://example.org/bundle"}, b"", "status 301"),
        (204, {}, b"", "status 204"),
        (200, {}, b"", "malformed"),
        (200, {}, b" " * (MAX_BUNDLE + 1), "more than"),
        (200, {"Content-Length": "100"}, b'{"keys":[]}', "early"),
        (200, {}, b'{"keys":[],"spiffe_sequence":0}', "too_old"),
    ],
)
def test_an_answer_that_is_no_bundle_changes_nothing(
    tmp_path: Path,
    serve: Callable[..., Server],
    poll: Callable[..., Polled],
    status: int,
    headers: dict[str, str],
    body: bytes,
    problem: str,
) -> None:
    source = Authority(DOMAIN, real_time)
    server = as_workload(serve, source)
    polled = poll(spiffe_feed(server, source, tmp_path), clock=real_time)
    server.status, server.headers, server.body = status, {**headers, "Connection": "close"}, body
    polled.again()
    assert problem in polled.feeds.problems[0]
    assert certificates(polled.feeds, real_time()) == 1
    assert len(server.asked) == 2


def test_an_endpoint_that_is_down_is_asked_again_sooner(
    tmp_path: Path, serve: Callable[..., Server], poll: Callable[..., Polled]
) -> None:
    source = Authority(DOMAIN, real_time)
    server = as_workload(serve, source)
    feed = spiffe_feed(server, source, tmp_path)
    server.stop()
    polled = poll(feed, clock=real_time)
    polled.again()
    assert "does not answer" in polled.feeds.problems[0]
    assert polled.waited == [0.05, 0.1]


def test_closing_ends_a_fetch_that_hangs(tmp_path: Path) -> None:
    source = Authority(DOMAIN, real_time)
    initial = tmp_path / "initial.json"
    initial.write_bytes(source.bundle())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        feed = Feed(DOMAIN, Endpoint(url, Spiffe(parse_spiffe_id(source.id + "/bundle"), initial)))
        waits = Waits(random=lambda: 0.0, wait=lambda closed, seconds: closed.wait(seconds))
        feeds = BundleFeeds([feed], clock=real_time, waits=waits).start()
        connection, _ = silent.accept()
        with connection:
            feeds.close()
    assert not any(each.name == f"bundle-{DOMAIN}" for each in threading.enumerate())
    assert fault(lambda: feeds.x509(DOMAIN, real_time())) is Fault.NO_BUNDLE


@pytest.mark.parametrize(
    "url",
    ["", "http://example.org/", "https://", "https:///x", "https://u@example.org/", "https://u:p@example.org/",
     "https://example.org/#x", "https://example.org:0/", "https://example.org:99999/", "https://[::1/"],
)  # fmt: skip
def test_an_endpoint_is_an_https_address(url: str) -> None:
    with pytest.raises(SetupError, match="https://host"):
        Endpoint(url)
