"""What one task and all below it have spent and reserved. Not safe to share: `LogState` holds its lock around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from forestall.core.model import Counted


@dataclass(slots=True)
class Account:
    budget: Mapping[Counted, int]
    spent: dict[Counted, int] = field(default_factory=dict)
    """Under entries of the log."""
    reserved: dict[Counted, int] = field(default_factory=dict)
    """Between `reserve` and the entry that spends it. Of this process alone, so never written."""

    def has_room(self, amounts: Mapping[Counted, int]) -> bool:
        for each, amount in amounts.items():
            limit = self.budget.get(each)
            if limit is not None and self.spent.get(each, 0) + self.reserved.get(each, 0) + amount > limit:
                return False
        return True

    def reserve(self, amounts: Mapping[Counted, int]) -> None:
        for each, amount in amounts.items():
            self.reserved[each] = self.reserved.get(each, 0) + amount

    def release(self, amounts: Mapping[Counted, int]) -> None:
        """Nothing that was not reserved is given back."""
        for each, amount in amounts.items():
            left = self.reserved.get(each, 0) - amount
            if left > 0:
                self.reserved[each] = left
            else:
                self.reserved.pop(each, None)

    def spend(self, amounts: Mapping[Counted, int]) -> None:
        for each, amount in amounts.items():
            self.spent[each] = self.spent.get(each, 0) + amount

    def unspend(self, amounts: Mapping[Counted, int]) -> None:
        """An amount below zero is spent on top: a call used more than it might, and the account says so."""
        for each, amount in amounts.items():
            self.spent[each] = max(0, self.spent.get(each, 0) - amount)
