"""Real workloads, attested by a real agent, judged by Forestall's own checks of their SVIDs."""

from __future__ import annotations

import random
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.workload.bundles import BundleFeeds, Feed
from forestall.adapter.workload.endpoint import Endpoint, Spiffe
from forestall.adapter.workload.follow import Waits
from forestall.adapter.workload.held import DEFAULT_BOUND_MS
from forestall.core.canonical import parse
from forestall.proof import encoding
from forestall.proof.fault import InvalidProof
from forestall.proof.jws import MAX_TOKEN
from forestall.proof.spiffe_id import parse_spiffe_id
from forestall.proof.svid import verify_jwt_svid
from interop.spire.conftest import Make, Start
from interop.spire.domain import Domain
from interop.spire.place import Process

AUDIENCE = "https://forestall.example"
OURS, BOTH = ["example.org"], ["example.org", "partner.example"]
WAIT_S = 60.0
"""Seconds after which something that has to happen has failed to."""

MARGIN_MS = 60_000
"""More than these tests take."""


@pytest.fixture(autouse=True)
def all_live(one: Process, two: Process, forestall: Process, stranger: Process) -> None:
    """Every test begins with four workloads that have heard everything, whatever the one before did to their agents."""
    for each in (one, two, forestall, stranger):
        each.live()


def check(judge: Process, svid: dict[str, Any], domains: list[str] = OURS, **more: Any) -> dict[str, Any]:
    return judge.ask("verify", chain=svid["chain"], domains=domains, **more)


def check_token(judge: Process, token: str, domains: list[str] = OURS, **more: Any) -> dict[str, Any]:
    return judge.ask("verify", **{"token": token, "audience": AUDIENCE, "domains": domains, **more})


def test_each_workload_has_an_x509_svid_of_its_own(one: Process, two: Process, forestall: Process) -> None:
    for each, name in ((one, "spiffe://example.org/one"), (two, "spiffe://example.org/two")):
        own = each.svid()
        assert own["id"] == name
        judged = check(forestall, own)
        assert (judged["id"], judged["fault"], judged["thumbprint"]) == (name, None, own["thumbprint"])
    assert one.svid()["chain"] != two.svid()["chain"]


def test_each_workload_has_a_jwt_svid_of_its_own(one: Process, two: Process, forestall: Process) -> None:
    assert check_token(forestall, one.token(AUDIENCE))["id"] == "spiffe://example.org/one"
    assert check_token(forestall, two.token(AUDIENCE))["id"] == "spiffe://example.org/two"


def test_a_token_for_another_audience_is_refused(one: Process, forestall: Process) -> None:
    token = one.token("https://elsewhere.example")
    assert check_token(forestall, token)["fault"] == "wrong_audience"
    assert check_token(forestall, token, audience="https://elsewhere.example")["fault"] is None


def test_the_agent_gives_the_same_token_again_and_it_has_no_name_to_burn(one: Process) -> None:
    token = one.token("https://twice.example")
    assert one.token("https://twice.example") == token
    assert "jti" not in parse(encoding.decode(token.split(".")[1]), max_bytes=MAX_TOKEN)


def test_a_token_counts_until_it_ends(one: Process, forestall: Process) -> None:
    token = one.token(AUDIENCE)
    ends = check_token(forestall, token)["expires_at"] - now()
    assert check_token(forestall, token, later_ms=ends + MARGIN_MS)["fault"] == "expired"


def test_an_executable_nobody_registered_has_nothing_until_it_is_registered_and_then_without_a_restart(
    domain: Domain, executable: Make, running: Start, one: Process
) -> None:
    made = executable("late")
    process = running(made, domain)
    refused = "the agent has no identity for this process; register it"
    methods = ("FetchJWTBundles", "FetchX509Bundles", "FetchX509SVID")
    state = process.ask("state", until={"problems": [f"{method}: {refused}" for method in methods]})
    assert len(state["problems"]) == 3
    assert "PERMISSION_DENIED" in process.ask("token", audience=AUDIENCE)["problem"]
    assert check(process, one.svid())["fault"] == "no_bundle"
    domain.register("/late", [made.by_path])
    process.live()
    assert process.svid()["id"] == "spiffe://example.org/late"
    assert check(process, one.svid())["fault"] is None


