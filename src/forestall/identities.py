"""Who may be whom: `identity.toml` in the home. Trust domains, issuers of workload tokens, and who vouches for users.

Where the file is missing, nobody is anybody. Every error is a `SetupError` of one sentence that names the file, the
line where there is one, and what to write.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from forestall.core.errors import SetupError, cure
from forestall.core.toml import parse_toml
from forestall.home import Home
from forestall.proof.algorithm import Algorithm
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.github import ISSUER as GITHUB
from forestall.proof.github import Workflows
from forestall.proof.id_jag import MAX_LIFE_MS as GRANT_LIFE_MS
from forestall.proof.id_jag import GrantIssuer
from forestall.proof.kubernetes import ServiceAccounts
from forestall.proof.oidc import Issuer
from forestall.proof.spiffe_id import SpiffeId, parse_workload_id, require_trust_domain
from forestall.proof.url import require_issuer_url, require_location
from forestall.proof.user import UserIssuer
from forestall.proof.workload import Listed, Match, Rule
from forestall.table import Table

MAX_FILE = 1024 * 1024
"""Bytes. No rules written by a person come near it."""

ALGORITHMS = ("RS256", "ES256")
"""Unless a rule says otherwise: what Kubernetes, GitHub and most identity providers sign with."""

CLIENT_ALGORITHMS = ("EdDSA", "ES256", "RS256")
"""Unless a client or a front end says otherwise."""

DAY_S = 86_400

_CLIENT = re.compile(r"[A-Za-z0-9._-]{1,128}")

_WHO = ("issuer", "algorithms", "skew_s", "loopback", "jwks", "ca_file", "token_file")


@dataclass(frozen=True, slots=True)
class BundleSource:
    """Where a trust domain's bundle comes from: a file, or a bundle endpoint in one of the two profiles."""

    file: Path | None = None
    url: str | None = None
    endpoint_id: SpiffeId | None = None
    """Who serves it, in the profile `https_spiffe`."""
    endpoint_bundle: Path | None = None
    """A bundle of that workload's trust domain: authenticates the first fetch."""
    bound_s: int = 600
    """How long it counts when nothing more comes."""


@dataclass(frozen=True, slots=True)
class TrustDomain:
    """A trust domain whose workloads may ask, and the one tenant that they all belong to."""

    name: str
    tenant: str
    workload_api: bool = False
    """Its bundle is the one that our own Workload API tells."""
    bundle: BundleSource | None = None
    """None where no SVIDs of it are taken, or the Workload API has it."""
    bound_s: int = 600
    """How long the bundle that the Workload API told counts after it fell silent."""


@dataclass(frozen=True, slots=True)
class KeySource:
    """How to come by an issuer's keys."""

    jwks: str | None = None
    """Where they are; None to find out by discovery."""
    ca_file: Path | None = None
    """PEM of the authorities that its certificate may come from; None for the machine's."""
    token_file: Path | None = None
    """A token of our own to show, which is read again each time; goes to the configured address alone."""


@dataclass(frozen=True, slots=True)
class Reviewer:
    """A cluster that is asked whether a token still counts."""

    api: str
    """Its API server."""
    token_file: Path
    """Of our own service account, which has `system:auth-delegator`."""
    ca_file: Path | None = None
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class WorkloadIssuer:
    rule: Issuer
    source: KeySource
    reviewer: Reviewer | None = None


@dataclass(frozen=True, slots=True)
class Users:
    rule: UserIssuer
    source: KeySource


@dataclass(frozen=True, slots=True)
class Grants:
    rule: GrantIssuer
    source: KeySource


class Signal(StrEnum):
    """Events that a transmitter may send (CAEP 1.0)."""

    SESSION_REVOKED = "session-revoked"
    CREDENTIAL_CHANGE = "credential-change"
    RISK_LEVEL_CHANGE = "risk-level-change"


@dataclass(frozen=True, slots=True)
class Transmitter:
    """Who may push security events (RFC 8935), about users and agents of its tenant and nobody else."""

    issuer: str
    audience: str
    """What it calls us."""
    tenant: str
    signals: frozenset[Signal]
    algorithms: frozenset[Algorithm]
    max_age_ms: int
    """How long after it was issued an event is still taken."""
    skew_ms: int
    source: KeySource
    jwks_file: Path | None = None
    """Its keys, where they are not fetched."""
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class RegisteredClient:
    """A workload that signs for itself (RFC 7523), and the one trust domain that it is of."""

    id: str
    """Its `client_id`, and its name to policy: a SPIFFE ID of the trust domain, or a word of its own."""
    trust_domain: str
    jwks: Path
    """Its public keys: a JWK Set."""
    algorithms: frozenset[Algorithm]


