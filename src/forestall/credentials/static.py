"""`backend = "static"`: a secret that was there before, by reference (docs/credentials/static.md)."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.source import CommandSource, FileSource, SecretSource, VariableSource, output_of
from forestall.adapter.credential.static import StaticBroker
from forestall.credentials.openbao import open_source
from forestall.table import Table

_FIELD = re.compile(r"[a-z][a-z0-9_]{0,63}")

_HINT = "write `file:PATH`, `env:NAME`, `{ command = [...] }`, or where it is in OpenBao."


def open_broker(table: Table, context: Context, environment: Mapping[str, str] = os.environ) -> StaticBroker:
    """Raises SetupError. Reads no secret."""
    table.require_known("secrets", "allows", needed=("secrets",))
    allows = table.text("allows") if table.has("allows") else ""
    secrets = table.table("secrets")
    if not secrets.values:
        raise table.error(
            "secrets", '`secrets` is empty; write what the fields are, `secrets = { token = "file:..." }`.'
        )
    return StaticBroker({name: _source(secrets, name, context, environment) for name in secrets.values}, allows)


def _source(secrets: Table, name: str, context: Context, environment: Mapping[str, str]) -> SecretSource:
    if not _FIELD.fullmatch(name):
        raise secrets.error(name, f"`{name:.80}` is no name of a field: small letters, digits and `_`.")
    if isinstance(secrets.values[name], dict):
        table = secrets.table(name)
        return open_source(table, context) if table.has("address") else _command(table, context)
    kind, _, rest = secrets.text(name).partition(":")
    match kind:
        case "file" if rest:
            return FileSource(context.folder / os.path.expanduser(rest))  # noqa: PTH111 - a part of a path
        case "env" if rest:
            return VariableSource(rest, environment)
        case _:
            raise secrets.error(name, f"a secret is told by reference, and never written here: {_HINT}")


def _command(table: Table, context: Context) -> CommandSource:
    table.require_known("command", needed=("command",))
    words = table.texts("command")
    if not words or not words[0].startswith("/"):
        raise table.error("command", "`command` is a program by its whole path, and its arguments.")
    return CommandSource(words, context.timeout_s, output_of)
