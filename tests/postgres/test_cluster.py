"""The port of a server that is made for tests stays its own, also before it listens and while it is stopped."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from forestall.testing import postgresql
from forestall.testing.postgresql import PORTS, free_port


def test_it_is_none_that_the_kernel_gives_away() -> None:
    first, last = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    assert free_port() in PORTS
    assert max(PORTS) < first or last < min(PORTS)


def test_one_that_is_taken_is_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        monkeypatch.setattr(postgresql, "PORTS", [taken.getsockname()[1]])
        with pytest.raises(OSError, match="no port"):
            free_port()
