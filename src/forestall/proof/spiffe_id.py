"""SPIFFE IDs, read strictly: `spiffe://<trust domain>/<path>` (SPIFFE-ID.md, section 2), one spelling for each.

The whole string is the identity. What the standard lets a reader fold (an upper-case scheme or trust domain) is
refused, so that two texts that differ are never one identity, and what it forbids (percent-encoding, ports, queries,
`..`) is not repaired. Paths are compared by whole segments: `/pay` is not above `/payroll`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from forestall.proof.fault import Fault, InvalidProof

MAX_ID = 2048
"""Bytes of a whole SPIFFE ID (SPIFFE-ID.md, section 2.3)."""

MAX_TRUST_DOMAIN = 255
"""Bytes of a trust domain's name (SPIFFE-ID.md, section 2.3)."""

_SCHEME = "spiffe://"
_TRUST_DOMAIN = re.compile(rf"[a-z0-9._-]{{1,{MAX_TRUST_DOMAIN}}}")
_SEGMENT = re.compile(r"[a-zA-Z0-9._-]+")
_RELATIVE = frozenset({".", ".."})


@dataclass(frozen=True, slots=True)
class SpiffeId:
    """One identity. Made by `parse_spiffe_id`; `str()` gives back exactly what was read."""

    trust_domain: str
    path: str
    """Empty for the trust domain itself; otherwise it begins with `/` and does not end with one."""

    def __str__(self) -> str:
        return f"{_SCHEME}{self.trust_domain}{self.path}"

    def is_within(self, other: SpiffeId) -> bool:
        """Is this `other`, or below it? Whole segments of one trust domain; a trust domain holds all of its own."""
        return self.trust_domain == other.trust_domain and (
            self.path == other.path or self.path.startswith(other.path + "/")
        )


def parse_spiffe_id(text: str) -> SpiffeId:
    """The identity that `text` spells.

    Raises:
        InvalidProof: `too_large`; or `malformed`, where the standard or this reading of it does not allow the spelling.
    """
    if len(text) > MAX_ID:
        raise InvalidProof(Fault.TOO_LARGE, f"a SPIFFE ID has at most {MAX_ID} bytes")
    if not text.startswith(_SCHEME):
        raise InvalidProof(Fault.MALFORMED, "a SPIFFE ID begins with spiffe://, in lower case")
    trust_domain, slash, path = text.removeprefix(_SCHEME).partition("/")
    require_trust_domain(trust_domain)
    if slash and not all(_SEGMENT.fullmatch(part) and part not in _RELATIVE for part in path.split("/")):
        raise InvalidProof(Fault.MALFORMED, "a path is segments of a-z A-Z 0-9 . - _, none empty, `.` or `..`")
    return SpiffeId(trust_domain, slash + path)


def parse_workload_id(text: str) -> SpiffeId:
    """As `parse_spiffe_id`, for what only a workload may be called: the trust domain alone is refused.

    Raises:
        InvalidProof: `too_large` or `malformed`.
    """
    identity = parse_spiffe_id(text)
    if not identity.path:
        raise InvalidProof(Fault.MALFORMED, "the id of a trust domain is no workload's")
    return identity


def parse_trust_domain_id(text: str) -> str:
    """The name of the trust domain that `spiffe://name` is the id of: how the Workload API keys its bundles.

    Raises:
        InvalidProof: `too_large` or `malformed`.
    """
    identity = parse_spiffe_id(text)
    if identity.path:
        raise InvalidProof(Fault.MALFORMED, "the id of a trust domain has no path")
    return identity.trust_domain


def require_trust_domain(name: str) -> str:
    """`name`, where it is a trust domain's.

    Raises:
        InvalidProof: `malformed`.
    """
    if not _TRUST_DOMAIN.fullmatch(name):
        raise InvalidProof(Fault.MALFORMED, f"a trust domain is 1 to {MAX_TRUST_DOMAIN} of a-z 0-9 . - _")
    return name
