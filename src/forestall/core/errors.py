"""Everything that can be raised, on one screen, split by whose fault it is.

A refusal is not an error: it is a `Deny` or a `Hold`, a value with a reason.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from forestall.core.model import Deny, Hold
    from forestall.core.reason import Reason


class ForestallError(Exception):
    """The root. `str()` of any of these is one sentence that says what to do, and holds no secret."""

    exit_code = 70


CURES = {
    errno.ENOENT: "make its directory",
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room in the disk's quota",
    errno.EFBIG: "make room in the limit on the size of files",
    errno.EROFS: "make its file system writable",
    errno.EIO: "mend the disk",
    errno.EACCES: "mend its permissions",
    errno.EPERM: "mend its permissions",
    errno.EISDIR: "move what is in its place",
    errno.ENOTDIR: "move what is in its place",
    errno.EEXIST: "move what is in its place",
    errno.ELOOP: "move what is in its place",
    errno.EMFILE: "raise the limit on open files",
}


def cure(error: OSError) -> str:
    """What was wrong with a file, and what to do about it: the end of a sentence, without its full stop."""
    return f"{error.strerror or error}; {CURES.get(error.errno or 0, 'look at what is there')}"


# -- the operator's: something on disk is wrong; says the file, and the line where there is one


class SetupError(ForestallError):
    """Configuration, policy, catalogue, mandate or key is missing, malformed or unknown."""

    exit_code = 78


class PolicyInvalid(SetupError):
    """A policy does not parse, does not validate, or is caught by the lint."""


# -- the caller's: what was sent is not acceptable


class InvalidInput(ForestallError):
    """A message, an argument or a call is malformed, too large, or ambiguous."""

    exit_code = 65


# -- the world's: something needed did not answer


class Unavailable(ForestallError):
    """The decision point, the ledger, the disk or a server cannot be used now. Never means permitted."""

    exit_code = 69


# -- an attacker's, or a broken disk's


class Tampered(ForestallError):
    """The ledger, a key or a checkpoint does not verify."""

    exit_code = 76


# -- raised by the in-process guard in place of a result


class Refused(ForestallError):
    """The call was denied or held; `decision` is the Deny or Hold. Nothing was done."""

    exit_code = 77

    def __init__(self, decision: Deny | Hold, sentence: str) -> None:
        super().__init__(sentence)
        self.decision = decision

    def __reduce__(self) -> tuple[type[Refused], tuple[Deny | Hold, str]]:
        return type(self), (self.decision, str(self))

    @property
    def reason(self) -> Reason:
        return self.decision.reason


class OutcomeUnknown(ForestallError):
    """The call was permitted and started, and nobody can say whether it finished. Do not retry blindly."""

    exit_code = 75