@dataclass(frozen=True, slots=True)
class FrontEnd:
    """Where users say what they want. Its word on that counts, for users of these issuers."""

    issuer: str
    jwks: Path
    users: tuple[str, ...]
    algorithms: frozenset[Algorithm]


@dataclass(frozen=True, slots=True)
class Identities:
    """Everything in the file. No two rules of one kind are for the same issuer."""

    trust_domains: tuple[TrustDomain, ...] = ()
    issuers: tuple[WorkloadIssuer, ...] = ()
    users: tuple[Users, ...] = ()
    grants: tuple[Grants, ...] = ()
    transmitters: tuple[Transmitter, ...] = ()
    sources: Mapping[str, KeySource] = field(default_factory=lambda: MappingProxyType({}))
    """By issuer: one for all of its rules."""
    clients: tuple[RegisteredClient, ...] = ()
    front_ends: tuple[FrontEnd, ...] = ()
    workload_api: str = ""
    """Where our own Workload API is; empty: where `SPIFFE_ENDPOINT_SOCKET` says."""

    @property
    def tenants(self) -> Mapping[str, str]:
        """By trust domain."""
        return MappingProxyType({each.name: each.tenant for each in self.trust_domains})

    @property
    def tenants_of_users(self) -> Mapping[str, str]:
        """By issuer; one that vouches for users of two tenants is left out."""
        found: dict[str, set[str]] = {}
        rules: list[UserIssuer | GrantIssuer] = [each.rule for each in self.users]
        rules += [each.rule for each in self.grants]
        for rule in rules:
            found.setdefault(rule.issuer, set()).add(rule.tenant)
        return MappingProxyType({issuer: min(tenants) for issuer, tenants in found.items() if len(tenants) == 1})

    def tenant(self, trust_domain: str) -> str | None:
        """Whose workloads those of the trust domain are; None for one that is not configured."""
        return next((each.tenant for each in self.trust_domains if each.name == trust_domain), None)


def load_identities(home: Home) -> Identities:
    """The rules in `identity.toml`, or none where there is no such file.

    Raises:
        SetupError: it cannot be read, or something in it is unknown, missing, or lets too much through.
    """
    file = home.identities
    try:
        with file.open("rb") as opened:
            data = opened.read(MAX_FILE + 1)
    except FileNotFoundError:
        return Identities()
    except OSError as error:
        raise SetupError(f"{file} cannot be read: {cure(error)}.") from None
    if len(data) > MAX_FILE:
        raise SetupError(f"{file} is larger than {MAX_FILE} bytes; take out what is not needed.")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise SetupError(f"{file} is not UTF-8; save it as UTF-8.") from None
    return _read(Table.of_file(parse_toml(text, file), text, file))


def _read(top: Table) -> Identities:
    top.require_known(
        "workload_api", "trust_domains", "issuers", "users", "grants", "clients", "front_ends", "transmitters"
    )
    domains = tuple(map(_trust_domain, top.tables("trust_domains")))
    _require_once(top, "trust_domains", [each.name for each in domains], "trust domain")
    names = [each.name for each in domains]
    issuers = tuple(_issuer(table, names) for table in top.tables("issuers"))
    users = tuple(map(_users, top.tables("users")))
    grants = tuple(map(_grants, top.tables("grants")))
    rules: list[tuple[str, tuple[WorkloadIssuer | Users | Grants, ...]]] = [
        ("issuers", issuers),
        ("users", users),
        ("grants", grants),
    ]
    sources: dict[str, KeySource] = {}
    loopback: dict[str, bool] = {}
    for section, several in rules:
        _require_once(top, section, [each.rule.issuer for each in several], "issuer")
        for each, table in zip(several, top.tables(section), strict=True):
            name = each.rule.issuer
            if (
                sources.setdefault(name, each.source) != each.source
                or loopback.setdefault(name, each.rule.loopback) is not each.rule.loopback
            ):
                raise table.error(
                    "issuer", "this issuer's keys are found in two ways; write the same jwks, ca_file, token_file "
                    "and loopback in each of its sections."
                )  # fmt: skip
    _require_apart(top, issuers)
    transmitters = tuple(map(_transmitter, top.tables("transmitters")))
    _require_once(top, "transmitters", [each.issuer for each in transmitters], "issuer")
    clients = tuple(_client(table, names, issuers) for table in top.tables("clients"))
    _require_once(top, "clients", [each.id for each in clients], "client")
    front_ends = tuple(
        _front_end(table, [each.rule.issuer for each in users + grants]) for table in top.tables("front_ends")
    )
    _require_once(top, "front_ends", [each.issuer for each in front_ends], "front end")
    return Identities(
        domains,
        issuers,
        users,
        grants,
        transmitters,
        MappingProxyType(sources),
        clients,
        front_ends,
        top.text("workload_api") if top.has("workload_api") else "",
    )


