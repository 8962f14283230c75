"""The contract of brokers, for GitHub's installation tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from forestall.core.model import Secret
from forestall.credentials.github import open_broker
from forestall.testing.broker import Bench, BrokerContract
from tests.backends.github import CLASS, assertion, github, write_key
from tests.backends.leases import EVERYTHING, OWNER, action, context, grant, permit, table


class TestGitHub(BrokerContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        write_key(tmp_path)
        with github() as backend:
            given = context(tmp_path)
            text = CLASS.format(url=backend.url, repositories='["{arguments.repo}"]')
            broker = open_broker(table(tmp_path, text), given)

            def works(secret: Secret) -> bool:
                return backend.write(secret.fields["token"]).status == 201

            def somebody_elses() -> bool:
                return backend.read(theirs, "rival/shop").status == 200

            theirs = backend.create(assertion(), installation=18).body["token"]
            yield Bench(
                broker=broker,
                owner=OWNER,
                now=given.now,
                permit=permit(EVERYTHING),
                action=action(repo="shop"),
                grant=grant(),
                works=works,
                alive=set,
                stop=backend.stop,
                others=[somebody_elses],
            )
            broker.close()
