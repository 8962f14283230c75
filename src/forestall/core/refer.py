"""Content that a call refers to and does not carry: a script that will run, a file that will be sent.

The rules, each with a test in the same words:

1. What the catalogue calls a reference is bound where the enforcement point has made a copy that only it can change,
   says its digest, and read it from where the path that was decided about leads.
2. Everything else of it is unbound: a value that is no text, one of several that is not bound, a name in another case.
3. Bound content stands in a digest in the place of its name: `{"ref": "sha256:..."}`.
4. What is unbound is held, whatever permits it, and permitted by nobody but a person.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace

from forestall.core.approval import OWNER
from forestall.core.canonical import digest
from forestall.core.model import Action, Approval, Decision, Facts, Json, RealPath, Ruling, Tool
from forestall.core.pointer import replaced, texts_of
from forestall.core.reason import Reason


def referring(names: Collection[str], arguments: Collection[str]) -> tuple[str, ...]:
    """The arguments of a call that refer to content, also where only their case is another."""
    known = {name.casefold() for name in names}
    return tuple(sorted(name for name in arguments if name.casefold() in known))


def with_references(facts: Facts, tool: Tool, action: Action) -> Facts:
    """What is known of the content that the call refers to. (Rules 1 and 2.)"""
    found: dict[str, tuple[str, ...]] = {}
    unbound = []
    for name in referring(tool.references, action.arguments):
        bound = _bound(name, action, facts.paths.get(name, ())) if name in tool.references else None
        if bound is None:
            unbound.append(name)
        elif bound:
            found[name] = bound
    return replace(facts, references=found, unbound=tuple(unbound))


def _bound(name: str, action: Action, paths: tuple[RealPath, ...]) -> tuple[str, ...] | None:
    texts = texts_of(name, action.arguments[name])
    if texts is None or (texts and len(texts) != len(paths)):
        return None
    digests = []
    for pointer, path in zip(texts, paths, strict=False):
        one = action.refs.get(pointer)
        if one is None or one.real != path.real:
            return None
        digests.append(one.digest)
    return tuple(digests)


def by_pointer(arguments: Mapping[str, Json], references: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """The digests of `references`, by where their names stand in the arguments."""
    found: dict[str, str] = {}
    for name, digests in references.items():
        found |= zip(texts_of(name, arguments[name]) or {}, digests, strict=True)
    return found


def bound_digest(arguments: Mapping[str, Json], refs: Mapping[str, str]) -> str:
    """Digest of what is done with what: of the arguments, each bound name replaced by its content's. (Rule 3.)

    Raises:
        InvalidInput: they have no canonical form.
    """
    return digest(replaced(arguments, {pointer: {"ref": found} for pointer, found in refs.items()}))


def held_if_unbound(ruling: Ruling, facts: Facts) -> Ruling:
    """Policy's ruling; a permit of its own is a hold, where what would be used can be another by then. (Rule 4.)

    Policy can say itself whose approval that needs (`context.unbound`). Where it does not, it needs the owner's.
    """
    if not facts.unbound or ruling.decision is not Decision.PERMIT or not ruling.policies:
        return ruling
    return replace(ruling, decision=Decision.HOLD, reason=Reason.NEEDS_APPROVAL, approvals=(Approval((OWNER,)),))