def _trust_domain(table: Table) -> TrustDomain:
    table.require_known(
        "name",
        "tenant",
        "bundle",
        "file",
        "url",
        "endpoint_id",
        "endpoint_bundle",
        "bound_s",
        needed=("name", "tenant"),
    )
    name = table.text("name")
    table.attempt("name", lambda: require_trust_domain(name))
    kinds = {
        "none": (),
        "workload_api": (),
        "file": ("file",),
        "https_web": ("url",),
        "https_spiffe": ("url", "endpoint_id", "endpoint_bundle"),
    }
    kind = table.choice("bundle", tuple(kinds), "none")
    needed = kinds[kind]
    for key in ("file", "url", "endpoint_id", "endpoint_bundle"):
        if table.has(key) != (key in needed):
            what = f"needs `{key}`; write it" if key in needed else f"has no `{key}`; take it out"
            raise table.error(key if table.has(key) else "bundle", f"a bundle of the kind `{kind}` {what}.")
    bound_s = table.whole("bound_s", 20, DAY_S, 600)
    if kind == "workload_api":
        return TrustDomain(name, table.text("tenant"), workload_api=True, bound_s=bound_s)
    if kind == "none":
        if table.has("bound_s"):
            raise table.error("bound_s", f"a bundle of the kind `{kind}` has no `bound_s`; take it out.")
        return TrustDomain(name, table.text("tenant"))
    source = BundleSource(
        file=table.path("file"),
        url=table.location("url", lambda url: require_location(url, loopback=False)),
        endpoint_id=table.attempt("endpoint_id", lambda: parse_workload_id(table.text("endpoint_id")))
        if table.has("endpoint_id")
        else None,
        endpoint_bundle=table.path("endpoint_bundle"),
        bound_s=bound_s,
    )
    return TrustDomain(name, table.text("tenant"), bundle=source)


def _issuer(table: Table, trust_domains: list[str]) -> WorkloadIssuer:
    kinds = {
        "kubernetes": ("prefix", "namespaces", "review"),
        "github": ("workloads",),
        "listed": ("workloads",),
    }
    kind = table.choice("kind", tuple(kinds), None)
    common = (*_WHO, "kind", "audience", "trust_domain", "max_life_s")
    needed = ("audience", "trust_domain") if kind == "github" else ("issuer", "audience", "trust_domain")
    table.require_known(*common, *kinds[kind], needed=needed)
    if table.text("trust_domain") not in trust_domains:
        raise table.error("trust_domain", "this trust domain is not there; write a [[trust_domains]] with its name.")
    rule: Rule
    if kind == "kubernetes":
        rule = table.attempt("prefix", lambda: ServiceAccounts(table.text("prefix", ""), _namespaces(table)))
    else:
        matches = tuple(map(_match, table.tables("workloads")))
        rule = table.attempt("workloads", lambda: Workflows(matches) if kind == "github" else Listed(matches))
    default = GITHUB if kind == "github" else None
    issuer = table.attempt(
        "issuer",
        lambda: Issuer(
            issuer=table.text("issuer", default),
            audience=table.text("audience"),
            algorithms=_algorithms(table),
            trust_domain=table.text("trust_domain"),
            rule=rule,
            max_life_ms=table.whole("max_life_s", 60, DAY_S, 3600) * 1000,
            skew_ms=table.whole("skew_s", 0, 60, 30) * 1000,
            loopback=table.flag("loopback"),
        ),
    )
    return WorkloadIssuer(issuer, _source(table), _reviewer(table, loopback=issuer.loopback))


