"""Another user of the machine who listens where the decision point would, and permits everything."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from forestall.core.errors import Unavailable
from forestall.pep import blocking
from forestall.pep.client import connect
from forestall.pep.trusted import require_believed

NOBODY = 65534
HELLO = {"kind": "gateway", "server": "files"}
IMPOSTOR = """
import json, os, socket, sys
os.setuid(int(sys.argv[2]))
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
os.chmod(sys.argv[1], 0o777)
listener.listen()
print("listening", flush=True)
frames = [{"type": "challenge", "protocol": 2, "nonce": "n"}, {"type": "welcome", "protocol": 2, "task": "t"}]
data = [json.dumps(frame).encode() for frame in frames]
while True:
    connection, _ = listener.accept()
    connection.sendall(b"".join(len(one).to_bytes(4, "big") + one for one in data))
    connection.recv(65536)
"""

as_another = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@pytest.fixture
def impostor() -> Iterator[Path]:
    """Where it listens: in a directory as `/tmp` is."""
    with tempfile.TemporaryDirectory(prefix="fd-") as name:
        Path(name).chmod(0o1777)
        path = Path(name) / "socket"
        words = [sys.executable, "-c", IMPOSTOR, str(path), str(NOBODY)]
        with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                assert process.stdout.readline() == b"listening\n"
                yield path
            finally:
                process.send_signal(signal.SIGKILL)


@as_another
def test_an_enforcement_point_does_not_believe_it(impostor: Path) -> None:
    with pytest.raises(Unavailable, match=f"user {NOBODY}"):
        asyncio.run(connect(impostor, HELLO))


@as_another
def test_a_command_does_not_believe_it(impostor: Path) -> None:
    with pytest.raises(Unavailable, match=f"user {NOBODY}"), blocking.Connection(impostor):
        pass


@as_another
def test_the_owner_of_the_directory_is_believed(impostor: Path) -> None:
    """A decision point that is a service under a user of its own."""
    os.chown(impostor.parent, NOBODY, -1)
    with blocking.Connection(impostor) as connection:
        assert connection.welcome["task"] == "t"


def test_who_cannot_be_told_is_not_believed(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET) as other, pytest.raises((Unavailable, OSError)):
        require_believed(other, tmp_path / "socket")
