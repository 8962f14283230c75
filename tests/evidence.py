"""The ledgers that a test leaves in a folder have to be accepted by the stand-alone verifier."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import forestall_verify


def require_verified(root: Path) -> int:
    """Verify each ledger below `root`, and say how many there were. A tail that a kill left unsigned is no fault."""
    count = 0
    for log in sorted(root.rglob("permits.log")):
        keys = log.parent.parent / "keys" / "log.pub"
        if not keys.exists():
            continue
        forestall_verify.verify_ledger(
            Namespace(
                directory=log.parent,
                key=[str(keys)],
                remembered=None,
                live=True,
                write_remembered=None,
                payload_key=None,
                json=False,
            )
        )
        count += 1
    return count