def test_an_identity_needs_every_selector_of_its_entry(domain: Domain, executable: Make, running: Start) -> None:
    made, other = executable("both"), executable("other")
    domain.register("/mixed", [made.by_path, other.by_digest])
    domain.register("/both", [made.by_path, made.by_digest])
    process = running(made, domain)
    process.live()
    assert process.svid()["id"] == "spiffe://example.org/both"


@pytest.mark.parametrize("kind", ["x509", "jwt"])
def test_another_trust_domain_counts_only_where_it_is_accepted_and_federated(
    stranger: Process, forestall: Process, one: Process, kind: str
) -> None:
    own, token = stranger.svid(), stranger.token(AUDIENCE)

    def judged(judge: Process, domains: list[str]) -> dict[str, Any]:
        return check(judge, own, domains) if kind == "x509" else check_token(judge, token, domains)

    assert judged(forestall, BOTH)["id"] == "spiffe://partner.example/stranger"
    assert judged(forestall, OURS)["fault"] == "wrong_trust_domain"
    assert judged(one, BOTH)["fault"] == "no_bundle"  # its entry federates with nobody


def test_the_partners_bundle_endpoint_is_believed_only_by_the_name_that_was_configured(
    partner: Domain, stranger: Process, folder: Path
) -> None:
    initial = folder / "partner.json"
    initial.write_text(partner.bundle())
    token = stranger.token(AUDIENCE)

    def follow(path: str) -> tuple[str, tuple[str, ...]]:
        """What becomes of the stranger's token, and what is wrong with the feed, after the first poll."""
        who = Spiffe(parse_spiffe_id(f"spiffe://partner.example{path}"), initial)
        source = Endpoint(f"https://127.0.0.1:{partner.bundle_port}/", who)
        polled = threading.Event()
        waits = Waits(random.random, lambda closed, seconds: closed.wait(seconds))
        feeds = BundleFeeds([Feed("partner.example", source)], clock=now, waits=waits, on_change=polled.set).start()
        try:
            assert polled.wait(WAIT_S)
            svid = verify_jwt_svid(token, feeds, audience=AUDIENCE, trust_domains=frozenset(BOTH), now=now(), skew_ms=0)
        except InvalidProof as refused:
            return refused.fault.value, feeds.problems
        else:
            return str(svid.id), feeds.problems
        finally:
            feeds.close()

    assert follow("/spire/server") == ("spiffe://partner.example/stranger", ())
    fault, problems = follow("/someone/else")
    assert fault == "no_bundle"
    assert "wrong_subject" in problems[0]


def test_a_short_lived_svid_is_renewed_without_a_restart(
    domain: Domain, executable: Make, running: Start, forestall: Process
) -> None:
    made = executable("brief")
    domain.register("/brief", [made.by_path], "-x509SVIDTTL", "20")
    process = running(made, domain)
    process.live()
    first = process.svid()
    second = process.svid(unlike={"thumbprint": first["thumbprint"]})
    assert second["id"] == first["id"] == "spiffe://example.org/brief"
    assert second["expires_at"] > first["expires_at"]
    assert check(forestall, second)["fault"] is None
    assert check(forestall, first, later_ms=MARGIN_MS)["fault"] == "expired"


def test_an_entry_that_is_deleted_takes_the_workloads_identity_and_bundles_and_what_it_had_counts_until_it_ends(
    domain: Domain, executable: Make, running: Start, forestall: Process, one: Process
) -> None:
    made = executable("leaver")
    entry = domain.register("/leaver", [made.by_path])
    process = running(made, domain)
    process.live()
    own, token = process.svid(), process.token(AUDIENCE)
    domain.delete(entry)
    assert process.svid(until={"id": None})["id"] is None
    assert check(process, one.svid(), until={"fault": "no_bundle"})["fault"] == "no_bundle"
    assert "PERMISSION_DENIED" in process.ask("token", audience=AUDIENCE)["problem"]
    # SPIRE revokes nothing that it gave out: taking that back at once is what Forestall's own revocation is for
    assert check(forestall, own)["fault"] is None
    assert check_token(forestall, token)["fault"] is None


