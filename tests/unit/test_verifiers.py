"""What is started for identity.toml, and what is not."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from forestall.core.errors import SetupError
from forestall.home import Home
from forestall.identities import Identities, load_identities
from forestall.proof.fault import Fault
from forestall.verifiers import ENDPOINT, Verifiers
from tests.tokens import NOW, refused

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
