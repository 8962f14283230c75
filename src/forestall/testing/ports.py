"""A port for a server that has to be told one before it listens."""

from __future__ import annotations

import errno
import secrets
import socket
from contextlib import suppress

PORTS = range(20_000, 32_000)
"""None that a kernel, as it comes, gives to who asks for any: until the server listens, and while it is down, nobody is
given its port.
"""

TRIES = 100


def free_port() -> int:
    """One of 127.0.0.1 that nobody has. Raises OSError where none of many is free."""
    for port in (secrets.choice(PORTS) for _ in range(TRIES)):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise OSError(errno.EADDRINUSE, "no port of 127.0.0.1 is free")
