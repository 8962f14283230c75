"""identity.toml: what is wrong is named with its file, its line and what to write; what is right is a rule."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.oidc.keys import Times
from forestall.config import load
from forestall.core.errors import SetupError
from forestall.home import Home
from forestall.identities import (
    MAX_FILE,
    BundleSource,
    FrontEnd,
    Identities,
    KeySource,
    RegisteredClient,
    Reviewer,
    Signal,
    TrustDomain,
    load_identities,
)
from forestall.proof.algorithm import Algorithm
from forestall.proof.github import Workflows
from forestall.proof.id_jag import GrantIssuer
from forestall.proof.kubernetes import ServiceAccounts
from forestall.proof.spiffe_id import parse_workload_id
from forestall.proof.user import UserIssuer
from forestall.proof.workload import Listed, Match

DOMAIN = '[[trust_domains]]\nname = "example.org"\ntenant = "acme"\n'
CLUSTER = """\
[[issuers]]
kind = "kubernetes"
issuer = "https://cluster.example"
audience = "https://forestall.example"
trust_domain = "example.org"
"""
LISTED = CLUSTER.replace("kubernetes", "listed").replace("cluster", "idp") + (
    '[[issuers.workloads]]\npath = "/agents/billing"\nclaims = { sub = "client-7" }\n'
)
GITHUB = """\
[[issuers]]
kind = "github"
audience = "https://forestall.example"
trust_domain = "example.org"

[[issuers.workloads]]
path = "/ci/release"
[issuers.workloads.claims]
repository_id = "1"
repository_owner_id = "2"
event_name = "push"
"""
USERS = '[[users]]\nissuer = "https://idp.example"\nclient = "front-end"\ntenant = "acme"\n'
GRANTS = '[[grants]]\nissuer = "https://idp.example"\naudience = "https://forestall.example"\ntenant = "acme"\n'

CLIENT = '[[clients]]\nid = "agent"\ntrust_domain = "example.org"\njwks = "agent.jwks"\n'
FRONT_END = '[[front_ends]]\nissuer = "https://app.example"\nusers = ["https://idp.example"]\njwks = "app.jwks"\n'

SPIFFE = """\
bundle = "https_spiffe"
url = "https://a.example/b"
endpoint_id = "spiffe://example.org/server"
endpoint_bundle = "/first.json"
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def read(home: Home, text: str) -> Identities:
    (home.root / "identity.toml").write_text(text)
    return load_identities(home)


def test_without_a_file_nobody_is_anybody(home: Home) -> None:
    assert load_identities(home) == Identities()
    assert load_identities(home).tenant("example.org") is None


def test_a_cluster_has_its_service_accounts(home: Home) -> None:
    text = DOMAIN + CLUSTER + 'prefix = "/a"\nnamespaces = ["shop"]\nca_file = "ca.pem"\ntoken_file = "/own"\n'
    review = '[issuers.review]\napi = "https://cluster.example"\ntoken_file = "own"\nca_file = "ca.pem"\n'
    found = read(home, text + review)
    (cluster,) = found.issuers
    assert cluster.rule.rule == ServiceAccounts("/a", frozenset({"shop"}))
    assert (cluster.rule.issuer, cluster.rule.audience) == ("https://cluster.example", "https://forestall.example")
    assert cluster.rule.algorithms == {Algorithm.RS256, Algorithm.ES256}
    assert (cluster.rule.max_life_ms, cluster.rule.skew_ms, cluster.rule.loopback) == (3_600_000, 30_000, False)
    assert cluster.source == KeySource(ca_file=home.root / "ca.pem", token_file=Path("/own"))
    assert cluster.reviewer == Reviewer("https://cluster.example", home.root / "own", home.root / "ca.pem")
    assert found.sources == {"https://cluster.example": cluster.source}
    assert found.tenant("example.org") == "acme"


def test_a_workflow_is_told_by_its_numbers(home: Home) -> None:
    (found,) = read(home, DOMAIN + GITHUB).issuers
    claims = {"repository_id": "1", "repository_owner_id": "2", "event_name": "push"}
    assert found.rule.rule == Workflows((Match("/ci/release", claims),))
    assert found.rule.issuer == "https://token.actions.githubusercontent.com"


