"""What one thing takes from the budgets of a task and of all above it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from forestall.core.effects import Effect
from forestall.core.model import Counted, Grant
from forestall.core.quantity import Quantity


def uses(chain: Iterable[Grant], counted: Collection[Counted]) -> dict[Counted, int]:
    """One of each of `counted`; a call takes as well, of every other quantity that a budget names, the most that it may
    use, be that more than there is. What nobody bounds for one call is all that there is, and never nothing: an amount
    that is not known in advance is not taken for small.

    `chain`: the task's grant, and those above it.
    """
    amounts: dict[Counted, int] = dict.fromkeys(counted, 1)
    limited = [grant for grant in chain if grant.budget]
    if not limited or not any(isinstance(each, Effect) for each in counted):
        return amounts
    bounded: dict[Counted, int] = {}
    unbounded: dict[Counted, int] = {}
    for grant in limited:
        for each, total in grant.budget.items():
            if isinstance(each, Quantity) and each is not Quantity.FAN_OUT:
                unbounded[each] = min(unbounded.get(each, total), total)
                if each in grant.per_call:
                    most = grant.per_call[each]
                    bounded[each] = min(bounded.get(each, most), most)
    amounts.update({each: max(1, total) for each, total in unbounded.items()})
    amounts.update(bounded)
    return amounts


def returned(reserved: Mapping[Counted, int], used: Mapping[Quantity, int]) -> dict[Counted, int]:
    """What of `reserved` comes back once a call's use is known; less than nothing where it used more. Calls stay."""
    return {each: reserved[each] - used[each] for each in used if each in reserved and used[each] != reserved[each]}
