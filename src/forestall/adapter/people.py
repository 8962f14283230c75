"""What this machine calls the person behind a uid. Blocks where the machine asks a directory server."""

from __future__ import annotations

import grp
import os
import pwd
from contextlib import suppress

from forestall.core.approval import OWNER, Approver
from forestall.core.model import Assurance

MAX_GROUPS = 256
"""Groups of a person that are looked at. Kerberos and NFS stop at 32 and 16."""


def approver(uid: int, own: int) -> Approver:
    """`own`: the uid of the decision point. A person of that uid could change its books, and so is `local`."""
    names = {f"uid:{uid}", *([OWNER] if uid == own else ())}
    with suppress(KeyError):
        known = pwd.getpwuid(uid)
        names.add(f"user:{known.pw_name}")
        for gid in os.getgrouplist(known.pw_name, known.pw_gid)[:MAX_GROUPS]:
            with suppress(KeyError):
                names.add(f"group:{grp.getgrgid(gid).gr_name}")
    return Approver(uid, frozenset(names), Assurance.LOCAL if uid == own else Assurance.ATTESTED)
