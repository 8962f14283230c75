"""Ways to get a call past the gateway, or an answer past the ledger, without their being seen for what they are.

Each is shown to be real first where the other side is a real reader: the SDK's server reads text with universal
newlines.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.mcpkit.decision_point import DecisionPoint, Frame, deny, permit_all
from tests.mcpkit.session import Session, decision, gateway

SDK = [sys.executable, str(Path(__file__).parents[1] / "mcpkit" / "full_server.py")]
CALL = {"jsonrpc": "2.0", "id": 66, "method": "tools/call", "params": {"name": "mark", "arguments": {"text": "got in"}}}


def denies_calls(frame: Frame) -> Frame | None:
    return deny() if frame["type"] == "ask" else permit_all(frame)


@pytest.fixture
def home(gateway_home: Path, scripted: DecisionPoint) -> Path:
    """Of a decision point that denies every call."""
    scripted.answer = denies_calls
    return gateway_home


@pytest.fixture(scope="module")
def to_sdk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Session, Path]]:
    """One session with the SDK's server, before which every call is denied; and what is there once it acted."""
    marker = tmp_path_factory.mktemp("sdk") / "marker"
    with tempfile.TemporaryDirectory(prefix="fg-") as name:
        (Path(name) / "run").mkdir()
        point = DecisionPoint(Path(name) / "run" / "socket", denies_calls)
        try:
            with Session(gateway(Path(name), SDK), MARKER=str(marker)) as session:
                session.initialize()
                yield session, marker
                session.end()
        finally:
            point.close()
    assert not marker.exists()


def smuggled(line: bytes, session: Session, marker: Path) -> bool:
    """Did the line make the server act? A ping after it says when it has been read."""
    with session:
        session.initialize()
        session.write(line)
        session.send({"jsonrpc": "2.0", "id": "after", "method": "ping"})
        session.answer_to("after")
        session.end()
    return marker.exists()


def in_carriage_returns() -> bytes:
    return b'{"jsonrpc":"2.0","method":"notifications/roots/list_changed","params":{"_meta":{"x":\r%s\r}}}' % (
        json.dumps(CALL).encode()
    )


