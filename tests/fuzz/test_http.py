"""Whatever comes, the reader gives requests or refuses; and how it was cut up makes no difference."""

from __future__ import annotations

from itertools import pairwise

import h11
from hypothesis import example, given
from hypothesis import strategies as st

from forestall.server.http.reader import Message, NotTaken, Reader

PIECES = [
    b"GET / HTTP/1.1\r\n",
    b"POST /a?b HTTP/1.1\r\n",
    b"Host: h\r\n",
    b"Content-Length: 3\r\n",
    b"Content-Length: 0\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close\r\n",
    b"Upgrade: h2c\r\n",
    b"X: y\r\n",
    b" folded\r\n",
    b"\r\n",
    b"\n",
    b"\r",
    b"abc",
    b"0\r\n\r\n",
    b"\0",
]
STREAMS = st.one_of(st.binary(max_size=200), st.lists(st.sampled_from(PIECES), max_size=20).map(b"".join))


def read_all(chunks: list[bytes]) -> list[Message | int]:
    """What is read of them, one request after the other; the last may be the status of a refusal."""
    reader, found = Reader(max_header_bytes=1024, max_body_bytes=16), []
    for chunk in chunks:
        reader.feed(chunk)
        while True:
            try:
                message = reader.next()
            except NotTaken as refusal:
                return [*found, int(refusal.status)]
            if message is None:
                break
            found.append(message)
            reader.wire.send(h11.Response(status_code=204, headers=[], reason=b""))
            reader.wire.send(h11.EndOfMessage())
            if reader.wire.our_state is not h11.DONE:
                return found
            reader.start_next()
    return found


@given(STREAMS, st.lists(st.integers(0, 400), max_size=8))
@example(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc" * 3, [10, 60, 61])
def test_it_reads_or_refuses_and_the_cuts_do_not_matter(data: bytes, cuts: list[int]) -> None:
    at = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[start:end] for start, end in pairwise(at) if end > start]
    whole = read_all([data] if data else [])
    assert read_all(pieces) == whole
    for message in whole:
        if isinstance(message, Message):
            assert message.target.startswith("/")
            assert "transfer-encoding" not in message.headers
            assert len(message.body) == int(message.headers.get("content-length", "0")) <= 16


@given(st.lists(st.binary(max_size=16), min_size=1, max_size=5))
def test_what_was_sent_is_what_is_read(bodies: list[bytes]) -> None:
    head = b"POST /%d HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    data = b"".join(head % (number, len(body)) + body for number, body in enumerate(bodies))
    read = [(each.target, each.body) for each in read_all([data]) if isinstance(each, Message)]
    assert read == [(f"/{number}", body) for number, body in enumerate(bodies)]
