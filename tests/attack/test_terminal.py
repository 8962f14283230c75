"""An agent that writes to the operator's terminal, through what the ledger keeps of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.cli import main
from forestall.core.entry import Stream
from forestall.server.point import Point
from tests.points import Peer, entries, make_home, play

WRITES = "\x1b]0;title\x07\x1b[2J\x9b2J\u202e\nfake line"


@pytest.mark.parametrize("command", ["log", "explain", "explain --json", "log --json"])
def test_what_an_agent_named_cannot_act_on_it(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    home = make_home(tmp_path)

    async def scenario(_: Point) -> None:
        async with await Peer.gateway(home.socket, client={"name": WRITES}) as peer:
            await peer.ask("read_file", {"path": WRITES, WRITES: 1})
            peer.request("ask", tool=f"files/{WRITES}", pin=WRITES, arguments={WRITES: WRITES})
            await peer.receive()
            peer.request("method", method=WRITES, direction="client")
            await peer.receive()
            peer.request("refused", reason="invalid_message", detail=WRITES)
            await peer.receive()

    play(home, scenario)
    denials = entries(home, Stream.DENIALS)
    assert len(denials) == 4
    word, *options = command.split()
    for denial in denials if word == "explain" else denials[:1]:
        ids = [denial["id"]] if word == "explain" else []
        assert main([word, "--home", str(home.root), *options, *ids]) == 0
        shown = capsys.readouterr().out
        assert shown
        assert all(line.isprintable() for line in shown.split("\n"))
        assert "\nfake line" not in shown