def _users(table: Table) -> Users:
    table.require_known(*_WHO, "client", "tenant", "max_age_s", needed=("issuer", "client", "tenant"))
    rule = table.attempt(
        "issuer",
        lambda: UserIssuer(
            issuer=table.text("issuer"),
            client=table.text("client"),
            algorithms=_algorithms(table),
            tenant=table.text("tenant"),
            max_age_ms=table.whole("max_age_s", 60, DAY_S, 3600) * 1000,
            skew_ms=table.whole("skew_s", 0, 60, 30) * 1000,
            loopback=table.flag("loopback"),
        ),
    )
    return Users(rule, _source(table))


def _grants(table: Table) -> Grants:
    table.require_known(
        *(*_WHO, "audience", "tenant", "foreign_tenant", "max_life_s"), needed=("issuer", "audience", "tenant")
    )
    most = GRANT_LIFE_MS // 1000
    rule = table.attempt(
        "issuer",
        lambda: GrantIssuer(
            issuer=table.text("issuer"),
            audience=table.text("audience"),
            algorithms=_algorithms(table),
            tenant=table.text("tenant"),
            foreign_tenant=table.text("foreign_tenant") if table.has("foreign_tenant") else None,
            max_life_ms=table.whole("max_life_s", 10, most, most) * 1000,
            skew_ms=table.whole("skew_s", 0, 60, 30) * 1000,
            loopback=table.flag("loopback"),
        ),
    )
    return Grants(rule, _source(table))


def _client(table: Table, trust_domains: list[str], issuers: tuple[WorkloadIssuer, ...]) -> RegisteredClient:
    table.require_known("id", "trust_domain", "jwks", "algorithms", needed=("id", "trust_domain", "jwks"))
    trust_domain = table.text("trust_domain")
    if trust_domain not in trust_domains:
        raise table.error("trust_domain", "this trust domain is not there; write a [[trust_domains]] with its name.")
    name = table.attempt("id", lambda: _require_client(table.text("id"), trust_domain))
    for each in issuers:
        if each.rule.trust_domain == trust_domain and _vouches(
            each.rule.rule, name.removeprefix(f"spiffe://{trust_domain}")
        ):
            raise table.error(
                "id", f"{each.rule.issuer} vouches for this workload already; give the client a name of its own."
            )
    jwks = table.path("jwks")
    assert jwks is not None
    return RegisteredClient(name, trust_domain, jwks, _algorithms(table, CLIENT_ALGORITHMS))


def _require_client(name: str, trust_domain: str) -> str:
    """A client's id, which is a workload's name: of its own trust domain, where it is a SPIFFE ID."""
    if name.startswith("spiffe://"):
        if parse_workload_id(name).trust_domain != trust_domain:
            raise InvalidProof(Fault.WRONG_TRUST_DOMAIN, "a SPIFFE ID of another trust domain")
    elif not _CLIENT.fullmatch(name):
        raise ValueError("a client's id is a SPIFFE ID, or a word of a-z A-Z 0-9 . - _")
    return name


def _vouches(rule: Rule, path: str) -> bool:
    if isinstance(rule, ServiceAccounts):
        return path.startswith(f"{rule.prefix}/ns/")
    return isinstance(rule, Workflows | Listed) and any(each.path == path for each in rule.workloads)


def _front_end(table: Table, known: list[str]) -> FrontEnd:
    table.require_known("issuer", "jwks", "users", "algorithms", needed=("issuer", "jwks", "users"))
    users = table.texts("users")
    if not users or not set(users) <= set(known):
        raise table.error("users", "`users` names issuers that are in a [[users]] or a [[grants]].")
    jwks = table.path("jwks")
    assert jwks is not None
    return FrontEnd(table.text("issuer"), jwks, users, _algorithms(table, CLIENT_ALGORITHMS))


