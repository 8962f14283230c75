"""URLs in one spelling (RFC 3986, 6.2.2 and 6.2.3), as proofs and issuers name them."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from forestall.proof.fault import Fault, InvalidProof

MAX_URL = 2048
"""Characters."""

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

_VISIBLE = re.compile(r"[!#-;=?-\[\]_a-z~]+")
"""RFC 3986, 2: what a URL is made of."""

_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})?")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")
_PORTS = {"https": 443, "http": 80}


def normalise(url: str) -> str:
    """The URL in its one spelling, without query and fragment (RFC 9449, 4.3; RFC 3986, 6.2.2 and 6.2.3).

    Raises:
        InvalidProof: MALFORMED; not http or https, with a user, with dot segments, or with what no URL holds.
    """
    if len(url) > MAX_URL or not _VISIBLE.fullmatch(url):  # the library would drop a line break, and go on
        raise InvalidProof(Fault.MALFORMED, "not a URL")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidProof(Fault.MALFORMED, "not a URL") from None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc or "%" in parts.netloc:
        raise InvalidProof(Fault.MALFORMED, "not an http or https URL of a host")
    path = _ESCAPE.sub(_escape, parts.path) or "/"
    if not {".", ".."}.isdisjoint(path.split("/")):
        raise InvalidProof(Fault.MALFORMED, "a path with dot segments, which another reader would take out")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{'' if port in {None, _PORTS[parts.scheme]} else f':{port}'}{path}"


def _escape(found: re.Match[str]) -> str:
    if found[1] is None:
        raise InvalidProof(Fault.MALFORMED, "a % that escapes nothing")
    character = chr(int(found[1], 16))
    return character if _UNRESERVED.fullmatch(character) else f"%{found[1].upper()}"


def require_location(url: str, *, loopback: bool) -> str:
    """`url`, where it is https and has no fragment; with `loopback`, also an http address of this machine.

    Raises:
        InvalidProof: MALFORMED.
    """
    normalise(url)  # refuses users, dot segments, and what no URL holds
    parts = urlsplit(url)
    if "#" in url:
        raise InvalidProof(Fault.MALFORMED, "a fragment where none can be")
    if parts.scheme != "https" and not (loopback and parts.hostname in LOOPBACK):
        raise InvalidProof(Fault.MALFORMED, "not https")
    return url


def require_issuer_url(url: str, *, loopback: bool) -> str:
    """As `require_location`, without a query as well (OpenID Connect Core 1.0, 2), for what an operator configured.

    Raises:
        ValueError: it cannot be an issuer's.
    """
    try:
        require_location(url, loopback=loopback)
    except InvalidProof as error:
        raise ValueError(str(error)) from None
    if "?" in url:
        raise ValueError("an issuer has no query")
    return url
