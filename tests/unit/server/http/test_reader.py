from __future__ import annotations

import pytest

from forestall.server.http.reader import Message, NotTaken, Reader

GOOD = b"POST /token?a=b HTTP/1.1\r\nHost: forestall.example\r\nContent-Length: 5\r\n\r\nhello"


def reader(head: int = 16_384, body: int = 64) -> Reader:
    return Reader(max_header_bytes=head, max_body_bytes=body)


def read(data: bytes, **limits: int) -> Message | None:
    one = reader(**limits)
    one.feed(data)
    return one.next()


def refused(data: bytes, status: int, **limits: int) -> None:
    with pytest.raises(NotTaken) as caught:
        read(data, **limits)
    assert caught.value.status == status


def test_a_whole_request() -> None:
    headers = {"host": "forestall.example", "content-length": "5"}
    assert read(GOOD) == Message("POST", "/token?a=b", headers, "forestall.example", b"hello")


def test_it_is_the_same_when_it_comes_byte_by_byte() -> None:
    one = reader()
    for number, byte in enumerate(GOOD, 1):
        one.feed(bytes([byte]))
        message = one.next()
        assert (message is None) == (number < len(GOOD))
        assert one.begun == (number < len(GOOD))
    assert message == read(GOOD)


def test_what_comes_behind_is_the_next_request() -> None:
    one = reader()
    one.feed(GOOD + b"GET /second HTTP/1.1\r\nHost: h\r\n\r\n")
    assert one.next() == read(GOOD)
    assert one.begun
    answer(one)
    second = one.next()
    assert second is not None
    assert second.target == "/second"
    assert not one.begun


def answer(one: Reader) -> None:
    import h11

    one.wire.send(h11.Response(status_code=204, headers=[], reason=b"No Content"))
    one.wire.send(h11.EndOfMessage())
    one.start_next()


def test_lists_may_come_again_and_are_joined() -> None:
    message = read(b"GET / HTTP/1.1\r\nHost: h\r\nAccept: a\r\nAccept: b\r\n\r\n")
    assert message is not None
    assert message.headers["accept"] == "a, b"


LINES = {
    "two hosts": b"Host: h\r\nHost: h",
    "two proofs": b"Host: h\r\nDPoP: a\r\nDPoP: b",
    "two authorizations in other cases": b"Host: h\r\nAuthorization: a\r\nAUTHORIZATION: b",
    "no host": b"Accept: a",
    "two lengths": b"Host: h\r\nContent-Length: 0\r\nContent-Length: 0",
    "two lengths in one": b"Host: h\r\nContent-Length: 0, 0",
    "a signed length": b"Host: h\r\nContent-Length: +0",
    "a negative length": b"Host: h\r\nContent-Length: -1",
    "a length in hex": b"Host: h\r\nContent-Length: 0x0",
    "a length with a blank": b"Host: h\r\nContent-Length: 1 0",
    "a length in other digits": "Host: h\r\nContent-Length: \u0661".encode(),
    "a length and a coding": b"Host: h\r\nContent-Length: 0\r\nTransfer-Encoding: chunked",
    "a coding and a length": b"Host: h\r\nTransfer-Encoding: chunked\r\nContent-Length: 0",
    "a folded header": b"Host: h\r\nX: a\r\n b",
    "a header that begins with a tab": b"Host: h\r\n\tX: a",
    "a blank before the colon": b"Host : h",
    "a header without a name": b": h\r\nHost: h",
    "a header without a colon": b"Host: h\r\nX",
    "a bare line feed": b"Host: h\nX: a",
    "a bare carriage return": b"Host: h\r\nX: a\rY: b",
    "a zero": b"Host: h\r\nX: a\0b",
    "a control character": b"Host: h\r\nX: a\x01b",
    "an escape sequence": b"Host: h\r\nX: \x1b[31m",
    "no ASCII": b"Host: h\r\nX: \xe4",
}