def _transmitter(table: Table) -> Transmitter:
    table.require_known(
        *(*_WHO, "jwks_file", "audience", "tenant", "events", "max_age_s"), needed=("issuer", "audience", "tenant")
    )
    loopback = table.flag("loopback")
    issuer = table.attempt("issuer", lambda: require_issuer_url(table.text("issuer"), loopback=loopback))
    known = tuple(each.value for each in Signal)
    events = table.texts("events", known)
    for name in events or [""]:
        if name not in known:
            raise table.error("events", f"`events` names some of {', '.join(known)}.")
    if table.has("jwks_file") and any(table.has(key) for key in ("jwks", "ca_file", "token_file")):
        raise table.error("jwks_file", "keys from a file are not fetched; take `jwks`, `ca_file` and `token_file` out.")
    return Transmitter(
        issuer=issuer,
        audience=table.text("audience"),
        tenant=table.text("tenant"),
        signals=frozenset(map(Signal, events)),
        algorithms=_algorithms(table, ("RS256",)),
        max_age_ms=table.whole("max_age_s", 60, 7 * DAY_S, DAY_S) * 1000,
        skew_ms=table.whole("skew_s", 0, 60, 30) * 1000,
        source=_source(table),
        jwks_file=table.path("jwks_file"),
        loopback=loopback,
    )


def _source(table: Table) -> KeySource:
    loopback = table.flag("loopback")
    return KeySource(
        jwks=table.location("jwks", lambda url: require_location(url, loopback=loopback)),
        ca_file=table.path("ca_file"),
        token_file=table.path("token_file"),
    )


def _reviewer(table: Table, *, loopback: bool) -> Reviewer | None:
    if not table.has("review"):
        return None
    inside = table.table("review")
    inside.require_known("api", "token_file", "ca_file", needed=("api", "token_file"))
    api = inside.text("api")
    inside.attempt("api", lambda: require_issuer_url(api, loopback=loopback))
    token_file = inside.path("token_file")
    assert token_file is not None
    return Reviewer(api, token_file, inside.path("ca_file"), loopback)


def _match(table: Table) -> Match:
    table.require_known("path", "claims", needed=("path", "claims"))
    claims = table.table("claims")
    equal = {name: claims.text(name) for name in claims.values}
    return table.attempt("path", lambda: Match(table.text("path"), MappingProxyType(equal)))


def _namespaces(table: Table) -> frozenset[str] | None:
    if not table.has("namespaces"):
        return None
    names = table.texts("namespaces")
    if not names:
        raise table.error("namespaces", "`namespaces` names none; take it out for all of the cluster's.")
    return frozenset(names)


def _algorithms(table: Table, default: tuple[str, ...] = ALGORITHMS) -> frozenset[Algorithm]:
    names = table.texts("algorithms", default)
    known = [each.value for each in Algorithm]
    for name in names:
        if name not in known:
            raise table.error("algorithms", f"unknown algorithm `{name}`; known are {', '.join(known)}.")
    return frozenset(map(Algorithm, names))


def _require_once(top: Table, section: str, names: list[str], what: str) -> None:
    for name, count in Counter(names).items():
        if count > 1:
            second = [at for at, each in enumerate(names) if each == name][1]
            raise top.tables(section)[second].error(
                {"trust domain": "name", "client": "id"}.get(what, "issuer"),
                f"this {what} has a [[{section}]] already; join the two.",
            )


def _require_apart(top: Table, issuers: tuple[WorkloadIssuer, ...]) -> None:
    """Two issuers never vouch for one workload: the weaker of them would decide who it is."""
    for later, table in zip(issuers, top.tables("issuers"), strict=True):
        for earlier in issuers[: issuers.index(later)]:
            common = _common(earlier.rule.rule, later.rule.rule)
            if common is not None and earlier.rule.trust_domain == later.rule.trust_domain:
                key = "prefix" if isinstance(later.rule.rule, ServiceAccounts) else "workloads"
                raise table.error(
                    key, f"two issuers vouch for {common} in {later.rule.trust_domain}; give each a path of its own."
                )


def _common(one: Rule, other: Rule) -> str | None:
    """A path that both rules come to."""
    if isinstance(one, ServiceAccounts) and isinstance(other, ServiceAccounts):
        return f"{one.prefix}/ns" if one.prefix == other.prefix else None
    if isinstance(other, ServiceAccounts):
        one, other = other, one
    assert isinstance(other, Workflows | Listed)
    paths = {each.path for each in other.workloads}
    if isinstance(one, ServiceAccounts):
        return next((path for path in sorted(paths) if path.startswith(f"{one.prefix}/ns/")), None)
    assert isinstance(one, Workflows | Listed)
    return next((each.path for each in one.workloads if each.path in paths), None)
