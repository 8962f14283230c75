"""AWS STS: a session of a role for each lease, named after it, whose policy is what the call or the task needs.

A session lives fifteen minutes at the least, and AWS has no call that ends one. What ends it is an inline policy of its
role that denies everything to sessions of its name; it is deleted when the last such session has ended by itself. That
works by name alone, so that a lost answer is no matter. AWS lists no sessions, so there are no orphans to be found.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from forestall.adapter.credential.aws_calls import NOBODY, AwsRefused, Calls
from forestall.adapter.credential.aws_policy import (
    MAX_SESSION_POLICY,
    Allowed,
    document,
    end_of_all,
    end_of_one,
    stamp_of,
    statements,
)
from forestall.adapter.credential.aws_self import Own, keys_of, web_identity
from forestall.adapter.credential.context import Context
from forestall.adapter.credential.http import unavailable
from forestall.adapter.credential.need import effects_of, gravest, require_name
from forestall.core.ask import CannotDo
from forestall.core.canonical import canonical
from forestall.core.model import Action, Grant, Json, Lease, Permit, Secret
from forestall.core.reason import Reason
from forestall.port import Traits

SHORTEST_S, LONGEST_S = 900, 43_200
"""Seconds of `DurationSeconds`; a role's own `MaxSessionDuration` may be less."""

SKEW_S = 300
"""How far AWS's clock and ours may be apart."""

MAX_POLICIES = 1000
"""Inline policies of one role that are looked through. They have 10,240 characters together."""

_TAG = re.compile(r"[A-Za-z0-9_.:/=+@-]{1,256}")


@dataclass(frozen=True, slots=True)
class Settings:
    role: str
    """Its ARN."""
    region: str
    allow: tuple[Allowed, ...]
    external_id: str = ""
    source_identity: str = ""
    tags: bool = True
    """Tell AWS the task and the permit, so that its own trail says them."""
    token_file: Path | None = None
    """Take the role on with this token (AssumeRoleWithWebIdentity), and not with Forestall's own keys."""
    settle_s: int = 10
    """So long after IAM took a denial in, it is said to be in force: IAM is consistent only in the end."""
    end_all_when_full: bool = False
    """Where the role has no room for another denial, end every session of it that has begun."""

    @property
    def role_name(self) -> str:
        return self.role.rpartition("/")[2]

    @property
    def account(self) -> str:
        return self.role.split(":")[4]


FIELDS = frozenset({"access_key_id", "secret_access_key", "session_token", "region"})


