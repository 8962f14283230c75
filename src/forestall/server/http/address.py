"""Where the listener listens, what it is called, and which of its names a request may ask for."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from forestall.core.errors import SetupError
from forestall.proof.url import require_issuer_url

_LISTEN = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>[0-9.]+|localhost)):(?P<port>[0-9]{1,5})")
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Address:
    """An address of this machine, as a number."""

    host: str
    port: int

    @property
    def loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def netloc(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_listen(text: str) -> Address:
    """`127.0.0.1:8443`, `[::1]:8443`, `localhost:8443` or `0.0.0.0:8443`; port 0 is one that is free.

    Raises:
        SetupError: it is none of these.
    """
    found = _LISTEN.fullmatch(text)
    host = (found["six"] or found["four"]) if found else ""
    try:
        number = str(ipaddress.ip_address("127.0.0.1" if host == "localhost" else host))
        port = int(found["port"]) if found else -1
    except ValueError:
        port = -1
    if not 0 <= port < 65_536:
        raise SetupError(f'[http] `listen` is {text!r:.80}; write an address and a port, such as "127.0.0.1:8443".')
    return Address(number, port)


@dataclass(frozen=True, slots=True)
class Names:
    """Ours. A request that asks for another is for somebody else (RFC 9110, 7.4), or a page's that found us by a name
    of its own.
    """

    origins: dict[str, str]
    """By `Host` in lower case: scheme, host and port as we write them."""

    @classmethod
    def of(cls, bound: Collection[Address], issuer: str, *, secure: bool) -> Names:
        """The addresses that we listen at, and the issuer's host, whatever stands before us there.

        Raises:
            SetupError: the issuer is no URL of https, or of http on this machine.
        """
        scheme = "https" if secure else "http"
        origins: dict[str, str] = {}
        for address in bound:
            for host in (address.netloc, f"localhost:{address.port}") if address.loopback else (address.netloc,):
                origins[host] = f"{scheme}://{host}"
                if address.port == _PORTS[scheme]:
                    origins[host.rpartition(":")[0]] = f"{scheme}://{host}"
        if issuer:
            origins |= _of_issuer(issuer)
        return cls(origins)

    def origin(self, host: str) -> str | None:
        """What URLs begin with for who asks for this `Host`; None where it is not ours."""
        return self.origins.get(host.lower())


def _of_issuer(issuer: str) -> dict[str, str]:
    try:
        parts = urlsplit(require_issuer_url(issuer, loopback=True))
        port = parts.port or _PORTS[parts.scheme]
    except ValueError as error:
        raise SetupError(f"[http] `issuer` cannot be {issuer!r:.80}: {error}.") from None
    origin = f"{parts.scheme}://{parts.netloc.lower()}"
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    with_port = {f"{host}:{port}": origin}
    return {**with_port, host: origin} if port == _PORTS[parts.scheme] else with_port
