"""What is started for identity.toml, and what is not."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path

import pytest

from forestall.core.errors import SetupError
from forestall.home import Home
from forestall.identities import Identities, load_identities
from forestall.proof.fault import Fault
from forestall.testing.authority import Authority
from forestall.testing.workload_api import WorkloadApiServer
from forestall.verifiers import ENDPOINT, Verifiers
from tests.points import until
from tests.tokens import NOW, refused

STREAMS = 3
"""Of the Workload API; each begins to age by itself."""

DOMAIN = '[[trust_domains]]\nname = "example.org"\ntenant = "acme"\n'


def rules(root: Path, text: str) -> Identities:
    (root / "identity.toml").write_text(text)
    return load_identities(Home(root))


def test_without_bundles_nothing_is_followed_and_no_svid_is_taken(tmp_path: Path) -> None:
    before = threading.active_count()
    verifiers = Verifiers(rules(tmp_path, DOMAIN), now=lambda: NOW, environ={})
    try:
        assert threading.active_count() == before
        assert verifiers.svid_domains == frozenset()
        assert verifiers.authorities(NOW) == ()
        assert verifiers.problems == ()
        with refused(Fault.NO_BUNDLE):
            verifiers.bundles.x509("example.org", NOW)
    finally:
        verifiers.close()
        verifiers.close()


def test_a_workload_api_that_is_wanted_has_to_be_somewhere(tmp_path: Path) -> None:
    text = DOMAIN + 'bundle = "workload_api"\n'
    before = threading.active_count()
    with pytest.raises(SetupError, match=ENDPOINT):
        Verifiers(rules(tmp_path, text), now=lambda: NOW, environ={})
    with pytest.raises(SetupError):
        Verifiers(rules(tmp_path, 'workload_api = "nowhere"\n' + text), now=lambda: NOW, environ={})
    assert threading.active_count() == before


def test_of_several_bounds_for_the_workload_api_the_least_counts(tmp_path: Path) -> None:
    text = (
        f'{DOMAIN}bundle = "workload_api"\nbound_s = 600\n'
        '[[trust_domains]]\nname = "partner.example"\ntenant = "partner"\nbundle = "workload_api"\nbound_s = 20\n'
    )
    clock = [NOW]
    # a socket's path may have 107 bytes, which pytest's own folders can exceed
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority("example.org", lambda: clock[0])
        with WorkloadApiServer(Path(folder) / "agent.sock", authority) as server:
            server.register("/forestall")
            verifiers = Verifiers(rules(tmp_path, text), now=lambda: clock[0], environ={ENDPOINT: server.endpoint})
            until(lambda: bool(verifiers.authorities(clock[0])))
        try:
            until(lambda: sum("see that it runs" in problem for problem in verifiers.problems) == STREAMS)
            clock[0] += 20_000
            assert verifiers.authorities(clock[0])
            clock[0] += 1
            assert verifiers.authorities(clock[0]) == ()
        finally:
            verifiers.close()


def test_a_bundle_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    text = DOMAIN + 'bundle = "file"\nfile = "missing.json"\n'
    verifiers = Verifiers(rules(tmp_path, text), now=lambda: NOW, environ={})
    try:
        while not verifiers.problems:
            threading.Event().wait(0.01)
        assert "example.org was not renewed" in verifiers.problems[0]
        assert verifiers.authorities(NOW) == ()
    finally:
        verifiers.close()