def test_an_agent_that_is_stopped_ages_until_nothing_counts_and_counts_again_when_it_is_back(
    domain: Domain, one: Process, forestall: Process
) -> None:
    own, token = one.svid(), one.token(AUDIENCE)
    domain.agent.stop()
    try:
        state = forestall.ask("state", until={"live": False})
        assert not state["live"]
        assert any("see that it runs" in problem for problem in state["problems"])
        assert "UNAVAILABLE" in one.ask("token", audience=AUDIENCE)["problem"]
        assert check(forestall, own)["fault"] is None
        assert check_token(forestall, token)["fault"] is None
        late = DEFAULT_BOUND_MS + MARGIN_MS
        assert check(forestall, own, later_ms=late)["fault"] == "no_bundle"
        assert check_token(forestall, token, later_ms=late)["fault"] == "no_bundle"
    finally:
        domain.start_agent()
    for each in (one, forestall):
        each.live()
    assert check(forestall, one.svid())["fault"] is None
    assert check_token(forestall, one.token(AUDIENCE))["fault"] is None


def test_an_agent_that_hangs_gives_no_token_and_what_it_said_still_counts(
    domain: Domain, one: Process, forestall: Process
) -> None:
    own = one.svid()
    domain.agent.pause()
    try:
        assert "DEADLINE_EXCEEDED" in one.ask("token", audience="https://new.example")["problem"]
        assert check(forestall, own)["fault"] is None
    finally:
        domain.agent.resume()
    assert one.token("https://new.example")


def test_a_server_that_hangs_is_not_seen_by_who_asks_the_agent(
    domain: Domain, one: Process, forestall: Process
) -> None:
    domain.server.pause()
    try:
        assert one.ask("token", audience="https://newer.example")["token"] is None
        assert forestall.ask("state")["live"]
        assert check(forestall, one.svid())["fault"] is None
    finally:
        domain.server.resume()


def test_authorities_are_replaced_and_revoked_without_a_restart(
    domain: Domain, partner: Domain, stranger: Process, forestall: Process, executable: Make, running: Start
) -> None:
    made = executable("judge")
    partner.register("/judge", [made.by_path])
    judge = running(made, partner)
    judge.live()
    own, token = stranger.svid(), stranger.token(AUDIENCE)
    theirs = ["partner.example"]

    old = {kind: partner.replace_authority(kind) for kind in ("x509", "jwt")}
    assert check(judge, own, theirs)["fault"] is None
    assert check_token(judge, token, theirs)["fault"] is None

    for kind, name in old.items():
        partner.taint_authority(kind, name)
    renewed = stranger.svid(unlike={"thumbprint": own["thumbprint"]})
    assert renewed["thumbprint"] != own["thumbprint"]
    again = stranger.token("https://after.example")
    # while it renews what a tainted authority signed, the agent may have nothing for anybody: then nobody is trusted
    assert check(judge, own, theirs, until={"fault": None})["fault"] is None
    assert check_token(judge, token, theirs, until={"fault": None})["fault"] is None

    for kind, name in old.items():
        partner.revoke_authority(kind, name)
    assert check(judge, own, theirs, until={"fault": "untrusted"})["fault"] == "untrusted"
    assert check_token(judge, token, theirs, until={"fault": "unknown_key"})["fault"] == "unknown_key"
    assert check(judge, renewed, theirs)["id"] == "spiffe://partner.example/stranger"
    assert check_token(judge, again, theirs, audience="https://after.example")["fault"] is None

    # the other trust domain goes by what it was told, until it is told
    assert check(forestall, own, BOTH)["fault"] is None
    domain.federate(partner)
    assert check(forestall, own, BOTH, until={"fault": "untrusted"})["fault"] == "untrusted"
    assert check(forestall, renewed, BOTH)["fault"] is None


def test_the_server_is_the_one_that_was_pinned(programs: Path) -> None:
    done = subprocess.run([programs / "spire-server", "--version"], capture_output=True, text=True, check=True)
    assert programs.name == f"v{(done.stdout + done.stderr).strip().split('-')[0]}"


def now() -> int:
    return time.time_ns() // 1_000_000
