"""Permits that leave the decision point as tokens: for whom, signed with what, and what their verifiers need to know.

Part of the composition root, as `tokens`. Where no server demands permits, there is no key and no document.
"""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from forestall.core.errors import SetupError, cure
from forestall.core.model import Permit
from forestall.home import Home
from forestall.permit_settings import PermitSettings

if TYPE_CHECKING:  # loaded only where there are any
    from forestall.adapter.issuing import IssuingKeys

DOCUMENT = "permits.json"
"""In `run/`: what a verifier polls. The keys, and how many orders were given, ever."""


@dataclass(frozen=True, slots=True)
class Permits:
    """`servers` is empty where nobody demands any; then there are no keys either."""

    servers: Mapping[str, PermitSettings] = field(default_factory=dict)
    issuer: str = ""
    keys: IssuingKeys | None = None

    def demanded(self, tool: str) -> PermitSettings | None:
        """What the server of `server/tool` demands; None where it demands nothing."""
        return self.servers.get(tool.partition("/")[0]) if self.servers else None

    def token(self, permit: Permit, *, subject: str, epoch: int, key: str, at: int) -> str | None:
        """The permit for its server; None where that demands none. `key`: thumbprint of who will present it.

        Raises:
            InvalidInput: it has no canonical form.
        """
        demanded = self.demanded(permit.tool)
        if demanded is None:
            return None
        from forestall.proof.permit import Edge, sign_permit

        assert self.keys is not None
        edge = Edge(self.issuer, demanded.audience, subject, epoch, key, demanded.instance)
        return sign_permit(permit, edge, self.keys.current, at)

    def document(self, epoch: int, at: int) -> dict[str, Any]:
        """What a verifier goes by: a JWK Set (RFC 7517, 5) with two members more."""
        assert self.keys is not None
        return {"issuer": self.issuer, "epoch": epoch, **self.keys.public(at).to_json()}

    def renew(self, home: Home, at: int) -> Permits:
        """With the keys as they are on disk now. Raises SetupError."""
        return replace(self, keys=_keys(home, at)) if self.servers else self


NO_PERMITS = Permits()


def open_permits(home: Home, servers: Mapping[str, PermitSettings], issuer: str, at: int) -> Permits:
    """`issuer`: the ledger's origin.

    Raises:
        SetupError: the keys cannot be used.
    """
    return Permits(servers, issuer, _keys(home, at)) if servers else NO_PERMITS


def publish(permits: Permits, home: Home, epoch: int, at: int) -> None:
    """Write the document where verifiers of this machine find it, whole or not at all. Without any, there is none.

    Raises:
        SetupError: it cannot be written.
    """
    if not permits.servers:
        return
    path = home.run / DOCUMENT
    try:
        _replace(path, json.dumps(permits.document(epoch, at)).encode() + b"\n")
    except OSError as error:
        raise SetupError(f"{path} cannot be written: {cure(error)}.") from None


def _replace(path: Path, data: bytes) -> None:
    descriptor, made = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "wb") as file:  # noqa: PTH123 - a descriptor has no path
            file.write(data)
            os.fchmod(descriptor, 0o644)
        Path(made).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(made).unlink()
        raise


def _keys(home: Home, at: int) -> IssuingKeys:
    from forestall.adapter.issuing import PERMITS, load_or_create

    return load_or_create(home.keys, now=at, random=secrets.token_bytes, kind=PERMITS)