def test_a_call_between_carriage_returns_is_real(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    assert smuggled(in_carriage_returns(), Session(SDK, MARKER=str(marker)), marker)


def test_a_call_between_carriage_returns_goes_nowhere(home: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    assert not smuggled(in_carriage_returns(), Session(gateway(home, SDK), MARKER=str(marker)), marker)


def relayed(method: str, **members: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": 66, "method": method, **members}).encode()


SMUGGLED: dict[str, bytes] = {
    "plain": json.dumps(CALL).encode(),
    "an escaped method": json.dumps(CALL).encode().replace(b"tools/call", b"tools\\u002fcall"),
    "a second method": json.dumps(CALL).encode().replace(b'"id"', b'"method":"ping","id"'),
    "a method in capitals, behind an answer": json.dumps(
        {"jsonrpc": "2.0", "id": 66, "result": {}, "METHOD": "tools/call", "PARAMS": CALL["params"]}
    ).encode(),
    "a method in capitals, beside another": relayed("ping", Method="tools/call", params=CALL["params"]),
    "a method in another case": relayed("Tools/Call", params=CALL["params"]),
    "a method with a space": relayed("tools/call ", params=CALL["params"]),
    "a method with a zero": relayed("tools/call\0", params=CALL["params"]),
    "no id": json.dumps({name: value for name, value in CALL.items() if name != "id"}).encode(),
    "an id of null": json.dumps({**CALL, "id": None}).encode(),
    "an id that is a fraction": json.dumps({**CALL, "id": 66.0}).encode(),
    "a batch": json.dumps([CALL]).encode(),
    "a batch in a batch": json.dumps([[CALL]]).encode(),
    "a name twice": json.dumps(CALL).encode().replace(b'"name"', b'"name":"harmless","name"'),
    "a name in two cases": json.dumps(CALL).encode().replace(b'"name"', b'"NAME":"mark","name"'),
    "an answer too": json.dumps({**CALL, "result": {}}).encode(),
    "two in a line": json.dumps(CALL).encode() + json.dumps(CALL).encode(),
    "a byte order mark": b"\xef\xbb\xbf" + json.dumps(CALL).encode(),
    "UTF-16": json.dumps(CALL).encode("utf-16"),
    "a form feed": relayed("ping", params={"x": "a"}).replace(b'"a"', b"\x0c" + json.dumps(CALL).encode() + b"\x0c"),
    "a line separator": relayed("ping", params={"x": 1}).replace(
        b"1}", b"\xe2\x80\xa8" + json.dumps(CALL).encode() + b"}"
    ),
    "a long line before it": b"[" + b" " * 4_200_000 + json.dumps(CALL).encode(),
    "a deep one": json.dumps(CALL).encode().replace(b'"got in"', b"[" * 70 + b"]" * 70),
}


@pytest.mark.parametrize("how", SMUGGLED)
def test_no_line_makes_the_server_see_a_call(home: Path, tmp_path: Path, how: str) -> None:
    wire = tmp_path / "wire"
    assert not smuggled(SMUGGLED[how], Session(gateway(home), WIRE=str(wire)), tmp_path / "marker")
    seen = [json.loads(line) for line in wire.read_bytes().splitlines()]
    assert all("tools/call" not in json.dumps(message).casefold() for message in seen)


@pytest.mark.parametrize("how", SMUGGLED)
def test_no_line_makes_the_sdks_server_act(to_sdk: tuple[Session, Path], how: str) -> None:
    session, marker = to_sdk
    session.write(SMUGGLED[how])
    session.send({"jsonrpc": "2.0", "id": f"after {how}", "method": "ping"})
    session.answer_to(f"after {how}")
    assert not marker.exists()


def test_an_answer_between_carriage_returns_is_not_passed_on(gateway_home: Path, scripted: DecisionPoint) -> None:
    def withholds(frame: Frame) -> Frame | None:
        return {"type": "withhold", "sentence": "No."} if frame["type"] == "performed" else permit_all(frame)

    scripted.answer = withholds
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        client.call(1, "carriage_return", id=1)
        line = client.line()
        assert b"smuggled" not in line
        assert decision(json.loads(line))["reason"] == "outcome_unknown"


@pytest.mark.parametrize(
    "lie", [{"tool": "plain/other"}, {"digest": "sha256:" + "0" * 64}, {"expires_at": 1}, {"start_by": 1}]
)
def test_a_permit_for_something_else_starts_nothing(
    gateway_home: Path, scripted: DecisionPoint, tmp_path: Path, lie: dict[str, object]
) -> None:
    def lies(frame: Frame) -> Frame | None:
        answer = permit_all(frame)
        if answer is not None and "permit" in answer:
            answer["permit"] |= lie
        return answer

    scripted.answer = lies
    with Session(gateway(gateway_home), WIRE=str(tmp_path / "wire")) as client:
        client.initialize()
        client.call(1, "echo")
        assert decision(client.answer_to(1))["reason"] == "unavailable"
    assert b"tools/call" not in (tmp_path / "wire").read_bytes()
    assert [frame["fate"] for frame in scripted.wait_for("performed")] == ["not_started"]


def test_one_permit_for_two_calls_starts_one(gateway_home: Path, scripted: DecisionPoint) -> None:
    first: list[Frame] = []

    def repeats(frame: Frame) -> Frame | None:
        answer = permit_all(frame)
        if answer is not None and "permit" in answer:
            first.append(answer)
            return first[0]
        return answer

    scripted.answer = repeats
    with Session(gateway(gateway_home)) as client:
        client.initialize()
        client.call(1, "echo")
        assert "isError" not in client.answer_to(1)["result"]
        client.call(2, "echo")
        assert decision(client.answer_to(2))["decision"] == "deny"


@pytest.mark.parametrize("make", [lambda n: b"x" * n, lambda n: b'{"jsonrpc":"2.0","id":1,"x":"' + b"y" * n + b'"}'])
def test_a_line_without_end_does_not_fill_the_memory(home: Path, make: Callable[[int], bytes]) -> None:
    with Session(gateway(home)) as client:
        client.initialize()
        client.write(make(40_000_000))
        assert client.read()["error"]["code"] == -32600
        peak = Path(f"/proc/{client.process.pid}/status").read_text().split("VmHWM:")[1].split()[0]
        assert int(peak) < 60 * 1024
