"""A secret that stands in a KV engine of OpenBao or Vault: read when it is used. A `SecretSource`."""

from __future__ import annotations

from dataclasses import dataclass

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.http import Web
from forestall.adapter.credential.openbao import open_keys
from forestall.adapter.credential.openbao_api import Server, Site
from forestall.adapter.credential.openbao_login import Login
from forestall.adapter.credential.source import plain


@dataclass(frozen=True, slots=True)
class StandingSecret:
    path: str
    """As it is asked for: of an engine of version 2, with `data` in it."""
    field: str
    version: int = 2
    """Of the engine."""


class OpenBaoSecret:
    """The field's value now, whichever version of the secret that is."""

    def __init__(self, site: Site, login: Login, secret: StandingSecret, context: Context) -> None:
        """Asks nobody. Raises SetupError: a file of the server's certificates cannot be used."""
        web = Web(site.trust, total_s=context.timeout_s)
        self._secret = secret
        self._server = Server(site, web, open_keys(login, site, web, context.now), total_s=context.timeout_s)

    def read(self) -> str:
        path, name = self._secret.path, self._secret.field
        said = self._server.ask("GET", path, until=self._server.until()).require(f"read {path}")
        data = said.part("data")
        if self._secret.version == 2:
            inner = data.get("data")
            if not isinstance(inner, dict):
                raise said.odd(f"nothing of an engine of version 2 at {path}, or what was deleted")
            data = inner
        value = data.get(name)
        if not isinstance(value, str):
            raise said.odd(f"no text `{name}` at {path}")
        return plain(value.encode(errors="surrogatepass"), f"`{name}` at {path}")
