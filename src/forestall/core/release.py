"""When an output need not wait for the record of its outcome.

It waits because that record may change what holds next: it raises the labels of whoever reads the output, counts what
the call used, and comes after the end of its credential. Where it does none of that it is evidence alone, and may be
written while the output is read already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forestall.core.model import Permit


def released_at_once(permit: Permit, *, adds_nothing: bool) -> bool:
    """May its output be released before its outcome is recorded? `adds_nothing`: everybody whose labels its output
    would raise is known to have seen data of that label. Labels only rise, so that once is for good.
    """
    return adds_nothing and permit.credential is None and not permit.limits
