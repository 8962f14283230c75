"""The client follows a real agent over a real socket: what it hears counts at once, and ages when the agent is gone."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from spiffe import JwtSvid as TheirJwtSvid
from spiffe import TrustDomain, WorkloadApiClient

from forestall.adapter.workload import stubs
from forestall.adapter.workload.spiffe import WorkloadApi
from forestall.core.errors import SetupError, Unavailable
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.spiffe_id import parse_spiffe_id
from forestall.proof.svid import JwtSvid, X509Svid, verify_jwt_svid, verify_x509_svid
from forestall.testing.authority import HOUR_MS, Authority, Issued, new_key, pkcs8
from forestall.testing.workload_api import METADATA, WorkloadApiServer
from tests.unit.adapter.workload.conftest import AUDIENCE, NOW, WAIT_S, Clock, Watched

DOMAINS = frozenset({"example.org", "partner.example"})


def check(api: WorkloadApi, svid: Issued, now: int = NOW) -> X509Svid:
    return verify_x509_svid(svid.chain, api, trust_domains=DOMAINS, now=now)


def check_jwt(api: WorkloadApi, token: str, now: int = NOW) -> JwtSvid:
    return verify_jwt_svid(token, api, audience=AUDIENCE, trust_domains=DOMAINS, now=now, skew_ms=0)


def fault(call: Callable[[], object]) -> Fault | None:
    try:
        call()
    except InvalidProof as refused:
        return refused.fault
    return None


def test_before_anything_was_heard_there_is_no_bundle_and_no_identity(agent: WorkloadApiServer, clock: Clock) -> None:
    api = Watched(agent.endpoint, clock).api
    svid = agent.authority.x509_svid("/agent")
    assert fault(lambda: check(api, svid)) is Fault.NO_BUNDLE
    assert fault(lambda: check_jwt(api, agent.authority.jwt_svid("/agent", [AUDIENCE]))) is Fault.NO_BUNDLE
    with pytest.raises(Unavailable):
        api.svids(NOW)
    api.close()


def test_a_registered_workload_has_svids_and_bundles(agent: WorkloadApiServer, clock: Clock) -> None:
    issued = agent.register("/agent", "internal")
    client = Watched(agent.endpoint, clock).start()
    client.until(lambda: client.api.live)
    own = client.api.svids(NOW)
    assert [(str(each.id), each.hint, each.chain, each.key) for each in own] == [
        ("spiffe://example.org/agent", "internal", issued.chain, issued.key)
    ]
    assert str(check(client.api, issued).id) == issued.id
    token = client.api.jwt_svid(AUDIENCE)
    assert str(check_jwt(client.api, token).id) == issued.id
    assert client.api.problems == ()
    client.close()


def test_permission_denied_until_registered_and_then_everything_without_a_restart(
    agent: WorkloadApiServer, waiting: Watched
) -> None:
    assert len(waiting.api.problems) == 3
    assert all("register it" in problem for problem in waiting.api.problems)
    with pytest.raises(Unavailable, match="PERMISSION_DENIED"):
        waiting.api.jwt_svid(AUDIENCE)
    issued = agent.register("/agent")
    waiting.again()
    waiting.until(lambda: waiting.api.live)
    assert str(check(waiting.api, issued).id) == issued.id
    assert waiting.api.problems == ()


def test_a_rotation_comes_over_the_open_stream(agent: WorkloadApiServer, client: Watched) -> None:
    before, first = agent.authority.x509_svid("/agent"), client.api.svids(NOW)[0].chain
    agent.authority.rotate()
    agent.renew()
    client.until(lambda: len(client.api.x509("example.org", NOW).certificates) == 2)
    client.until(lambda: len(client.api.jwt("example.org", NOW).keys.keys) == 2)
    client.until(lambda: client.api.svids(NOW)[0].chain != first)
    after = agent.authority.x509_svid("/agent")
    assert check(client.api, before).id == check(client.api, after).id
    agent.authority.retire()
    agent.push()
    client.until(lambda: len(client.api.x509("example.org", NOW).certificates) == 1)
    assert fault(lambda: check(client.api, before)) is Fault.UNTRUSTED
    assert check(client.api, after)


def test_an_empty_bundle_takes_everything_back(agent: WorkloadApiServer, client: Watched) -> None:
    issued, token = agent.authority.x509_svid("/agent"), agent.authority.jwt_svid("/agent", [AUDIENCE])
    assert check(client.api, issued)
    assert check_jwt(client.api, token)
    agent.authority.revoke_all()
    agent.push()
    client.until(lambda: not client.api.x509("example.org", NOW).certificates)
    client.until(lambda: not client.api.jwt("example.org", NOW).keys.keys)
    assert fault(lambda: check(client.api, issued)) is Fault.UNTRUSTED
    assert fault(lambda: check_jwt(client.api, token)) is Fault.UNKNOWN_KEY


def test_a_bundle_that_is_no_longer_sent_is_gone(agent: WorkloadApiServer, client: Watched) -> None:
    issued, token = agent.authority.x509_svid("/agent"), agent.authority.jwt_svid("/agent", [AUDIENCE])
    agent.withhold("example.org")
    client.until(lambda: fault(lambda: check(client.api, issued)) is Fault.NO_BUNDLE)
    client.until(lambda: fault(lambda: check_jwt(client.api, token)) is Fault.NO_BUNDLE)


def test_a_federated_bundle_counts_for_its_own_trust_domain_alone(
    agent: WorkloadApiServer, client: Watched, clock: Clock
) -> None:
    partner = Authority("partner.example", clock)
    theirs, forged = partner.x509_svid("/agent"), Authority("example.org", clock).x509_svid("/agent")
    assert fault(lambda: check(client.api, theirs)) is Fault.NO_BUNDLE
    agent.federate(partner)
    client.until(lambda: fault(lambda: check(client.api, theirs)) is None)
    client.until(lambda: fault(lambda: check_jwt(client.api, partner.jwt_svid("/x", [AUDIENCE]))) is None)
    assert str(check(client.api, theirs).id) == "spiffe://partner.example/agent"
    assert fault(lambda: check(client.api, forged)) is Fault.UNTRUSTED
    across = Authority("example.org", clock)
    across.x509, across.jwt = partner.x509, partner.jwt
    assert fault(lambda: check(client.api, across.x509_svid("/agent"))) is Fault.UNTRUSTED
    assert fault(lambda: check_jwt(client.api, across.jwt_svid("/agent", [AUDIENCE]))) in {
        Fault.UNKNOWN_KEY,
        Fault.BAD_SIGNATURE,
    }


def test_when_the_agent_is_gone_what_it_said_ages_and_when_it_is_back_it_counts_again(
    agent: WorkloadApiServer, client: Watched, clock: Clock
) -> None:
    issued = agent.authority.x509_svid("/agent")
    agent.stop()
    client.until(lambda: len(client.waited) == 3)
    assert len(client.api.problems) == 3
    assert all("see that it runs" in problem for problem in client.api.problems)
    with pytest.raises(Unavailable, match="UNAVAILABLE"):
        client.api.jwt_svid(AUDIENCE)
    assert check(client.api, issued, NOW + HOUR_MS)
    assert fault(lambda: check(client.api, issued, NOW + HOUR_MS + 1)) is Fault.NO_BUNDLE
    assert fault(lambda: check(client.api, issued, NOW - HOUR_MS - 1)) is Fault.NO_BUNDLE
    with pytest.raises(Unavailable):
        client.api.svids(NOW + HOUR_MS + 1)

    clock.now += 2 * HOUR_MS
    client.again()  # a try that finds nobody does not make it any younger
    client.until(lambda: len(client.waited) == 6)
    renewed = agent.authority.x509_svid("/agent")
    assert fault(lambda: check(client.api, renewed, clock.now)) is Fault.NO_BUNDLE

    agent.authority.rotate()
    agent.start()
    client.again()
    client.until(lambda: client.api.live)
    assert check(client.api, agent.authority.x509_svid("/agent"), clock.now)
    assert client.api.problems == ()


def test_waits_grow_while_nobody_answers_and_start_over_after_an_answer(
    agent: WorkloadApiServer, client: Watched
) -> None:
    agent.interrupt()
    client.until(lambda: len(client.waited) == 3)
    agent.stop()
    client.again()
    client.until(lambda: len(client.waited) == 6)
    client.again()
    client.until(lambda: len(client.waited) == 9)
    agent.start()
    client.again()
    client.until(lambda: client.api.live)
    agent.interrupt()
    client.until(lambda: len(client.waited) == 12)
    assert client.waited == [0.05] * 3 + [0.1] * 3 + [0.2] * 3 + [0.05] * 3


def test_permission_denied_on_an_open_stream_takes_everything_back_at_once(
    agent: WorkloadApiServer, client: Watched
) -> None:
    issued = agent.authority.x509_svid("/agent")
    agent.deny()
    client.until(lambda: len(client.api.problems) == 3)
    assert fault(lambda: check(client.api, issued)) is Fault.NO_BUNDLE
    with pytest.raises(Unavailable):
        client.api.svids(NOW)


@pytest.mark.parametrize(
    "damage", [b"", b"{}", b"0\x82", b'{"keys":[{"kty":"oct","k":"AA"}]}', b"\x30\x03\x01\x01\xff"]
)
def test_a_damaged_bundle_leaves_its_own_trust_domain_without_one(
    agent: WorkloadApiServer, client: Watched, clock: Clock, damage: bytes
) -> None:
    partner = Authority("partner.example", clock)
    issued, theirs = agent.authority.x509_svid("/agent"), partner.x509_svid("/agent")
    token = partner.jwt_svid("/agent", [AUDIENCE])
    agent.federate(partner)
    client.until(lambda: fault(lambda: check(client.api, theirs)) is None)
    client.until(lambda: fault(lambda: check_jwt(client.api, token)) is None)
    agent.damage("partner.example", damage)
    client.until(lambda: fault(lambda: check_jwt(client.api, token)) is Fault.NO_BUNDLE)
    client.until(lambda: fault(lambda: check(client.api, theirs)) in {Fault.NO_BUNDLE, Fault.UNTRUSTED})
    assert check(client.api, issued)
    assert any("cannot be used" in problem for problem in client.api.problems)


def test_a_certificate_in_its_issuers_revocation_list_is_refused(agent: WorkloadApiServer, client: Watched) -> None:
    good, bad = agent.authority.x509_svid("/good"), agent.authority.x509_svid("/bad")
    assert check(client.api, bad)
    agent.revoke(agent.authority.revocations([bad.chain[0]]))
    client.until(lambda: fault(lambda: check(client.api, bad)) is Fault.REVOKED)
    assert check(client.api, good)


def test_of_several_identities_the_first_is_the_default_and_a_hint_counts_once(
    agent: WorkloadApiServer, clock: Clock
) -> None:
    for path, hint in [("/one", "internal"), ("/two", "internal"), ("/three", ""), ("/four", "")]:
        agent.register(path, hint)
    client = Watched(agent.endpoint, clock).start()
    client.until(lambda: client.api.live)
    assert [each.id.path for each in client.api.svids(NOW)] == ["/one", "/three", "/four"]
    chosen = client.api.jwt_svid(AUDIENCE, parse_spiffe_id("spiffe://example.org/two"))
    assert check_jwt(client.api, chosen).id.path == "/two"
    with pytest.raises(Unavailable, match="PERMISSION_DENIED"):
        client.api.jwt_svid(AUDIENCE, parse_spiffe_id("spiffe://example.org/five"))
    client.close()


def test_an_identity_of_ours_that_ran_out_is_not_given(client: Watched) -> None:
    assert client.api.svids(NOW)
    for now in (NOW + HOUR_MS, NOW - 60_001):
        with pytest.raises(Unavailable):
            client.api.svids(now)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"id": "spiffe://example.org/other"}, "wrong_subject"),
        ({"key": pkcs8(new_key())}, "other_key"),
        ({"key": b""}, "malformed"),
        ({"chain": ()}, "malformed"),
        ({"chain": (b"\x30\x00",)}, "malformed"),
    ],
)
def test_an_identity_that_does_not_fit_together_is_not_ours(
    agent: WorkloadApiServer, client: Watched, changes: dict[str, Any], problem: str
) -> None:
    issued = agent.authority.x509_svid("/agent")
    agent.hand_out(replace(issued, **changes))
    client.until(lambda: any(problem in each for each in client.api.problems))
    client.until(lambda: own_chain(client) == ())
    agent.hand_out(issued)
    client.until(lambda: client.api.problems == ())
    client.until(lambda: own_chain(client) == issued.chain)


def own_chain(client: Watched) -> tuple[bytes, ...]:
    try:
        return client.api.svids(NOW)[0].chain
    except Unavailable:
        return ()


def test_the_key_is_not_shown(client: Watched) -> None:
    own = client.api.svids(NOW)[0]
    assert own.key
    assert repr(own.key)[2:20] not in repr(own)
    assert "key" not in repr(own)


def call(agent: WorkloadApiServer, method: str, request: Any, metadata: Any) -> Any:
    loaded = stubs.load()
    with loaded.channel(stubs.target_of(agent.endpoint)) as channel:
        answer = getattr(loaded.services.SpiffeWorkloadAPIStub(channel), method)(
            request, metadata=metadata, timeout=WAIT_S
        )
        return next(iter(answer)) if hasattr(answer, "cancel") else answer


@pytest.mark.parametrize(
    ("method", "request_name"),
    [
        ("FetchX509SVID", "X509SVIDRequest"),
        ("FetchX509Bundles", "X509BundlesRequest"),
        ("FetchJWTSVID", "JWTSVIDRequest"),
        ("FetchJWTBundles", "JWTBundlesRequest"),
        ("ValidateJWTSVID", "ValidateJWTSVIDRequest"),
    ],
)
@pytest.mark.parametrize("metadata", [None, (("workload.spiffe.io", "false"),)])
def test_the_agent_refuses_a_request_without_the_metadata(
    agent: WorkloadApiServer, method: str, request_name: str, metadata: Any
) -> None:
    agent.register("/agent")
    loaded = stubs.load()
    with pytest.raises(loaded.grpc.RpcError) as refused:
        call(agent, method, getattr(loaded.messages, request_name)(), metadata)
    assert refused.value.code() is loaded.grpc.StatusCode.INVALID_ARGUMENT


def test_a_request_that_is_refused_is_not_tried_again(
    agent: WorkloadApiServer, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("forestall.adapter.workload.follow.METADATA", ())
    agent.register("/agent")
    client = Watched(agent.endpoint, clock).start()
    client.until(lambda: len(client.api.problems) == 3)
    assert all("not asked again" in problem for problem in client.api.problems)
    assert not client.api.live
    client.api.close()
    assert client.waited == []


def test_the_agent_validates_tokens_as_we_do(agent: WorkloadApiServer) -> None:
    messages = stubs.load().messages
    token = agent.authority.jwt_svid("/agent", [AUDIENCE])
    request = messages.ValidateJWTSVIDRequest(audience=AUDIENCE, svid=token)
    assert call(agent, "ValidateJWTSVID", request, (METADATA,)).spiffe_id == "spiffe://example.org/agent"
    with pytest.raises(stubs.load().grpc.RpcError) as refused:
        call(agent, "ValidateJWTSVID", messages.ValidateJWTSVIDRequest(audience="other", svid=token), (METADATA,))
    assert refused.value.code() is stubs.load().grpc.StatusCode.INVALID_ARGUMENT


def test_closing_ends_every_thread_and_may_be_done_twice(agent: WorkloadApiServer, clock: Clock) -> None:
    agent.register("/agent")
    client = Watched(agent.endpoint, clock).start()
    client.until(lambda: client.api.live)
    assert sum(each.name.startswith("workload-api-") for each in threading.enumerate()) == 3
    client.api.close()
    client.api.close()
    assert not any(each.name.startswith("workload-api-") for each in threading.enumerate())
    assert client.waited == []
    assert fault(lambda: client.api.x509("example.org", NOW + HOUR_MS + 1)) is Fault.NO_BUNDLE


def test_without_the_extra_a_sentence_says_what_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['grpc'] = None\n"
        "from forestall.adapter.workload import spiffe, stubs\n"
        "from forestall.core.errors import SetupError\n"
        "try:\n"
        "    stubs.load()\n"
        "except SetupError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'forestall[spiffe]'" in done.stdout


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [
        ("unix:///run/spire/agent.sock", "unix:/run/spire/agent.sock"),
        ("tcp://127.0.0.1:8000", "127.0.0.1:8000"),
        ("tcp://[::1]:8000", "[::1]:8000"),
    ],
)
def test_an_endpoint_is_a_socket_or_an_address(endpoint: str, target: str) -> None:
    assert stubs.target_of(endpoint) == target


@pytest.mark.parametrize(
    "endpoint",
    [
        "",
        "/run/agent.sock",
        "unix://",
        "unix:///",
        "unix:run/agent.sock",
        "unix://host/run/agent.sock",
        "tcp://localhost:8000",
        "tcp://127.0.0.1",
        "tcp://127.0.0.1:0",
        "tcp://127.0.0.1:99999",
        "tcp://127.0.0.1:8000/path",
        "tcp://user@127.0.0.1:8000",
        "https://127.0.0.1:8000",
        "unix:///run/agent.sock?query",
        "tcp://[::1",
    ],
)
def test_any_other_endpoint_is_a_setup_error(endpoint: str) -> None:
    with pytest.raises(SetupError, match="unix:///path/to/socket or tcp://address:port"):
        stubs.target_of(endpoint)


def test_a_client_that_others_wrote_understands_our_agent_and_its_svids(agent: WorkloadApiServer) -> None:
    agent.authority.now = lambda: time.time_ns() // 1_000_000  # it reads the machine's clock
    agent.authority.rotate()
    issued = agent.register("/agent")
    partner = Authority("partner.example", agent.authority.now)
    agent.federate(partner)
    with WorkloadApiClient(agent.endpoint) as client:
        svid = client.fetch_x509_svid()
        assert str(svid.spiffe_id) == issued.id
        assert svid.leaf.public_bytes(Encoding.DER) == issued.chain[0]
        bundles = client.fetch_x509_bundles()
        assert {str(each.trust_domain) for each in bundles.bundles} == {"example.org", "partner.example"}
        token = client.fetch_jwt_svid({AUDIENCE})
        assert str(token.spiffe_id) == issued.id
        keys = client.fetch_jwt_bundles().get_bundle_for_trust_domain(TrustDomain("example.org"))
        assert keys is not None
        assert TheirJwtSvid.parse_and_validate(token.token, keys, {AUDIENCE}).spiffe_id == token.spiffe_id
