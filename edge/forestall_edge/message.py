"""A message of MCP, as far as a permit is concerned: what passes without one, and the call that one is for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from forestall_edge.content import Content, file_digest
from forestall_edge.permit import Permit
from forestall_edge.refusal import Reason, Refused
from forestall_edge.verifier import Verifier

PERMIT, PROOF = "forestall/permit", "forestall/proof"
"""Members of `_meta`. Names with a prefix are their owner's (MCP, "General fields")."""

CALL = "tools/call"

OPEN = frozenset(
    {
        "initialize",
        "server/discover",
        "ping",
        "tools/list",
        "notifications/initialized",
        "notifications/cancelled",
        "notifications/progress",
        "notifications/roots/list_changed",
    }
)
"""What passes without a permit: what greets, lists tools and ends. Resources and prompts are not among it."""

ERROR = -32010
"""Of the range that JSON-RPC leaves to servers."""

SENTENCE = "This call came without a permit that counts. Ask for it through Forestall's gateway."
"""All that a caller is told. Why is in the server's log."""

MAX_NAME = 256


@dataclass(frozen=True, slots=True)
class Shown:
    """A permit and its proof, wherever they stood."""

    permit: str = field(repr=False)
    proof: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Demand:
    """What a server of tools demands."""

    verifier: Verifier
    server: str
    """As the catalogue calls it: the first part of its tools' ids."""
    pins: Mapping[str, str] | None = None
    """By tool name: of its definitions as they are here. None: they are not compared."""
    hidden: frozenset[str] = frozenset()
    """Arguments that Forestall fills in with a credential after the decision (`hidden` in the catalogue): of every tool
    here, and covered by no permit.
    """
    content: Content | None = file_digest
    """Digests what an argument refers to, where a permit is for content; None: such permits are refused."""
    open: frozenset[str] = OPEN
    """Methods that pass without a permit."""
    passed: Callable[[Permit], None] = lambda _permit: None
    """Told of each permit that was used."""

    def require_open(self, method: str) -> None:
        """Raises Refused: not_open."""
        if method not in self.open or method == CALL:
            raise Refused(Reason.NOT_OPEN, "no method that passes without a permit")

    def require_permit(self, params: object, shown: Shown | None = None) -> dict[str, Any]:
        """The params of a call that its permit is for, without the permit. The permit is used up.

        Args:
            params: of a `tools/call`.
            shown: what came with it in headers; None where nothing did.

        Raises:
            Refused: for a reason of the closed set.
        """
        if not isinstance(params, Mapping):
            raise Refused(Reason.BAD_ARGUMENTS, "the params are not an object")
        inside, rest = _take(params)
        if (shown is None) == (inside is None):
            raise Refused(Reason.MISSING, "no permit and proof, or twice")
        given = shown or inside
        assert given is not None
        name, arguments = params.get("name"), params.get("arguments", {})
        if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME or not isinstance(arguments, Mapping):
            raise Refused(Reason.BAD_ARGUMENTS, "not the form of a call")
        pin = None if self.pins is None else self.pins.get(name, "")
        tool = f"{self.server}/{name}"
        decided = {member: value for member, value in arguments.items() if member not in self.hidden}
        self.passed(self.verifier.verify(given.permit, given.proof, tool, decided, pin=pin, content=self.content))
        return rest


def _take(params: Mapping[str, Any]) -> tuple[Shown | None, dict[str, Any]]:
    """What `_meta` shows, and the params without it. Raises Refused: missing."""
    meta = params.get("_meta", {})
    if not isinstance(meta, Mapping):
        raise Refused(Reason.BAD_ARGUMENTS, "`_meta` is not an object")
    permit, proof = meta.get(PERMIT), meta.get(PROOF)
    if permit is None and proof is None:
        return None, dict(params)
    if not isinstance(permit, str) or not isinstance(proof, str):
        raise Refused(Reason.MISSING, "a permit without its proof, or a proof without its permit")
    rest = {name: value for name, value in meta.items() if name not in {PERMIT, PROOF}}
    return Shown(permit, proof), {**params, "_meta": rest}
