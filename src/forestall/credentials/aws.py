"""`backend = "aws"`: sessions of a role, by AWS STS (docs/credentials/aws.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from forestall.adapter.credential.aws import Aws, Settings
from forestall.adapter.credential.aws_calls import Calls
from forestall.adapter.credential.aws_policy import MAX_SESSION_POLICY, Allowed, document
from forestall.adapter.credential.aws_self import FromEnvironment, FromProfile, FromWebIdentity, Own
from forestall.adapter.credential.context import Context
from forestall.adapter.credential.http import Trust, Web
from forestall.adapter.credential.need import Template
from forestall.core.effects import Effect
from forestall.core.model import Scope
from forestall.proof.url import require_location
from forestall.table import Table

KEYS = (
    *("role", "region", "allow", "external_id", "source_identity", "untagged", "settle_s", "end_all_when_full"),
    *("environment", "profile", "credentials_file", "web_identity_token_file", "own_role", "endpoint", "ca_file"),
)
MAX_SETTLE_S = 300

_ROLE = re.compile(r"arn:aws[a-z-]{0,20}:iam::[0-9]{12}:role/(?:[!-.0-~]{1,64}/){0,8}[A-Za-z0-9+=,.@_-]{1,64}")
_REGION = re.compile(r"[a-z0-9-]{1,32}")
_ACTION = re.compile(r"[a-z0-9-]{1,64}:[A-Za-z0-9]{0,128}\*?")
_RESOURCE = re.compile(r"\*|arn:aws[a-z-]{0,20}:[!-~]{1,1900}")
_EXTERNAL = re.compile(r"[A-Za-z0-9+=,.@:/_-]{2,1224}")
_IDENTITY = re.compile(r"[A-Za-z0-9+=,.@_-]{2,64}")
_PROFILE = re.compile(r"[A-Za-z0-9._-]{1,64}")


def open_broker(table: Table, context: Context, environment: Mapping[str, str] = os.environ) -> Aws:
    """Nothing is asked yet. Raises SetupError."""
    table.require_known(*KEYS, needed=("role", "region", "allow"))
    role, region = _fitting(table, "role", _ROLE, "the ARN of a role"), _fitting(table, "region", _REGION, "a region")
    endpoint = table.location("endpoint", lambda url: require_location(url, loopback=True))
    allow = tuple(_allowed(each, context.scope) for each in table.tables("allow"))
    if not allow:
        raise table.error("allow", "`allow` says nothing; write [[credentials.NAME.allow]] for each effect.")
    _require_small(table, allow)
    settings = Settings(
        role=role,
        region=region,
        allow=allow,
        external_id=_fitting(table, "external_id", _EXTERNAL, "an external id") if table.has("external_id") else "",
        source_identity=_fitting(table, "source_identity", _IDENTITY, "a name") if table.has("source_identity") else "",
        tags=not table.flag("untagged"),
        token_file=table.path("web_identity_token_file"),
        settle_s=table.whole("settle_s", 0, MAX_SETTLE_S, 10),
        end_all_when_full=table.flag("end_all_when_full"),
    )
    _require_one_way(table)
    calls = Calls(Web(Trust(table.path("ca_file")), total_s=context.timeout_s), region, endpoint)
    return Aws(settings, context, calls, _own(table, context, calls, environment))


def _require_one_way(table: Table) -> None:
    """Where Forestall's own credentials come from has to be plain."""
    ways = [key for key in ("environment", "profile", "web_identity_token_file") if table.has(key)]
    if len(ways) != 1:
        raise table.error(
            ways[1] if ways else "role",
            "say where Forestall's own credentials come from, in one way: `profile` with `credentials_file`, "
            "`environment = true`, or `web_identity_token_file` with `own_role`.",
        )
    needs = {"profile": "credentials_file", "web_identity_token_file": "own_role"}
    for way, key in needs.items():
        if table.has(key) != (ways == [way]):
            raise table.error(key if table.has(key) else way, f"`{way}` and `{key}` go together.")
    if ways == ["environment"] and not table.flag("environment"):
        raise table.error("environment", "`environment` is true, or is not there.")
    for key in ("external_id", "source_identity", "untagged"):
        if ways == ["web_identity_token_file"] and table.has(key):
            raise table.error(key, f"AWS takes no `{key}` with a web identity; take it out.")


def _own(table: Table, context: Context, calls: Calls, environment: Mapping[str, str]) -> Own:
    if table.has("profile"):
        file = table.path("credentials_file")
        assert file is not None
        return FromProfile(file, _fitting(table, "profile", _PROFILE, "a profile"))
    token_file = table.path("web_identity_token_file")
    if token_file is None:
        return FromEnvironment(environment)
    role = _fitting(table, "own_role", _ROLE, "the ARN of a role")
    return FromWebIdentity(calls, role, token_file, f"forestall-{context.owner}", context.now)


def _allowed(table: Table, scope: Scope) -> Allowed:
    table.require_known("effect", "actions", "resources", needed=("effect", "actions", "resources"))
    effect = Effect(table.choice("effect", tuple(Effect), None))
    actions, resources = table.texts("actions"), table.texts("resources")
    for action in actions:
        if not _ACTION.fullmatch(action):
            raise table.error("actions", f"`{action:.80}` is no action; write such as `s3:GetObject`, or `s3:Get*`.")
    for resource in resources:
        if not _RESOURCE.fullmatch(resource):
            raise table.error("resources", f"`{resource:.80}` is no ARN; `*` alone is everything.")
    if not actions or not resources:
        raise table.error("actions" if resources else "resources", "name one action and one resource at least.")
    return Allowed(effect, actions, tuple(_template(table, text, scope) for text in resources))


def _template(table: Table, text: str, scope: Scope) -> Template:
    template = table.attempt("resources", lambda: Template.parse(text))
    if template.needs_arguments and scope is Scope.TASK:
        raise table.error("resources", "a task's session is for all of its calls; `{arguments...}` is of one call.")
    return template


def _require_small(table: Table, allow: tuple[Allowed, ...]) -> None:
    """As it stands; what is put into its places comes on top."""
    stated = [
        {"Effect": "Allow", "Action": [*one.actions], "Resource": [r.text for r in one.resources]} for one in allow
    ]
    size = len(document(stated))
    if size > MAX_SESSION_POLICY:
        raise table.error("allow", f"the session's policy has {size} characters; AWS takes {MAX_SESSION_POLICY}.")


def _fitting(table: Table, key: str, shape: re.Pattern[str], what: str) -> str:
    value = table.text(key)
    if not shape.fullmatch(value):
        raise table.error(key, f"`{key}` is {what}.")
    return value
