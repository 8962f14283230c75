"""Forestall's own credentials at AWS: from where the settings say, and from nowhere else."""

from __future__ import annotations

import configparser
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from forestall.adapter.credential.aws_calls import NOBODY, Calls, Keys
from forestall.adapter.credential.http import unavailable
from forestall.adapter.oidc.token_file import read_token
from forestall.core.errors import SetupError, Unavailable
from forestall.private_file import read_private_file

MAX_FILE = 262_144
"""Bytes of a credentials file."""

EARLY_MS = 300_000
"""So long before their end temporary keys are asked for anew."""

_ID = re.compile(r"[A-Z0-9]{16,128}")
_SECRET = re.compile(r"[A-Za-z0-9/+=]{16,256}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")


class Own(Protocol):
    def keys(self, until: float) -> Keys:
        """As they are now. Raises CannotDo(unavailable), with nothing of them."""
        ...


@dataclass(frozen=True, slots=True)
class FromEnvironment:
    """The variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN of the decision point."""

    environment: Mapping[str, str]

    def keys(self, until: float) -> Keys:  # noqa: ARG002 - the protocol's
        return require_keys({name.lower(): value for name, value in self.environment.items()}, "the environment")


@dataclass(frozen=True, slots=True)
class FromProfile:
    """A section of a credentials file as AWS's tools write it; read at each use. Programs that it names are not run."""

    file: Path
    profile: str

    def keys(self, until: float) -> Keys:  # noqa: ARG002 - the protocol's
        found = configparser.RawConfigParser(interpolation=None)
        try:
            found.read_string(_read(self.file))
            section = dict(found[self.profile])
        except KeyError:
            raise unavailable(f"{self.file} has no profile `{self.profile}`.") from None
        except configparser.Error:
            raise unavailable(f"{self.file} is no credentials file; look at what is there.") from None
        return require_keys(section, f"the profile `{self.profile}`")


class FromWebIdentity:
    """A role that Forestall takes on with a token that somebody else keeps fresh in a file."""

    def __init__(self, calls: Calls, role: str, token_file: Path, name: str, now: Callable[[], int]) -> None:
        self._calls, self._role, self._file, self._name, self._now = calls, role, token_file, name, now
        self._lock = threading.Lock()
        self._held: tuple[Keys, int] | None = None

    def keys(self, until: float) -> Keys:
        with self._lock:
            if self._held is None or self._held[1] - EARLY_MS <= self._now():
                said = self._calls.call(
                    "sts",
                    "AssumeRoleWithWebIdentity",
                    NOBODY,
                    until,
                    RoleArn=self._role,
                    RoleSessionName=self._name,
                    WebIdentityToken=web_identity(self._file),
                )
                self._held = keys_of(said)
            return self._held[0]


def web_identity(file: Path) -> str:
    """Raises CannotDo(unavailable)."""
    try:
        return read_token(file)
    except Unavailable as error:
        raise unavailable(str(error)) from None


def keys_of(said: Mapping[str, Any]) -> tuple[Keys, int]:
    """What STS gave, and when it ends. Raises CannotDo(unavailable)."""
    given = said.get("Credentials") or {}
    members = {
        "aws_access_key_id": given.get("AccessKeyId"),
        "aws_secret_access_key": given.get("SecretAccessKey"),
        "aws_session_token": given.get("SessionToken"),
    }
    keys = require_keys(members, "STS's answer")
    ends = given.get("Expiration")
    if not keys.token or ends is None:
        raise unavailable("STS gave credentials without a session, or without an end.")
    return keys, int(ends.timestamp() * 1000)


def require_keys(members: Mapping[str, Any], where: str) -> Keys:
    """Raises CannotDo(unavailable)."""
    found = [members.get(f"aws_{name}") or "" for name in ("access_key_id", "secret_access_key", "session_token")]
    if not all(isinstance(each, str) for each in found):
        raise unavailable(f"There are no credentials in {where}.")
    id_, secret, token = found
    if not _ID.fullmatch(id_) or not _SECRET.fullmatch(secret) or (token and not _TOKEN.fullmatch(token)):
        raise unavailable(f"There are no credentials in {where}: an access key, its secret, and its session's token.")
    return Keys(id_, secret, token)


def _read(path: Path) -> str:
    try:
        data = read_private_file(path, max_bytes=MAX_FILE)
    except SetupError as error:
        raise unavailable(str(error)) from None
    try:
        return data.decode() if len(data) <= MAX_FILE else ""
    except UnicodeDecodeError:
        raise unavailable(f"{path} is not UTF-8; look at what is there.") from None
