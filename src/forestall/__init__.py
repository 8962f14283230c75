"""Forestall decides every tool call of an AI agent before it happens.

The names below are imported when they are first used, so that what needs none of them stays light, as the gateway does.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as type checkers understand it, without `typing`, which is half of what this import would cost
if TYPE_CHECKING:
    from forestall.core.errors import (
        ForestallError,
        InvalidInput,
        OutcomeUnknown,
        PolicyInvalid,
        Refused,
        SetupError,
        Tampered,
        Unavailable,
    )
    from forestall.core.model import Deny, Hold
    from forestall.core.reason import Reason
    from forestall.embedded import Guard
    from forestall.pep.codec import Codec
    from forestall.pep.credential import Credential
    from forestall.pep.task import Task

__version__ = "0.1.0"

_HOMES = {
    "Codec": "forestall.pep.codec",
    "Credential": "forestall.pep.credential",
    "Deny": "forestall.core.model",
    "ForestallError": "forestall.core.errors",
    "Guard": "forestall.embedded",
    "Hold": "forestall.core.model",
    "InvalidInput": "forestall.core.errors",
    "OutcomeUnknown": "forestall.core.errors",
    "PolicyInvalid": "forestall.core.errors",
    "Reason": "forestall.core.reason",
    "Refused": "forestall.core.errors",
    "SetupError": "forestall.core.errors",
    "Tampered": "forestall.core.errors",
    "Task": "forestall.pep.task",
    "Unavailable": "forestall.core.errors",
}

__all__ = [
    "Codec",
    "Credential",
    "Deny",
    "ForestallError",
    "Guard",
    "Hold",
    "InvalidInput",
    "OutcomeUnknown",
    "PolicyInvalid",
    "Reason",
    "Refused",
    "SetupError",
    "Tampered",
    "Task",
    "Unavailable",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'forestall' has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return [*globals(), *__all__]
