"""`[permits.SERVER]` in the settings: which servers demand a permit with each call (docs/edge.md).

Every error is a `SetupError` of one sentence that names the file, the line where there is one, and what to write.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from forestall.core.errors import SetupError
from forestall.proof.fault import InvalidProof
from forestall.proof.url import normalise
from forestall.source import Source

_URN = re.compile(r"urn:[a-z0-9][a-z0-9-]{1,31}:[A-Za-z0-9._~:/-]{1,200}")
_INSTANCE = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SERVER = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True, slots=True)
class PermitSettings:
    """One server that demands permits."""

    audience: str = ""
    """What the resource is called in `aud`: an http or https URL in its one spelling, or a URN."""
    instance: str = ""
    """The one instance of it that permits are good at. Empty: any, by a store of burns that they share."""


def permit_settings(source: Source) -> Mapping[str, PermitSettings]:
    """By server."""
    tables = source.inside("permits", "write [permits.SERVER], with an `audience`.").table
    return {server: _one(source, server, table) for server, table in tables.items()}


def _one(source: Source, server: str, table: object) -> PermitSettings:
    section = f"permits.{server}"
    if not _SERVER.fullmatch(server):
        raise SetupError(f"{source.at(section)}: [permits.SERVER] names a server as the catalogue does.")
    one = Source(source.file, source.text_, {section: table}).section(section, PermitSettings)
    if not _URN.fullmatch(one.audience):
        _require_url(source, section, one.audience)
    if one.instance and not _INSTANCE.fullmatch(one.instance):
        raise SetupError(f"{source.at('instance', section)}: `instance` has up to 64 letters, digits, `.`, `_`, `-`.")
    return one


def _require_url(source: Source, section: str, audience: str) -> None:
    """One spelling, since verifiers compare it letter by letter."""
    where = source.at("audience", section)
    try:
        spelt = normalise(audience)
    except InvalidProof:
        raise SetupError(f"{where}: `audience` is an http or https URL, or a URN such as urn:example:files.") from None
    if spelt != audience:
        raise SetupError(f'{where}: `audience` is compared letter by letter; write "{spelt}".')
