"""`backend = "github"`: installation tokens of a GitHub App (docs/credentials/github.md)."""

from __future__ import annotations

import re

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.github import LEVELS, MAX_REPOSITORIES, GitHub, Settings, require_repository
from forestall.adapter.credential.http import Trust, Web
from forestall.adapter.credential.need import Template
from forestall.core.model import Scope
from forestall.proof.url import require_location
from forestall.table import Table

KEYS = ("api", "ca_file", "app", "private_key_file", "installation", "account", "repositories", "permissions")
NEEDED = ("app", "private_key_file", "installation", "account", "repositories", "permissions")

_APP = re.compile(r"[A-Za-z0-9._-]{1,64}")
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
_PERMISSION = re.compile(r"[a-z][a-z_]{0,63}")


def open_broker(table: Table, context: Context) -> GitHub:
    """Nothing is asked yet. Raises SetupError."""
    table.require_known(*KEYS, needed=NEEDED)
    app, account = table.text("app"), table.text("account")
    if not _APP.fullmatch(app):
        raise table.error("app", "`app` is the app's client id, or its number.")
    if not _ACCOUNT.fullmatch(account):
        raise table.error("account", "`account` is the user or organization that the app is installed for.")
    key_file = table.path("private_key_file")
    assert key_file is not None
    settings = Settings(
        api=table.location("api", lambda url: require_location(url, loopback=True)) or "https://api.github.com",
        app=app,
        key_file=key_file,
        installation=table.whole("installation", 1, 2**53 - 1, 0),
        account=account,
        repositories=tuple(_repository(table, text, account, context.scope) for text in _several(table)),
        permissions=_permissions(table),
    )
    return GitHub(settings, context, Web(Trust(table.path("ca_file")), total_s=context.timeout_s))


def _several(table: Table) -> tuple[str, ...]:
    names = table.texts("repositories")
    if not 0 < len(names) <= MAX_REPOSITORIES:
        raise table.error("repositories", f"`repositories` names one at least, and {MAX_REPOSITORIES} at most.")
    return names


def _repository(table: Table, text: str, account: str, scope: Scope) -> Template:
    template = table.attempt("repositories", lambda: Template.parse(text))
    if template.needs_arguments and scope is Scope.TASK:
        raise table.error("repositories", "a task's token is for all of its calls; `{arguments...}` is of one call.")
    if template.fixed:
        table.attempt("repositories", lambda: require_repository(text, account))
    return template


def _permissions(table: Table) -> dict[str, str]:
    inside = table.table("permissions")
    for name in inside.values:
        if not _PERMISSION.fullmatch(name):
            raise inside.error(name, f"`{name:.80}` is no permission; GitHub's are such as `contents`.")
    if not inside.values:
        raise table.error("permissions", '`permissions` names one at least: `contents = "read"`.')
    return {name: inside.choice(name, LEVELS, None) for name in inside.values}