@pytest.mark.parametrize("lines", LINES.values(), ids=LINES)
def test_headers_that_could_be_read_in_two_ways(lines: bytes) -> None:
    refused(b"GET / HTTP/1.1\r\n" + lines + b"\r\n\r\n", 400)


FIRST = {
    "absolute form": b"GET http://h/ HTTP/1.1",
    "absolute form of another": b"GET https://elsewhere.example/ HTTP/1.1",
    "authority form": b"CONNECT h:443 HTTP/1.1",
    "asterisk form": b"OPTIONS * HTTP/1.1",
    "a fragment": b"GET /#a HTTP/1.1",
    "a fragment in the query": b"GET /?a#b HTTP/1.1",
    "no target": b"GET  HTTP/1.1",
    "two blanks": b"GET  / HTTP/1.1",
    "a blank in the target": b"GET /a b HTTP/1.1",
    "a tab": b"GET\t/ HTTP/1.1",
    "a blank at the end": b"GET / HTTP/1.1 ",
    "no version": b"GET /",
    "another protocol": b"GET / HTTPS/1.1",
    "two digits": b"GET / HTTP/1.10",
    "a method with a blank in front": b" GET / HTTP/1.1",
    "an empty line in front": b"\r\nGET / HTTP/1.1",
    "no ASCII": b"GET /\xe4 HTTP/1.1",
    "the start of HTTP/2": b"PRI * HTTP/2.0",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
}


@pytest.mark.parametrize("line", FIRST.values(), ids=FIRST)
def test_request_lines_that_are_none(line: bytes) -> None:
    with pytest.raises(NotTaken) as caught:
        read(line + b"\r\nHost: h\r\n\r\n")
    assert caught.value.status in {400, 505}


def test_a_coding_alone_wants_a_length() -> None:
    refused(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 411)


def test_other_versions() -> None:
    refused(b"GET / HTTP/1.0\r\nHost: h\r\n\r\n", 505)


def test_an_expectation_that_nobody_knows() -> None:
    refused(b"POST / HTTP/1.1\r\nHost: h\r\nExpect: magic\r\n\r\n", 417)


def test_a_bare_line_feed_is_refused_before_the_head_is_whole() -> None:
    refused(b"GET / HTTP/1.1\nHost: h", 400)


@pytest.mark.parametrize(("size", "good"), [(64, True), (65, False)])
def test_a_body_of_exactly_the_limit_and_one_byte_over_it(size: int, good: bool) -> None:
    data = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n" % size
    if good:
        message = read(data + b"x" * size, body=64)
        assert message is not None
        assert len(message.body) == size
    else:
        refused(data, 413, body=64)


@pytest.mark.parametrize(("more", "good"), [(0, True), (1, False)])
def test_a_head_of_exactly_the_limit_and_one_byte_over_it(more: int, good: bool) -> None:
    start, end = b"GET / HTTP/1.1\r\nHost: h\r\nX: ", b"\r\n\r\n"
    data = start + b"x" * (1024 + more - len(start) - len(end)) + end
    if good:
        assert read(data, head=1024) is not None
    else:
        refused(data, 431, head=1024)
        refused(data[:-4] + b"x" * 4, 431, head=1024)


def test_no_more_headers_than_a_hundred() -> None:
    def many(count: int) -> bytes:
        lines = b"".join(b"X-%d: a\r\n" % number for number in range(count - 1))
        return b"GET / HTTP/1.1\r\nHost: h\r\n" + lines + b"\r\n"

    assert read(many(100)) is not None
    refused(many(101), 431)


def test_a_client_that_waits_for_leave_to_send_its_body() -> None:
    one = reader()
    one.feed(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert one.next() is None
    assert one.expects_continue
    one.feed(b"hi")
    assert not one.expects_continue
    message = one.next()
    assert message is not None
    assert message.body == b"hi"
