"""The optional package `spiffe`: its generated messages and stubs of the Workload API, loaded when first needed.

Its own client is not used: it reads bundles less strictly than `forestall.proof` does, and keeps no age.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from forestall.core.errors import SetupError

METADATA = (("workload.spiffe.io", "true"),)
"""SPIFFE_Workload_Endpoint.md, section 5: what keeps a browser's forged request from being answered."""

MAX_MESSAGE = 4 * 1_048_576
"""Bytes of one answer: gRPC's own default, said here so that it stays."""

KEEPALIVE_MS = 330_000
"""After so long in silence a stream's other end is asked whether it lives. gRPC servers hang up on who asks oftener
than every five minutes."""

_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.use_local_subchannel_pool", 1),  # else channels share one back-off, and ours would not be what counts
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class Stubs:
    """The modules, loaded: `grpc`, and the messages and services of the Workload API."""

    grpc: Any
    messages: Any
    services: Any

    def channel(self, target: str) -> Any:
        """A connection of its own to `target`, as `target_of` gives it. Whoever asked closes it."""
        return self.grpc.insecure_channel(target, options=_OPTIONS)


def load() -> Stubs:
    """The extra's modules.

    Raises:
        SetupError: it is not installed, or not usable.
    """
    try:
        return Stubs(
            import_module("grpc"),
            import_module("spiffe._proto.workload_pb2"),
            import_module("spiffe._proto.workload_pb2_grpc"),
        )
    except (ImportError, RuntimeError):
        raise SetupError(
            "The Workload API needs the optional package spiffe; install it with: pip install 'forestall[spiffe]'"
        ) from None


def target_of(endpoint: str) -> str:
    """What gRPC calls the address in SPIFFE_ENDPOINT_SOCKET (SPIFFE_Workload_Endpoint.md, section 4).

    Raises:
        SetupError: it is neither `unix:///path` nor `tcp://address:port`, with an address and no name.
    """
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:
        raise SetupError(_ENDPOINT) from None
    if parts.query or parts.fragment or parts.username is not None or parts.password is not None:
        raise SetupError(_ENDPOINT)
    if parts.scheme == "unix" and not parts.netloc and parts.path.startswith("/") and len(parts.path) > 1:
        return f"unix:{parts.path}"
    if parts.scheme == "tcp" and not parts.path and port and parts.hostname is not None:
        try:
            address = ipaddress.ip_address(parts.hostname)
        except ValueError:
            raise SetupError(_ENDPOINT) from None
        return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
    raise SetupError(_ENDPOINT)


_ENDPOINT = "The Workload API's address has to be unix:///path/to/socket or tcp://address:port."
