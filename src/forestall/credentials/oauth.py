"""`backend = "oauth"`: access tokens of an authorization server (docs/credentials/oauth.md)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from forestall.adapter import issuing
from forestall.adapter.credential.context import Context
from forestall.adapter.credential.http import Trust, unavailable
from forestall.adapter.credential.oauth import MAX_LIFE_S, Kind, OAuthBroker, Settings, Voice
from forestall.adapter.credential.oauth_rights import SCOPE, Ceiling, texts_of
from forestall.adapter.credential.oauth_server import Client, Endpoints, PrivateKey, Server, Site
from forestall.adapter.credential.source import FileSource
from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.errors import InvalidInput, SetupError
from forestall.core.model import Scope
from forestall.core.place import Where, fields_of
from forestall.home import Home
from forestall.proof.algorithm import Algorithm
from forestall.proof.jwk import SigningKey
from forestall.proof.url import require_issuer_url, require_location
from forestall.table import Table

SERVER = ("issuer", "token_endpoint", "revocation_endpoint", "introspection_endpoint", "ca_file", "client")
KNOWN = (
    *SERVER,
    *("grant", "scopes", "tools", "resource", "audience", "authorization_details", "dpop", "introspect", "unrevocable"),
    *("token_lifetime_s", "assertion", "identity_provider"),
)
SCHEME = "DPoP "
"""Before a bound token, in its header (RFC 9449, 7.1)."""

CLIENT = ("id", "key_file", "algorithm", "kid", "audience", "secret_file", "certificate_file", "certificate_key_file")


def open_broker(table: Table, context: Context) -> OAuthBroker:
    """Raises SetupError. Asks nobody."""
    table.require_known(*KNOWN, needed=("client", "grant", "scopes"))
    kind = Kind(table.choice("grant", tuple(Kind), None))
    dpop = table.flag("dpop")
    wanted = _require_place(table, context, dpop=dpop)
    site = _site(table, context)
    _require_end(table, site)
    settings = Settings(
        kind=kind,
        ceiling=_ceiling(table, context.scope),
        scope=context.scope,
        voice=_voice(table, kind, context),
        dpop=dpop,
        gives_key="key" in wanted,
        introspect=table.flag("introspect"),
        revocable=not table.flag("unrevocable"),
        token_lifetime_ms=table.whole("token_lifetime_s", 0, MAX_LIFE_S, 0) * 1000,
    )
    provider = _provider(table, kind, site, context)
    server = _server(site, context)
    identity = _server(provider, context) if provider is not None else None
    return OAuthBroker(settings, server, now=context.now, random=context.random, identity=identity)


def _server(site: Site, context: Context) -> Server:
    return Server(site, now=context.now, random=context.random, timeout_s=context.timeout_s)


def _site(table: Table, context: Context) -> Site:
    issuer = table.attempt("issuer", lambda: _issuer(table, "issuer")) if table.has("issuer") else ""
    token = table.location("token_endpoint", _address)
    revocation = table.location("revocation_endpoint", _address)
    introspection = table.location("introspection_endpoint", _address)
    if token is None:
        if not issuer:
            raise table.error("token_endpoint", "write `issuer`, whose metadata says the rest, or `token_endpoint`.")
        if revocation is not None or introspection is not None:
            raise table.error("token_endpoint", "without `token_endpoint`, the issuer's metadata says all endpoints.")
        endpoints = None
    else:
        endpoints = Endpoints(token, revocation or "", introspection or "")
    client, trust = _client(table.table("client"), table, context)
    return Site(client, issuer, endpoints, trust)


def _client(table: Table, above: Table, context: Context) -> tuple[Client, Trust]:
    table.require_known(*CLIENT, needed=("id",))
    ways = [name for name in ("key_file", "secret_file", "certificate_file") if table.has(name)]
    if not ways or {"key_file", "secret_file"} <= set(ways):
        raise table.error(
            "client",
            "a client shows itself by its `key_file` (best), by a `certificate_file`, or else by a `secret_file`.",
        )
    key = _key(table, context) if table.has("key_file") else None
    secret = FileSource(context.folder / table.text("secret_file")) if table.has("secret_file") else None
    if key is None and (table.has("algorithm") or table.has("kid") or table.has("audience")):
        raise table.error("client", "`algorithm`, `kid` and `audience` are about a `key_file`, and there is none.")
    trust = Trust(
        _file(above, "ca_file", context),
        _file(table, "certificate_file", context),
        _file(table, "certificate_key_file", context),
    )
    if trust.key is not None and trust.certificate is None:
        raise table.error(
            "certificate_key_file", "`certificate_key_file` goes with a `certificate_file`, and there is none."
        )
    audience = table.text("audience") if table.has("audience") else ""
    return Client(table.text("id"), key, secret, audience), trust


def _file(table: Table, key: str, context: Context) -> Path | None:
    return context.folder / table.text(key) if table.has(key) else None


def _key(table: Table, context: Context) -> PrivateKey:
    algorithm = Algorithm(table.choice("algorithm", tuple(Algorithm), None)) if table.has("algorithm") else None
    kid = table.text("kid") if table.has("kid") else None
    key = PrivateKey(FileSource(context.folder / table.text("key_file")), algorithm, kid)
    try:
        key.read()
    except CannotDo as error:
        raise table.error("key_file", error.detail) from None
    return key


def _ceiling(table: Table, scope: Scope) -> Ceiling:
    scopes = table.table("scopes")
    scopes.require_known(*Effect)
    by_effect = {Effect(name): _words(scopes, name) for name in scopes.values}
    if not any(by_effect.values()):
        raise table.error("scopes", '`scopes` says what each effect may have, `scopes = { read = ["orders.read"] }`.')
    tools = table.table("tools") if table.has("tools") else None
    details = [each.values for each in table.tables("authorization_details")]
    if scope is not Scope.ACTION and (tools is not None or _templates(details)):
        key = "tools" if tools is not None else "authorization_details"
        raise table.error(key, 'a token of a task is for all of its calls; write `scope = "action"` to fit it to one.')
    for each in details:
        _require_detail(table, each)
    return Ceiling(
        by_effect,
        {name: _words(tools, name) for name in tools.values} if tools is not None else {},
        tuple(table.attempt("resource", partial(_resource, url)) for url in table.texts("resource")),
        table.texts("audience"),
        tuple(details),
    )


def _words(table: Table, name: str) -> tuple[str, ...]:
    words = table.texts(name)
    for word in words:
        if not SCOPE.fullmatch(word):
            raise table.error(name, f'`{word:.80}` is no scope: one word, of visible ASCII characters but " and \\.')
    return words


def _templates(details: object) -> list[str]:
    return [text for text in texts_of(details) if "{" in text or "}" in text]


def _require_detail(table: Table, detail: object) -> None:
    if not isinstance(detail, dict) or not isinstance(detail.get("type"), str):
        raise table.error("authorization_details", "each of `authorization_details` has a `type` (RFC 9396).")
    for text in _templates(detail):
        if (
            not text.startswith("{")
            or not text.endswith("}")
            or text.count("{") + text.count("}") != 2
            or len(text) < 3
        ):
            raise table.error("authorization_details", f"`{text:.80}`: an argument stands alone, as `{{name}}`.")


def _voice(table: Table, kind: Kind, context: Context) -> Voice | None:
    if kind is Kind.CLIENT:
        if table.has("assertion"):
            raise table.error("assertion", "with `client_credentials` nobody is told whom the task serves.")
        return None
    if not table.has("assertion"):
        sentence = "write who we are to whoever reads our words: [credentials.NAME.assertion] with its `issuer`."
        raise table.error("assertion", sentence)
    inner = table.table("assertion")
    inner.require_known("issuer", "key_file", "algorithm", "kid", "users_of", needed=("issuer",))
    issuer = inner.attempt("issuer", lambda: _issuer(inner, "issuer"))
    users_of = inner.attempt("users_of", lambda: _issuer(inner, "users_of")) if inner.has("users_of") else ""
    key: Callable[[], SigningKey] = _key(inner, context).read if inner.has("key_file") else _own_key(context)
    return Voice(issuer, key, users_of)


def _own_key(context: Context) -> Callable[[], SigningKey]:
    """The one that grants are signed with, whose public half `/.well-known/jwks.json` has."""

    def read() -> SigningKey:
        try:
            return issuing.load(Home(context.folder).keys).current
        except (SetupError, FileNotFoundError):
            raise unavailable(
                "There is no key yet that signs for whom a task acts; the decision point makes it where there is an "
                "`identity.toml`, or write `key_file`."
            ) from None

    return read


def _provider(table: Table, kind: Kind, site: Site, context: Context) -> Site | None:
    if kind is not Kind.ID_JAG:
        if table.has("identity_provider"):
            raise table.error("identity_provider", "an identity provider is asked for an `id_jag` alone.")
        return None
    if not site.issuer:
        raise table.error("issuer", "an ID-JAG is for one issuer; write the resource server's `issuer`.")
    if not table.has("identity_provider"):
        return None
    inner = table.table("identity_provider")
    inner.require_known("issuer", "token_endpoint", "ca_file", "client", needed=("issuer", "client"))
    return _site(inner, context)


def _require_end(table: Table, site: Site) -> None:
    explicit = site.endpoints
    if explicit is None:
        return
    if table.flag("unrevocable"):
        if explicit.revocation:
            raise table.error("unrevocable", "with a `revocation_endpoint`, tokens are revoked; take one of both out.")
    elif not explicit.revocation:
        raise table.error(
            "revocation_endpoint", "write `revocation_endpoint`; or `unrevocable = true`, where there is none."
        )
    if table.flag("introspect") and not explicit.introspection:
        raise table.error("introspect", "`introspect` needs an `introspection_endpoint`.")


def _require_place(table: Table, context: Context, *, dpop: bool) -> frozenset[str]:
    """What is put there has to be there. A bound token goes where proofs are made: into the header that they go with,
    or, with its key, to whoever makes them. Answers which fields are wanted.
    """
    place = context.place
    if place is None:
        return frozenset()
    given = {"token", "key"} if dpop else {"token"}
    try:
        wanted = fields_of(place.template)
    except InvalidInput as error:
        raise table.error("place", str(error)) from None
    if not wanted <= given:
        raise table.error(
            "place", f"a token has {' and '.join(f'`{{{each}}}`' for each in sorted(given))} and no more."
        )
    is_scheme = place.where is Where.HEADER and place.template.lower().startswith(SCHEME.lower())
    if dpop and place.where is Where.HEADER:
        if (place.name.lower(), place.template) != ("authorization", f"{SCHEME}{{token}}"):
            sentence = f'it goes into `Authorization` as `template = "{SCHEME}{{token}}"`, and the proofs beside it.'
            raise table.error("dpop", f"a token that is bound to a key (DPoP) is no other header's: {sentence}")
    elif dpop and "key" not in wanted:
        raise table.error(
            "dpop",
            "a token that is bound to a key (DPoP) wants a new proof for each request, which whoever has it in this "
            "`place` cannot make; put it into a header, or `{token}` and `{key}` where the server makes the proofs.",
        )
    elif is_scheme:
        raise table.error("place", f"`{SCHEME}` goes before a token that is bound to a key; write `dpop = true`.")
    return wanted


def _issuer(table: Table, key: str) -> str:
    return require_issuer_url(table.text(key), loopback=True)


def _address(url: str) -> str:
    return require_location(url, loopback=True)


def _resource(url: str) -> str:
    """RFC 8707, 2: an absolute URI without a fragment."""
    scheme, colon, rest = url.partition(":")
    if not (scheme.isascii() and scheme[:1].isalpha() and colon and rest) or "#" in url or not url.isprintable():
        raise ValueError("a resource is an absolute URI without a fragment")
    return url
