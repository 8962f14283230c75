"""One line, read strictly."""

from __future__ import annotations

import json

import pytest

from forestall.core.errors import InvalidInput
from forestall.pep.mcp.message import (
    Kind,
    NotJson,
    is_batch,
    read_client,
    read_server,
    require_one_case,
    salvage_id,
    split_batch,
)

PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (PING, Kind.REQUEST),
        (PING + b"\r", Kind.REQUEST),
        (b'{"jsonrpc":"2.0","method":"m","params":{}}', Kind.NOTIFICATION),
        (b'{"jsonrpc":"2.0","id":"a","result":{}}', Kind.ANSWER),
        (b'{"jsonrpc":"2.0","id":null,"error":{}}', Kind.ANSWER),
        (b'{"jsonrpc":"2.0","id":1,"method":"m","extra":1}', Kind.REQUEST),
    ],
)
def test_what_is_understood(line: bytes, kind: Kind) -> None:
    assert read_client(line).kind is kind
    assert read_server(line).line == line


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b"\xef\xbb\xbf" + PING,
        b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":{"b":1,"b":1}}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":"\\ud800"}}',
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":' + b"[" * 100 + b"]" * 100 + b"}}",
        b'{"jsonrpc":"2.0","id":1,"method":"m","params":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
        b'{"jsonrpc":"2.0","id":1,\r"method":"ping"}',
        b'{"jsonrpc":"2.0","id":1,\n"method":"ping"}',
        PING + b" " * 17_000_000,
        PING + PING,
    ],
)
def test_what_is_not_json_to_every_reader(line: bytes) -> None:
    for read in (read_client, read_server):
        with pytest.raises(NotJson):
            read(line)


@pytest.mark.parametrize(
    "value",
    [
        [],
        1,
        None,
        "x",
        {},
        {"id": 1, "method": "ping"},
        {"jsonrpc": "1.0", "id": 1, "method": "ping"},
        {"jsonrpc": "2.0", "id": None, "method": "ping"},
        {"jsonrpc": "2.0", "id": True, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1.0, "method": "ping"},
        {"jsonrpc": "2.0", "id": "", "method": "ping"},
        {"jsonrpc": "2.0", "id": {}, "method": "ping"},
        {"jsonrpc": "2.0", "id": 1, "method": ""},
        {"jsonrpc": "2.0", "id": 1, "method": "m" * 129},
        {"jsonrpc": "2.0", "id": 1, "method": ["ping"]},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": []},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": None},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": 1, "A": 2}},
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "result": {}},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "METHOD": "tools/call"},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "Params": {}},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "param\u017f": {}},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}},
        {"jsonrpc": "2.0", "id": 1, "result": {}, "params": {}},
        {"jsonrpc": "2.0", "id": 1, "result": []},
        {"jsonrpc": "2.0", "id": None, "result": {}},
        {"jsonrpc": "2.0", "result": {}},
        {"jsonrpc": "2.0", "id": 1},
        {"jsonrpc": "2.0", "id": 1, "method": "m", "x": 1, "X": 2},
    ],
)
def test_what_is_json_and_no_message(value: object) -> None:
    line = json.dumps(value).encode()
    for read in (read_client, read_server):
        with pytest.raises(InvalidInput) as refused:
            read(line)
        assert not isinstance(refused.value, NotJson)


def test_a_number_must_be_exact_from_the_client_alone() -> None:
    line = b'{"jsonrpc":"2.0","id":1,"result":{"ns":1763717000000000001}}'
    with pytest.raises(NotJson):
        read_client(line)
    assert read_server(line).value["result"]["ns"] == 1763717000000000001


def test_members_equal_but_for_case_however_deep() -> None:
    require_one_case({"a": [{"b": 1, "c": 2}], "b": {}})
    for value in ({"a": [{"b": 1, "B": 2}]}, {"K": 1, "\u212a": 2}, [{"straße": 1, "STRASSE": 2}]):
        with pytest.raises(InvalidInput):
            require_one_case(value)


@pytest.mark.parametrize("batch", [b"[]", b"[1", b'[{"a":1,"a":2}]', b"[" + b",".join([b"{}"] * 101) + b"]", b"[[\r]]"])
def test_a_batch_that_is_none(batch: bytes) -> None:
    assert is_batch(b" " + batch)
    with pytest.raises(InvalidInput):
        split_batch(batch, 1_000_000)


def test_a_batch_is_split_as_it_stood() -> None:
    assert split_batch(b' [ {"a": 1e5} ,{"b":[1,2]}, 3,"],[" ] ', 1000) == [
        b'{"a": 1e5}',
        b'{"b":[1,2]}',
        b"3",
        b'"],["',
    ]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"jsonrpc":"2.0","id":7,"result":{"content":[', 7),
        (b'{"id":"a-b","jsonrpc":"2.0","method":', "a-b"),
        (b'{"result":{"a":1,"a":2},"jsonrpc":"2.0","id":9}', 9),
        (b'{"result":{"a":1,"a":2},"id":"x","jsonrpc":"2.0"}\r', "x"),
        (b'{"jsonrpc":"2.0","id":1.5,"x":', None),
        (b'{"jsonrpc":"2.0","id":"\\u0041","x":', None),
        (b'{"jsonrpc":"2.0","id":12345678901234567890,"x":', None),
        (b"", None),
        (b"{", None),
        (b'{"params":{"id":5}}', None),
    ],
)
def test_an_id_is_salvaged_or_not(line: bytes, found: object) -> None:
    assert salvage_id(line) == found