def test_any_issuer_lists_its_workloads(home: Home) -> None:
    text = LISTED.replace("[[issuers.workloads]]", 'algorithms = ["PS256"]\nmax_life_s = 60\n[[issuers.workloads]]', 1)
    text += '[[issuers.workloads]]\npath = "/agents/shipping"\nclaims = { sub = "client-8", azp = "robot" }\n'
    (found,) = read(home, DOMAIN + text).issuers
    shipping = Match("/agents/shipping", {"sub": "client-8", "azp": "robot"})
    assert found.rule.rule == Listed((Match("/agents/billing", {"sub": "client-7"}), shipping))
    assert (found.rule.algorithms, found.rule.max_life_ms) == ({Algorithm.PS256}, 60_000)


def test_users_and_grants_are_of_a_tenant(home: Home) -> None:
    found = read(home, USERS + GRANTS + 'foreign_tenant = "t-7"\nmax_life_s = 300\n')
    algorithms = frozenset({Algorithm.RS256, Algorithm.ES256})
    assert [each.rule for each in found.users] == [
        UserIssuer("https://idp.example", "front-end", algorithms, "acme", 3_600_000)
    ]
    assert [each.rule for each in found.grants] == [
        GrantIssuer("https://idp.example", "https://forestall.example", algorithms, "acme", "t-7", 300_000)
    ]
    assert found.sources == {"https://idp.example": KeySource()}


def test_clients_and_front_ends_have_keys_in_a_file(home: Home) -> None:
    text = 'workload_api = "unix:///run/agent.sock"\n' + DOMAIN + USERS + CLIENT + FRONT_END
    found = read(home, text + 'algorithms = ["ES256"]\n')
    usual = frozenset({Algorithm.EDDSA, Algorithm.ES256, Algorithm.RS256})
    assert found.clients == (RegisteredClient("agent", "example.org", home.root / "agent.jwks", usual),)
    users, only = ("https://idp.example",), frozenset({Algorithm.ES256})
    assert found.front_ends == (FrontEnd("https://app.example", home.root / "app.jwks", users, only),)
    assert found.workload_api == "unix:///run/agent.sock"
    assert found.tenants == {"example.org": "acme"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", TrustDomain("example.org", "acme")),
        ('bundle = "none"', TrustDomain("example.org", "acme")),
        ('bundle = "workload_api"', TrustDomain("example.org", "acme", workload_api=True)),
        ('bundle = "workload_api"\nbound_s = 60', TrustDomain("example.org", "acme", workload_api=True, bound_s=60)),
        (
            'bundle = "https_web"\nurl = "https://a.example/b"\nbound_s = 60',
            TrustDomain("example.org", "acme", bundle=BundleSource(url="https://a.example/b", bound_s=60)),
        ),
        (
            SPIFFE,
            TrustDomain(
                "example.org",
                "acme",
                bundle=BundleSource(
                    url="https://a.example/b",
                    endpoint_id=parse_workload_id("spiffe://example.org/server"),
                    endpoint_bundle=Path("/first.json"),
                ),
            ),
        ),
    ],
)
def test_a_bundle_has_one_source(home: Home, text: str, expected: TrustDomain) -> None:
    assert read(home, DOMAIN + text + "\n").trust_domains == (expected,)


