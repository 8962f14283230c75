"""The port of a server that is told one stays its own, also before it listens and while it is stopped."""

from __future__ import annotations

import socket

import pytest

from forestall.testing import ports
from forestall.testing.ports import PORTS, free_port


def test_it_is_below_those_that_linux_gives_away() -> None:
    """32768 to 60999 (Documentation/networking/ip-sysctl.rst, `ip_local_port_range`)."""
    assert free_port() in PORTS
    assert max(PORTS) < 32_768


def test_one_that_is_taken_is_given_to_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", free_port())) as taken:
        monkeypatch.setattr(ports, "PORTS", [taken.getsockname()[1]])
        with pytest.raises(OSError, match="no port"):
            free_port()
