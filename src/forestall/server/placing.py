"""What an enforcement point is told of a credential: where it goes, and what must not come back.

It is sent to the one connection that asked, in the frame that gives leave, and is kept and logged nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from forestall.core.ask import NotStarted
from forestall.core.errors import InvalidInput
from forestall.core.model import Lease, Tool
from forestall.core.place import Placed, Where, fill
from forestall.core.reason import Reason
from forestall.core.scrub import secrets_in

MAX_VALUE = 32 * 1024
"""Bytes of one value. A pipe takes twice as much without being read; headers are shorter."""


def credential_for(lease: Lease | None, tool: Tool | None) -> Mapping[str, Any] | None:
    """What the permit for this tool says of its credential; None where there is nothing to place.

    Raises:
        NotStarted: it cannot be put where its class says.
    """
    if lease is None or lease.secret is None:
        return None
    place = lease.place
    if place is None:
        raise NotStarted(Reason.UNAVAILABLE, "the class of the credential does not say where it goes")
    if place.at_start:
        raise NotStarted(Reason.UNAVAILABLE, "the credential is there from a server's start, and put into no call")
    if place.where is Where.ARGUMENT and (tool is None or place.name not in tool.hidden):
        why = f"the catalogue does not have `{place.name}` among the tool's `hidden` arguments"
        raise NotStarted(Reason.UNAVAILABLE, why)
    return credential_json(lease)


def credential_json(lease: Lease) -> Mapping[str, Any]:
    """Raises NotStarted, without any of the values."""
    assert lease.secret is not None
    assert lease.place is not None
    try:
        placed = _require_placeable(fill(lease.place, lease.secret.fields))
    except InvalidInput as error:
        raise NotStarted(Reason.UNAVAILABLE, str(error)) from None
    shown = {"where": placed.where.value, "name": placed.name, "value": placed.value}
    credential: dict[str, Any] = {"placed": [shown], "scrub": list(secrets_in(lease.secret.fields, placed.value))}
    if lease.over_by is not None:
        credential["until"] = lease.over_by
    if placed.where is Where.HEADER and lease.secret.prove is not None:
        credential["bound"] = lease.name
    return credential


def _require_placeable(placed: Placed) -> Placed:
    """A header of two lines is two headers, and nothing outside of JSON can hold a NUL."""
    value = placed.value
    if not value or len(value.encode("utf-8", "surrogatepass")) > MAX_VALUE:
        raise InvalidInput(f"What is to be placed is empty, or longer than {MAX_VALUE} bytes.")
    if placed.where is Where.HEADER and not (value.isascii() and value.isprintable() and value == value.strip(" ")):
        raise InvalidInput("What is to be placed has characters that a header cannot have.")
    if placed.where is not Where.ARGUMENT and "\0" in value:
        raise InvalidInput("What is to be placed has a NUL, which a process cannot be given.")
    return placed
