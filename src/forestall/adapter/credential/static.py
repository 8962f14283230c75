"""Secrets that cannot be minted, such as an API key: they are lent for an action or a task, and stand before and after.

Forestall keeps them from the agent and puts them where the tool runs; their end ends nothing. So every lease of one is
marked `standing`, and `forestall status` says that it should become something that can be made and ended.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from forestall.adapter.credential.source import SecretSource
from forestall.core.ask import CannotDo
from forestall.core.model import Action, Grant, Lease, Permit, Secret
from forestall.core.reason import Reason
from forestall.port import Traits


@dataclass(frozen=True, slots=True)
class StaticBroker:
    sources: Mapping[str, SecretSource] = field(repr=False)
    """By the name of the field that each becomes."""
    allows: str = ""
    """What its owner says that it may do: it stands in the ledger, and binds nobody."""

    @property
    def traits(self) -> Traits:
        return Traits(revocable=False, by_name=False, standing=True, fields=frozenset(self.sources))

    def plan(self, permit: Permit, action: Action, grant: Grant) -> Mapping[str, Any]:
        """Whatever the secret may do: nothing here can make it less."""
        del permit, action, grant
        return {"fields": sorted(self.sources), "allows": self.allows}

    def issue(self, lease: Lease) -> Secret:
        """As it stands now. It is read each time that one is asked for."""
        del lease
        return Secret({name: source.read() for name, source in self.sources.items()})

    def renew(self, lease: Lease, expires_at: int) -> int:
        del lease, expires_at
        raise CannotDo(Reason.UNAVAILABLE, "A standing secret is not renewed.")

    def revoke(self, lease: Lease) -> None:
        """It is lent no more. The secret stands."""

    def list_orphans(self, known: Collection[str]) -> Sequence[str]:
        del known
        return ()

    def close(self) -> None: ...
