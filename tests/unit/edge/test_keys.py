"""Keys of a decision point: fixed, in a file, at a URL. What cannot be read counts on for a while, and then no more."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from forestall.proof.algorithm import Algorithm
from forestall.proof.jwk import key_set
from forestall_edge import KeyFile, KeyUrl, Reason, Refused, read_trust
from forestall_edge.keys import MAX_DOCUMENT, MAX_KEYS, Polled, Trust
from tests.edges import ISSUER, SIGNING, document, refused
from tests.tokens import key

OTHER = key(Algorithm.ES256, "next")
WAIT_S = 60


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_document_names_issuer_keys_and_epoch() -> None:
    trust = read_trust(document(epoch=7))
    assert (trust.issuer, trust.epoch, list(trust.keys)) == (ISSUER, 7, [SIGNING.public.kid])


def test_a_plain_key_set_wants_an_issuer() -> None:
    plain = json.dumps(key_set([SIGNING, key()]).to_json()).encode()
    with refused(Reason.UNAVAILABLE):
        read_trust(plain)
    trust = read_trust(plain, ISSUER)
    assert list(trust.keys) == [SIGNING.public.kid]  # the other is of a kind that signs no permits
    assert trust.epoch == 0
    with refused(Reason.UNAVAILABLE):
        read_trust(document(), "another")


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        b"{",
        b"[]",
        b'{"keys":{}}',
        document(issuer=""),
        document(epoch="4"),
        document(epoch=True),
        document(keys=[1]),
        document(keys=[{**SIGNING.public.to_json(), "d": "AA"}]),
        document(keys=[SIGNING.public.to_json()] * 2),
        document(keys=[{**SIGNING.public.to_json(), "x": "AA"}]),
        document(keys=[{**SIGNING.public.to_json(), "x": SIGNING.public.to_json()["y"]}]),
        document(keys=[{"kty": "oct"}] * (MAX_KEYS + 1)),
        b'{"issuer":"a","issuer":"b","keys":[]}',
        b" " * (MAX_DOCUMENT + 1),
    ],
)
def test_a_document_that_is_none_is_refused(wrong: bytes) -> None:
    with pytest.raises(Refused):
        read_trust(wrong)


def replace(path: Path, data: bytes) -> None:
    beside = path.with_suffix(".new")
    beside.write_bytes(data)
    beside.replace(path)


def test_a_file_is_looked_at_again(tmp_path: Path) -> None:
    path, clock = tmp_path / "permits.json", Clock()
    keys = KeyFile(path, steady=clock, max_age_s=100)
    with refused(Reason.UNAVAILABLE):
        keys.trust()
    replace(path, document())
    with refused(Reason.UNAVAILABLE):
        keys.trust()
    clock.now = 1.0
    assert keys.trust().epoch == 4
    replace(path, document(OTHER, epoch=5))
    assert keys.trust().epoch == 4
    clock.now = 2.0
    assert (keys.trust().epoch, list(keys.trust().keys)) == (5, [OTHER.public.kid])
    replace(path, b"{")
    clock.now = 50.0
    assert keys.trust().epoch == 5
    clock.now = 103.0
    with refused(Reason.UNAVAILABLE):
        keys.trust()


class Gate:
    """A lock that tells when somebody waits for it."""

    def __init__(self, asked: threading.Event) -> None:
        self._lock, self._asked = threading.Lock(), asked

    def acquire(self, *, blocking: bool) -> bool:
        if blocking and self._lock.locked():
            self._asked.set()
        return self._lock.acquire(blocking=blocking)

    def release(self) -> None:
        self._lock.release()


@pytest.mark.parametrize("before", ["nothing", "too old"])
def test_who_comes_while_they_are_read_for_the_first_time_waits_for_them(before: str) -> None:
    """A server's first calls may be many at once; none of them is refused for keys that are just being read."""
    reading, second = threading.Event(), threading.Event()

    class Slow(Polled):
        def _read(self) -> Trust:
            if clock.now:
                reading.set()
                assert second.wait(WAIT_S)
            elif before == "nothing":
                raise OSError
            return read_trust(document(epoch=int(clock.now)))

    clock = Clock()
    keys = Slow(poll_s=1, max_age_s=10, steady=clock)
    keys._lock = Gate(second)  # type: ignore[assignment]
    with suppress(Refused):
        keys.trust()
    clock.now = 100.0
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(keys.trust)
        assert reading.wait(WAIT_S)
        other = pool.submit(keys.trust)
        other.add_done_callback(lambda _: second.set())
        assert [each.result(WAIT_S).epoch for each in (first, other)] == [100, 100]


@pytest.fixture
def served() -> Iterator[tuple[str, dict[str, Any]]]:
    says: dict[str, Any] = {"status": 200, "body": document(), "headers": {}}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(says["status"])
            for name, value in says["headers"].items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(says["body"])

        def log_message(self, *_: Any) -> None:
            says["asked"] = says.get("asked", 0) + 1

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/keys", says
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_url_is_asked_again_and_never_followed(served: tuple[str, dict[str, Any]]) -> None:
    url, says = served
    clock = Clock()
    keys = KeyUrl(url, steady=clock, max_age_s=100)
    assert keys.trust().epoch == 4
    assert keys.trust().epoch == 4
    assert says["asked"] == 1
    clock.now = 5.0
    says["body"] = document(OTHER, epoch=6)
    assert keys.trust().epoch == 6
    for wrong in ({"status": 500}, {"status": 302, "headers": {"Location": url + "/2"}}, {"body": b" " * 70_000}):
        clock.now += 5.0
        before = dict(says)
        says.update(wrong)
        assert keys.trust().epoch == 6
        says.update({name: before[name] for name in wrong})
    says["status"] = 500
    clock.now = 200.0
    with refused(Reason.UNAVAILABLE):
        keys.trust()


@pytest.mark.parametrize("url", ["http://keys.example/", "file:///etc/passwd", "ftp://127.0.0.1/", "keys"])
def test_another_kind_of_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        KeyUrl(url)