def test_a_path_is_relative_to_the_home(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    for text, path in (("b", home.root / "b"), ("/b", Path("/b")), ("~/b", Path("/home/somebody/b"))):
        (found,) = read(home, DOMAIN + f'bundle = "file"\nfile = "{text}"\n').trust_domains
        assert found.bundle == BundleSource(file=path)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        # unknown, missing, and of the wrong kind
        ("[[issuer]]\n", 1, "unknown section `issuer`; did you mean `issuers`?"),
        ("issuers = 3\n", 1, "`issuers` is a list of tables; write [[issuers]] on a line of its own."),
        ("[issuers]\n", 1, "`issuers` is a list of tables"),
        (DOMAIN + "tenat = 1\n", 4, "unknown key `tenat` in [trust_domains]; did you mean `tenant`?"),
        ('[[trust_domains]]\nname = "a"\n', 1, "[trust_domains] has no `tenant`; it says name, tenant."),
        ('[[trust_domains]]\nname = 3\ntenant = "a"\n', 2, "`name` is a text that is not empty."),
        ('[[trust_domains]]\nname = ""\ntenant = "a"\n', 2, "`name` is a text that is not empty."),
        ('[[trust_domains]]\nname = "A"\ntenant = "a"\n', 2, "this cannot be"),
        (DOMAIN + "\n" + DOMAIN, 6, "this trust domain has a [[trust_domains]] already; join the two."),
        (DOMAIN + 'bundle = "web"\n', 4, "`bundle` is one of none, workload_api, file, https_web, https_spiffe."),
        (DOMAIN + 'bundle = "file"\n', 4, "a bundle of the kind `file` needs `file`; write it."),
        (DOMAIN + 'bundle = "file"\nfile = "a"\nurl = "https://a"\n', 6, "has no `url`; take it out."),
        (DOMAIN + 'file = "a"\n', 4, "a bundle of the kind `none` has no `file`; take it out."),
        (DOMAIN + "bound_s = 60\n", 4, "has no `bound_s`"),
        (DOMAIN + 'bundle = "file"\nfile = "a"\nbound_s = 19\n', 6, "`bound_s` is a whole number from 20 to 86400."),
        (DOMAIN + 'bundle = "https_web"\nurl = "http://a/"\n', 5, "not https"),
        (
            DOMAIN + 'bundle = "https_spiffe"\nurl = "https://a/"\nendpoint_id = "a"\nendpoint_bundle = "b"\n',
            6,
            "this cannot be",
        ),
        # issuers
        ('[[issuers]]\nissuer = "https://a"\n', 1, "`kind` is one of kubernetes, github, listed."),
        (DOMAIN + CLUSTER + "skew_s = 61\n", 9, "`skew_s` is a whole number from 0 to 60."),
        (DOMAIN + CLUSTER + "skew_s = true\n", 9, "`skew_s` is a whole number"),
        (DOMAIN + CLUSTER + "loopback = 1\n", 9, "`loopback` is true or false."),
        (DOMAIN + CLUSTER + "namespaces = []\n", 9, "`namespaces` names none; take it out for all of the cluster's."),
        (DOMAIN + CLUSTER + 'namespaces = "shop"\n', 9, "`namespaces` is a list of texts."),
        (DOMAIN + CLUSTER + 'prefix = "a"\n', 9, "a workload's path begins with `/`"),
        (DOMAIN + CLUSTER + 'algorithms = ["HS256"]\n', 9, "unknown algorithm `HS256`; known are RS256"),
        (DOMAIN + CLUSTER + 'algorithms = ["none"]\n', 9, "unknown algorithm `none`"),
        (DOMAIN + CLUSTER + "algorithms = []\n", 6, "has an audience, algorithms"),
        (DOMAIN + CLUSTER + 'jwks = "http://127.0.0.1/"\n', 9, "not https"),
        (DOMAIN + CLUSTER.replace("https://cl", "http://cl"), 6, "not https"),
        (
            DOMAIN + CLUSTER.replace("https://forestall.example", "https://kubernetes.default.svc"),
            6,
            "API server's own",
        ),
        (CLUSTER, 5, "this trust domain is not there; write a [[trust_domains]] with its name."),
        (DOMAIN + CLUSTER + '[[issuers.workloads]]\npath = "/a"\n', 9, "unknown key `workloads` in [issuers]"),
        (DOMAIN + CLUSTER + "[issuers.review]\n", 9, "[issuers.review] has no `api`; it says api, token_file."),
        (DOMAIN + CLUSTER + "review = true\n", 9, "`review` is a table; write [issuers.review] on a line of its own."),
        (
            DOMAIN + CLUSTER + '[issuers.review]\napi = "http://a"\ntoken_file = "t"\n',
            10,
            "not https",
        ),
        (DOMAIN + CLUSTER + CLUSTER, 11, "this issuer has a [[issuers]] already; join the two."),
        (DOMAIN + LISTED + 'path = "/b"\n', 0, "not TOML"),
        (DOMAIN + LISTED.partition("[[issuers.workloads]]")[0], 4, "a list of no workloads"),
        (DOMAIN + LISTED + "\n[[issuers.workloads]]\nclaims = {}\n", 13, "[issuers.workloads] has no `path`"),
        (DOMAIN + LISTED + '\n[[issuers.workloads]]\npath = "/b"\nclaims = {}\n', 14, "a rule that asks for nothing"),
        (DOMAIN + LISTED + '\n[[issuers.workloads]]\npath = "/b"\nclaims = { sub = 3 }\n', 15, "`sub` is a text"),
        (DOMAIN + LISTED + '\n[[issuers.workloads]]\npath = "b"\nclaims = { sub = "a" }\n', 14, "begins with `/`"),
        (DOMAIN + GITHUB.replace('event_name = "push"\n', ""), 9, "each workflow is told by event_name"),
        # two that would be one
        (
            DOMAIN + CLUSTER + CLUSTER.replace("cluster", "other"),
            9,
            "two issuers vouch for /ns in example.org; give each a path of its own.",
        ),
        (
            DOMAIN + LISTED + LISTED.replace("idp", "other"),
            17,
            "two issuers vouch for /agents/billing in example.org",
        ),
        (
            DOMAIN + CLUSTER + LISTED.replace("/agents/billing", "/ns/shop/sa/agent"),
            14,
            "two issuers vouch for /ns/shop/sa/agent",
        ),
        (
            DOMAIN + LISTED.replace("/agents/billing", "/ns/shop/sa/agent") + CLUSTER,
            12,
            "two issuers vouch for /ns/shop/sa/agent",
        ),
        # users and grants
        ('[[users]]\nissuer = "https://a"\n', 1, "[users] has no `client`; it says issuer, client, tenant."),
        (USERS + "max_age_s = 1\n", 5, "`max_age_s` is a whole number from 60 to 86400."),
        (USERS + 'audience = "a"\n', 5, "unknown key `audience` in [users]"),
        (USERS + USERS, 6, "this issuer has a [[users]] already; join the two."),
        (GRANTS + "max_life_s = 601\n", 5, "`max_life_s` is a whole number from 10 to 600."),
        (GRANTS.replace("forestall", "idp"), 2, "does not take its own grants"),
        (USERS + GRANTS + 'jwks = "https://idp.example/keys"\n', 6, "this issuer's keys are found in two ways"),
        (USERS + GRANTS + "loopback = true\n", 6, "this issuer's keys are found in two ways"),
        # clients and front ends
        (DOMAIN + '[[clients]]\nid = "a"\ntrust_domain = "example.org"\n', 4, "[clients] has no `jwks`"),
        (CLIENT, 3, "write a [[trust_domains]] with its name."),
        (DOMAIN + CLIENT.replace("agent", "an agent"), 5, "a client's id is a SPIFFE ID, or a word"),
        (DOMAIN + CLIENT.replace("agent", "spiffe://other.example/a"), 5, "a SPIFFE ID of another trust domain"),
        (DOMAIN + CLIENT.replace("agent", "spiffe://example.org"), 5, "the id of a trust domain is no workload's"),
        (DOMAIN + CLIENT + 'algorithms = ["none"]\n', 8, "unknown algorithm `none`"),
        (DOMAIN + CLIENT + CLIENT, 9, "this client has a [[clients]] already; join the two."),
        (
            DOMAIN + LISTED + CLIENT.replace("agent", "spiffe://example.org/agents/billing"),
            13,
            "vouches for this workload already; give the client a name of its own.",
        ),
        (
            DOMAIN + CLUSTER + CLIENT.replace("agent", "spiffe://example.org/ns/shop/sa/a"),
            10,
            "vouches for this workload already",
        ),
        (FRONT_END, 3, "`users` names issuers that are in a [[users]] or a [[grants]]."),
        (USERS + FRONT_END.replace('["https://idp.example"]', "[]"), 7, "`users` names issuers"),
        (USERS + FRONT_END + FRONT_END, 10, "this front end has a [[front_ends]] already; join the two."),
        (USERS + FRONT_END + "client = 1\n", 9, "unknown key `client` in [front_ends]"),
        ("workload_api = 7\n", 1, "`workload_api` is a text that is not empty."),
    ],
)
def test_what_is_wrong_is_named_with_its_place(home: Home, text: str, line: int, says: str) -> None:
    with pytest.raises(SetupError) as caught:
        read(home, text)
    assert says in str(caught.value)
    if line:
        assert str(caught.value).startswith(f"{home.root / 'identity.toml'}:{line}: ")


