"""A grant as the ledger holds it, and back. What is not there says nothing, so that older entries read as they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from forestall.core.effects import Effect
from forestall.core.label import Confidentiality, Integrity, Label
from forestall.core.model import Assurance, Counted, Executable, Grant, Resource, Subject
from forestall.core.quantity import Quantity


def grant_to_json(grant: Grant) -> dict[str, Any]:
    """All of it but who holds it: that is the entry's `subject`."""
    return {
        "task": grant.task,
        "purpose": grant.purpose,
        "mandate": grant.mandate,
        "tools": list(grant.tools),
        "effects": sorted(grant.effects),
        "expires_at": grant.expires_at,
        "budget": {counted.value: limit for counted, limit in grant.budget.items()},
        **{name: value for name, value in _extra(grant).items() if value},
    }


def _extra(grant: Grant) -> dict[str, Any]:
    return {
        "depth": grant.depth,
        "max_depth": grant.max_depth,
        "per_call": {quantity.value: limit for quantity, limit in grant.per_call.items()},
        "parent": grant.parent,
        "root": grant.root,
        "actors": [list(actor) for actor in grant.actors],
        "user": grant.user,
        "request": grant.request,
        "parameters": dict(grant.parameters),
        "resources": [resource_to_json(resource) for resource in grant.resources],
        "ceiling": grant.ceiling.value if grant.ceiling else "",
        "longest_at": grant.longest_at,
        "key": grant.key,
    }


def grant_from_json(body: Mapping[str, Any]) -> Grant:
    """Raises KeyError, TypeError or ValueError where `body` holds no grant."""
    subject, get = body["subject"], body.get
    return Grant(
        task=str(body["task"]),
        holder=str(subject["id"]),
        purpose=str(body["purpose"]),
        mandate=str(body["mandate"]),
        tools=tuple(body["tools"]),
        effects=effects_from_json(body["effects"]),
        expires_at=int(body["expires_at"]),
        budget={counted_from_json(name): int(limit) for name, limit in body["budget"].items()},
        depth=int(get("depth", 0)),
        max_depth=int(get("max_depth", 0)),
        per_call={Quantity(name): int(limit) for name, limit in get("per_call", {}).items()},
        parent=str(get("parent", "")),
        root=str(get("root", "")),
        actors=tuple((str(issuer), str(who)) for issuer, who in get("actors", ())),
        tenant=str(subject.get("tenant", "")),
        trust_domain=str(subject.get("trust_domain", "")),
        instance=str(subject.get("instance", "")),
        user=str(get("user", "")),
        request=str(get("request", "")),
        parameters={str(name): str(value) for name, value in get("parameters", {}).items()},
        resources=tuple(resource_from_json(resource) for resource in get("resources", ())),
        ceiling=Confidentiality(body["ceiling"]) if get("ceiling") else None,
        longest_at=int(get("longest_at", 0)),
        key=str(get("key", "")),
    )


def subject_to_json(subject: Subject, *, acting: bool = False) -> dict[str, Any]:
    """`acting`: beside an action. What a connection runs that opened its own task stands in the entry of that."""
    body: dict[str, Any] = {
        "id": subject.id,
        "assurance": subject.assurance,
        "asserted_name": subject.asserted_name,
    }
    if subject.instance:
        body["instance"] = subject.instance
    if subject.tenant:
        body["tenant"] = subject.tenant
    if subject.trust_domain:
        body["trust_domain"] = subject.trust_domain
    if subject.uid is not None:
        body["uid"] = subject.uid
    if subject.process:
        body["process"] = subject.process
    if subject.executable is not None and (subject.key or not acting):
        body["executable"] = executable_to_json(subject.executable)
    return body


def executable_to_json(executable: Executable) -> dict[str, Any]:
    return {
        "path": executable.path,
        "digest": executable.digest,
        "interpreter": executable.interpreter,
        "same_uid": executable.same_uid,
    }


def executable_from_json(body: Mapping[str, Any]) -> Executable:
    """Raises KeyError where `body` holds none."""
    return Executable(
        str(body["path"]), str(body["digest"]), bool(body["interpreter"]), same_uid=bool(body["same_uid"])
    )


def subject_from_json(body: Mapping[str, Any]) -> Subject:
    """Without its key, which no entry holds. Raises KeyError, TypeError, ValueError or AttributeError."""
    uid = body.get("uid")
    if uid is not None and type(uid) is not int:
        raise TypeError("a uid is a number")
    return Subject(
        id=str(body["id"]),
        assurance=Assurance(body["assurance"]),
        asserted_name=str(body["asserted_name"]),
        instance=str(body.get("instance", "")),
        tenant=str(body.get("tenant", "")),
        trust_domain=str(body.get("trust_domain", "")),
        uid=uid,
    )


def label_from_json(body: Mapping[str, str]) -> Label:
    """Raises KeyError, TypeError or ValueError."""
    return Label(Integrity(body["integrity"]), Confidentiality(body["confidentiality"]))


def resource_to_json(resource: Resource) -> dict[str, Any]:
    return {"tool": resource.tool, "argument": resource.argument, "value": list(resource.value)}


def resource_from_json(body: Mapping[str, Any]) -> Resource:
    """Raises KeyError, TypeError or ValueError: a bound without a value would be one that nothing can keep to."""
    tool, argument, value = body["tool"], body["argument"], body["value"]
    if not isinstance(value, list) or not value or not all(isinstance(text, str) for text in (tool, argument, *value)):
        raise ValueError("a resource is a tool, an argument and the parts of its value")
    return Resource(tool, argument, tuple(value))


def counted_from_json(name: str) -> Counted:
    """Raises ValueError."""
    return Effect(name) if name in _EFFECTS else Quantity(name)


def effects_from_json(names: Sequence[str]) -> frozenset[Effect]:
    """Raises ValueError, or TypeError."""
    return _effects(tuple(names))


_EFFECTS = frozenset(effect.value for effect in Effect)


@lru_cache(maxsize=256)
def _effects(names: tuple[str, ...]) -> frozenset[Effect]:
    return frozenset(map(Effect, names))
