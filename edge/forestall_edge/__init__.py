"""A resource demands a permit for each call, checks it offline, and burns it. See docs/edge.md.

`Verifier` is all of it; `asgi`, `server` and `proxy` put it in front of something.
"""

from forestall_edge.burns import Burns, MemoryBurns
from forestall_edge.keys import FixedKeys, KeyFile, Keys, KeyUrl, Trust, read_trust
from forestall_edge.permit import Permit
from forestall_edge.pin import pin
from forestall_edge.refusal import Reason, Refused
from forestall_edge.sqlite_burns import SqliteBurns
from forestall_edge.verifier import Verifier

__all__ = [
    "Burns",
    "FixedKeys",
    "KeyFile",
    "KeyUrl",
    "Keys",
    "MemoryBurns",
    "Permit",
    "Reason",
    "Refused",
    "SqliteBurns",
    "Trust",
    "Verifier",
    "pin",
    "read_trust",
]
