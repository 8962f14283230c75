"""`backend = "kubernetes"`: tokens of service accounts (docs/credentials/kubernetes.md)."""

from __future__ import annotations

import re
from collections.abc import Mapping

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.http import Trust, Web
from forestall.adapter.credential.kubernetes import Kubernetes, Settings
from forestall.core.effects import Effect
from forestall.proof.url import require_location
from forestall.table import Table

KEYS = ("api", "ca_file", "token_file", "namespace", "service_account", "service_accounts", "audiences")

_NAMESPACE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ACCOUNT = re.compile(r"[a-z0-9](?:[a-z0-9.-]{0,251}[a-z0-9])?")
_AUDIENCE = re.compile(r"[!-~]{1,256}")


def open_broker(table: Table, context: Context) -> Kubernetes:
    """Nothing is asked yet. Raises SetupError."""
    table.require_known(*KEYS, needed=("api", "token_file", "namespace"))
    namespace = table.text("namespace")
    if not _NAMESPACE.fullmatch(namespace):
        raise table.error("namespace", "`namespace` is a namespace's name: small letters, digits and `-`.")
    audiences = table.texts("audiences")
    if not all(_AUDIENCE.fullmatch(each) for each in audiences):
        raise table.error("audiences", "an audience is one word of at most 256 characters.")
    api, token_file = table.location("api", lambda url: require_location(url, loopback=True)), table.path("token_file")
    assert api is not None
    assert token_file is not None
    settings = Settings(api, namespace, _accounts(table), audiences, token_file)
    return Kubernetes(settings, context, Web(Trust(table.path("ca_file")), total_s=context.timeout_s))


def _accounts(table: Table) -> Mapping[Effect, str]:
    """Of one kind or the other, never of both: which of them counts has to be plain."""
    if table.has("service_account") == table.has("service_accounts"):
        raise table.error(
            "service_account", "say `service_account = ...`, or `service_accounts = { read = ... }` by effect."
        )
    if table.has("service_account"):
        return dict.fromkeys(Effect, _account(table, "service_account"))
    inside = table.table("service_accounts")
    inside.require_known(*Effect)
    if not inside.values:
        raise table.error("service_accounts", '`service_accounts` names one at least: `read = "viewer"`.')
    return {Effect(name): _account(inside, name) for name in inside.values}


def _account(table: Table, key: str) -> str:
    name = table.text(key)
    if not _ACCOUNT.fullmatch(name) or ".." in name:
        raise table.error(key, f"`{key}` is a service account's name: small letters, digits, `-` and `.`.")
    return name