class Aws:
    """A broker. `by_name` says no, since AWS lists no sessions; `revoke` ends one by its name all the same."""

    traits = Traits(revocable=True, by_name=False, shortest_ms=SHORTEST_S * 1000, fields=FIELDS)

    def __init__(self, settings: Settings, context: Context, calls: Calls, own: Own) -> None:
        self._settings, self._context, self._calls, self._own = settings, context, calls, own
        self._lock = threading.RLock()
        self._needed: dict[str, int] = {}
        """Until when each denial is needed, in seconds, as far as this process has seen them."""

    def plan(self, permit: Permit, action: Action, grant: Grant) -> Mapping[str, Json]:
        settings, scope = self._settings, self._context.scope
        served = {one.effect for one in settings.allow}
        gravest(scope, permit, grant, served)
        effects = effects_of(scope, permit, grant)
        allowed = statements(settings.allow, effects, grant, action)
        size = len(document(allowed))
        if size > MAX_SESSION_POLICY:
            raise CannotDo(
                Reason.OUT_OF_SCOPE,
                f"The session's policy has {size} characters; AWS takes {MAX_SESSION_POLICY}. Name less under `allow`.",
            )
        tags = {"forestall:task": permit.task, "forestall:permit": permit.id} if self._tagged else {}
        return {"role": settings.role, "allow": allowed, "tags": tags}

    def issue(self, lease: Lease) -> Secret:
        name, now = require_name(lease, self._context.prefix), self._context.now()
        if lease.expires_at <= now:
            raise unavailable("The lease ran out before a session was asked for.")
        seconds = min(max(SHORTEST_S, (lease.expires_at - now) // 1000), LONGEST_S)
        until = self._calls.until()
        said = self._assume(self._wanted(lease, name, seconds), until)
        keys, ends = keys_of(said)
        _require_ours(said, self._settings, name)
        if ends > now + (seconds + SKEW_S) * 1000:
            raise unavailable("AWS gave a session that lives longer than was asked for; it was thrown away.")
        fields = {"access_key_id": keys.id, "secret_access_key": keys.secret, "session_token": keys.token}
        return Secret({**fields, "region": self._settings.region}, "", ends)

    def renew(self, lease: Lease, expires_at: int) -> int:  # noqa: ARG002 - the port's
        raise unavailable("AWS does not renew a session; it begins another.")

    def revoke(self, lease: Lease) -> None:
        """Over once IAM shows the denial, and the time that it needs to take one in has passed."""
        name, now = require_name(lease, self._context.prefix), self._context.now() // 1000
        until = self._calls.until()
        since = self._denied_since(name, until)
        if since is None:
            self._deny(name, now, max(lease.expires_at // 1000, now) + SHORTEST_S + SKEW_S, until)
            since = self._denied_since(name, until)
        if since is None:
            raise unavailable("IAM took the denial and does not show it; it is asked again.")
        if now - since < self._settings.settle_s:
            raise unavailable(f"The session is denied; IAM has {self._settings.settle_s} s to take that in everywhere.")
        if any(needed < now for needed in list(self._needed.values())):
            with suppress(CannotDo):
                self._prune(now, until)

    def list_orphans(self, known: Collection[str]) -> Sequence[str]:  # noqa: ARG002 - the port's
        """None that could be found; asked at a start, so that what is not needed any more goes then."""
        self._prune(self._context.now() // 1000, self._calls.until())
        return ()

    def close(self) -> None:
        self._calls.close()

    @property
    def _tagged(self) -> bool:
        return self._settings.tags and self._settings.token_file is None

    def _wanted(self, lease: Lease, name: str, seconds: int) -> dict[str, Any]:
        settings, rights = self._settings, lease.rights
        allowed = rights.get("allow")
        if rights.get("role") != settings.role or not allowed:
            raise unavailable("The lease's rights are not those of this class; nothing was asked for.")
        wanted = {
            "RoleArn": settings.role,
            "RoleSessionName": name,
            "DurationSeconds": seconds,
            "Policy": document(allowed),
        }
        if settings.token_file is not None:
            return wanted | {"WebIdentityToken": web_identity(settings.token_file)}
        if settings.external_id:
            wanted["ExternalId"] = settings.external_id
        if settings.source_identity:
            wanted["SourceIdentity"] = settings.source_identity
        tags = rights.get("tags") or {}
        if not all(_TAG.fullmatch(str(value)) for value in tags.values()):
            raise unavailable("The task or the permit has a name that AWS takes in no tag.")
        return wanted | (
            {"Tags": [{"Key": key, "Value": value} for key, value in sorted(tags.items())]} if tags else {}
        )

    def _assume(self, wanted: Mapping[str, Any], until: float) -> dict[str, Any]:
        if self._settings.token_file is not None:
            return self._calls.call("sts", "AssumeRoleWithWebIdentity", NOBODY, until, **wanted)
        return self._calls.call("sts", "AssumeRole", self._own.keys(until), until, **wanted)

    def _iam(self, operation: str, until: float, **parameters: Any) -> dict[str, Any]:
        role = self._settings.role_name
        return self._calls.call("iam", operation, self._own.keys(until), until, RoleName=role, **parameters)

    def _denied_since(self, name: str, until: float) -> int | None:
        """When sessions of this name, or all that have begun, were denied, in seconds; None where they are not."""
        try:
            said = self._iam("GetRolePolicy", until, PolicyName=name)
        except AwsRefused as refused:
            if refused.code == "NoSuchEntity":
                return None
            raise
        text = _policy_text(said)
        stamp = stamp_of(text)
        if stamp is None or text not in {end_of_one(name, *stamp), end_of_all(*stamp)}:
            raise unavailable(f"The role has a policy {name} that Forestall did not write; look at who did.")
        self._needed[name] = stamp[1]
        return stamp[0]

    def _deny(self, name: str, now: int, ends: int, until: float) -> None:
        """Where the role is full: without those that nobody needs, and then with one for all, if the class lets it."""
        makes_room = (self._prune, self._deny_all) if self._settings.end_all_when_full else (self._prune,)
        for make_room in makes_room:
            try:
                return self._put(name, end_of_one(name, now, ends), until)
            except AwsRefused as refused:
                if refused.code != "LimitExceeded":
                    raise
            make_room(now, until)
        try:
            return self._put(name, end_of_one(name, now, ends), until)
        except AwsRefused as refused:
            if refused.code != "LimitExceeded":
                raise
        raise unavailable(
            f"The role {self._settings.role_name} has no room for another denial (10,240 characters in all); "
            "give the class a role of its own, or `end_all_when_full = true`."
        )

    def _deny_all(self, now: int, until: float) -> None:
        """One denial in place of those that it covers: of sessions that certainly began before now. It takes the place
        of one of them in a single step, so that none of their sessions is ever let in again.
        """
        with self._lock:
            covered = []
            for each in self._policies(until):
                stamp = self._stamp(each, until)
                if stamp is not None and stamp[0] < now - SKEW_S:
                    covered.append(each)
            if not covered:
                return
            self._put(covered[0], end_of_all(now, now + LONGEST_S + SKEW_S), until)
            self._needed.pop(covered[0], None)
            for each in covered[1:]:
                self._drop(each, until)

    def _put(self, name: str, text: str, until: float) -> None:
        self._iam("PutRolePolicy", until, PolicyName=name, PolicyDocument=text)

    def _drop(self, name: str, until: float) -> None:
        with suppress(AwsRefused):
            self._iam("DeleteRolePolicy", until, PolicyName=name)
        self._needed.pop(name, None)

    def _prune(self, now: int, until: float) -> None:
        """Delete the denials of sessions that have ended by themselves."""
        with self._lock:
            for name in self._policies(until):
                if name not in self._needed:
                    self._stamp(name, until)
                if self._needed.get(name, now) < now:
                    self._drop(name, until)

    def _stamp(self, name: str, until: float) -> tuple[int, int] | None:
        """When it was written and until when it is needed; None where there is none of ours."""
        try:
            stamp = stamp_of(_policy_text(self._iam("GetRolePolicy", until, PolicyName=name)))
        except AwsRefused:
            return None
        if stamp is not None:
            self._needed[name] = stamp[1]
        return stamp

    def _policies(self, until: float) -> list[str]:
        """Names of this Forestall's denials."""
        names: list[str] = []
        more: dict[str, str] = {}
        while len(names) <= MAX_POLICIES:
            said = self._iam("ListRolePolicies", until, **more)
            names += [name for name in said.get("PolicyNames", []) if name.startswith(self._context.prefix)]
            if not said.get("IsTruncated"):
                return names
            more = {"Marker": said.get("Marker", "")}
        raise unavailable("The role has more inline policies than any role can; IAM does not answer as it should.")


def _policy_text(said: Mapping[str, Any]) -> str:
    """As it was written: botocore has made JSON of it."""
    found = said.get("PolicyDocument")
    if not isinstance(found, dict):
        raise unavailable("IAM answered with something that is no policy.")
    return canonical(_plain(found)).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list) else value


def _require_ours(said: Mapping[str, Any], settings: Settings, name: str) -> None:
    """It has to bear the lease's name, since another's could not be denied; and AWS says that it took a policy in."""
    user = said.get("AssumedRoleUser") or {}
    arn, identity = str(user.get("Arn", "")), str(user.get("AssumedRoleId", ""))
    partition = settings.role.split(":")[1]
    expected = f"arn:{partition}:sts::{settings.account}:assumed-role/{settings.role_name}/{name}"
    if arn != expected or not identity.endswith(f":{name}"):
        raise unavailable("AWS gave a session of another name than was asked for; it was thrown away.")
    if not said.get("PackedPolicySize"):
        raise unavailable("AWS gave a session without its policy; it was thrown away.")
