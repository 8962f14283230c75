"""The contract of brokers, for tokens of the real oidc-provider: one class for each way of asking."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from forestall.credentials.oauth import open_broker
from forestall.testing.broker import Bench, BrokerContract
from tests.backends.leases import EVERYTHING, OWNER, action, context, grant, permit, table
from tests.backends.upstream import ASSERTION, SECRET, Upstream, write_files, written
from tests.identity.conftest import installed

pytestmark = pytest.mark.slow

__all__ = ["installed"]


@pytest.fixture(scope="module")
def shared(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    """One server for all tests; one that a test stopped is started anew."""
    upstream = Upstream(tmp_path_factory.mktemp("upstream") / "log")
    yield upstream
    upstream.stop()


class TestClientCredentials(BrokerContract):
    GIVEN: ClassVar[dict[str, str]] = {}

    @pytest.fixture
    def bench(self, shared: Upstream, tmp_path: Path) -> Iterator[Bench]:
        write_files(tmp_path)
        upstream, given = shared.start(), context(tmp_path)
        text = written(issuer=f'"{upstream.issuer}"', **self.GIVEN)
        broker = open_broker(table(tmp_path, text), given)
        form = {"grant_type": "client_credentials", "scope": "crm.read"}
        theirs = upstream.post("/token", form, "crm", SECRET)[1]["access_token"]
        yield Bench(
            broker=broker,
            owner=OWNER,
            now=given.now,
            permit=permit(EVERYTHING),
            action=action(),
            grant=replace(grant(), trust_domain="example.org", user="https://idp.example#alice"),
            works=upstream.works,
            alive=set,
            stop=upstream.stop,
            others=[lambda: upstream.told(theirs)["active"]],
        )
        broker.close()


class TestSecret(TestClientCredentials):
    GIVEN: ClassVar = {"client": '{ id = "forestall secret", secret_file = "secret" }'}


class TestBoundToAKey(TestClientCredentials):
    GIVEN: ClassVar = {"dpop": "true"}


class TestTokenExchange(TestClientCredentials):
    GIVEN: ClassVar = {"grant": '"token_exchange"', "assertion": ASSERTION}


class TestIdJag(TestClientCredentials):
    GIVEN: ClassVar = {"grant": '"id_jag"', "assertion": ASSERTION, "dpop": "true"}


class TestWithoutIntrospection(TestClientCredentials):
    GIVEN: ClassVar = {"introspect": "false"}


class TestWithoutRevocation(TestClientCredentials):
    GIVEN: ClassVar = {"unrevocable": "true"}
