"""Make an action of a call: the one place where arguments become canonical bytes and a digest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from forestall.core.canonical import canonical
from forestall.core.model import NOTHING, Action, Json, Reference


def ask_for(
    tool: str,
    arguments: Mapping[str, Json],
    *,
    action_id: str,
    task: str,
    pin: str,
    salt: bytes,
    at: int,
    proof: object,
    refs: Mapping[str, Reference] = NOTHING,
) -> Action:
    """A call that wants deciding. `action_id` and `salt` are random: 128 bits or more each.

    Raises:
        InvalidInput: the arguments have no canonical form.
    """
    form = canonical(arguments)
    digest = "sha256:" + hashlib.sha256(form).hexdigest()
    return Action(action_id, task, tool, pin, arguments, form, digest, salt, at, proof, refs)