def test_accounts_of_two_clusters_are_apart_by_prefix_or_trust_domain(home: Home) -> None:
    other = CLUSTER.replace("cluster", "other")
    assert len(read(home, DOMAIN + CLUSTER + other + 'prefix = "/b"\n').issuers) == 2
    second = DOMAIN.replace("example.org", "other.example")
    apart = other.replace("example.org", "other.example")
    assert len(read(home, DOMAIN + second + CLUSTER + apart).issuers) == 2


TRANSMITTER = """\
[[transmitters]]
issuer = "https://idp.example"
audience = "https://forestall.example/signals"
tenant = "acme"
"""


def test_a_transmitter_sends_all_events_unless_it_says_which(home: Home) -> None:
    (known,) = read(home, TRANSMITTER).transmitters
    assert known.signals == frozenset(Signal)
    assert known.algorithms == {Algorithm.RS256}
    assert (known.max_age_ms, known.skew_ms, known.jwks_file) == (86_400_000, 30_000, None)
    (less,) = read(home, TRANSMITTER + 'events = ["session-revoked"]\njwks_file = "k.json"\n').transmitters
    assert less.signals == {Signal.SESSION_REVOKED}
    assert less.jwks_file == home.root / "k.json"


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ('events = ["session-revokd"]\n', 5, "`events` names some of session-revoked, credential-change, risk-level-"),
        ("events = []\n", 5, "`events` names some of"),
        ('jwks_file = "a"\njwks = "https://a.example/b"\n', 5, "keys from a file are not fetched"),
        ("event = []\n", 5, "unknown key `event` in [transmitters]; did you mean `events`?"),
        ("max_age_s = 10\n", 5, "`max_age_s` is a whole number from 60 to"),
        (TRANSMITTER, 6, "this issuer has a [[transmitters]] already; join the two."),
    ],
)
def test_a_transmitter_that_cannot_be(home: Home, text: str, line: int, says: str) -> None:
    with pytest.raises(SetupError) as caught:
        read(home, TRANSMITTER + text)
    assert str(caught.value).startswith(f"{home.root / 'identity.toml'}:{line}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize("data", [b"a = ", b"\xff", b"#" * (MAX_FILE + 1), b"a = [" + b"[" * 5000])
def test_what_is_no_such_file_is_said_to_be_none(home: Home, data: bytes) -> None:
    (home.root / "identity.toml").write_bytes(data)
    with pytest.raises(SetupError, match=r"identity\.toml"):
        load_identities(home)


def test_what_cannot_be_read_is_no_empty_file(home: Home) -> None:
    (home.root / "identity.toml").mkdir()
    with pytest.raises(SetupError, match=r"identity\.toml"):
        load_identities(home)


@pytest.mark.parametrize("header", ["[[ issuers ]]", "[[issuers]] # the one"])
def test_a_header_may_be_written_as_toml_lets_it(home: Home, header: str) -> None:
    with pytest.raises(SetupError, match=r"identity\.toml:9: unknown key `zzz`"):
        read(home, DOMAIN + CLUSTER.replace("[[issuers]]", header) + "zzz = 1\n")


def test_what_is_written_inline_is_named_by_the_line_that_holds_it(home: Home) -> None:
    inline: Any = 'workloads = [{ path = "b", claims = { sub = "a" } }]\n'
    with pytest.raises(SetupError, match=r"identity\.toml:9: "):
        read(home, DOMAIN + LISTED.partition("[[issuers.workloads]]")[0] + inline)


def test_what_the_document_shows_can_be_pasted(home: Home) -> None:
    document = (Path(__file__).resolve().parents[2] / "docs" / "identity.md").read_text()
    blocks = re.findall(r"^```toml\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    settings = [block for block in blocks if block.startswith("[serve]")]  # of forestall.toml
    for block in settings:
        home.config.write_text(block)
        load(home)
    rules = [block for block in blocks if block not in settings]
    kinds = [type(each.rule.rule) for block in rules for each in read(home, block).issuers]
    assert {ServiceAccounts, Workflows, Listed} <= set(kinds)


def test_the_document_names_every_key_and_its_default(home: Home) -> None:
    document = (Path(__file__).resolve().parents[2] / "docs" / "identity.md").read_text()
    with pytest.raises(SetupError) as caught:
        read(home, DOMAIN + CLUSTER + "zzz = 1\n")
    known = str(caught.value).partition("known are ")[2].rstrip(".").split(", ")
    assert len(known) > 10
    assert [key for key in known if f"`{key}`" not in document and f"[issuers.{key}]" not in document] == []
    found = read(home, DOMAIN + CLUSTER).issuers[0].rule
    assert f"| {found.max_life_ms // 1000}, {found.skew_ms // 1000} |" in document
    times = Times()
    assert (times.ttl_ms, times.least_interval_ms, times.bound_ms) == (600_000, 10_000, 3_600_000)
    assert all(line in document for line in ("| 10 minutes | keys", "| 10 seconds | lie", "| 1 hour | keys"))
