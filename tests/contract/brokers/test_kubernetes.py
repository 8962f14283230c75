"""The contract of brokers, for tokens of a cluster's service accounts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from forestall.core.model import Secret
from forestall.credentials.kubernetes import open_broker
from forestall.testing.broker import Bench, BrokerContract
from tests.backends.kubernetes import CLASS, kubernetes, write_token
from tests.backends.leases import EVERYTHING, OWNER, READ, action, context, grant, permit, table


class TestKubernetes(BrokerContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        with kubernetes() as backend:
            write_token(tmp_path, backend)
            given = context(tmp_path)
            broker = open_broker(table(tmp_path, CLASS.format(url=backend.url, more="")), given)
            theirs = backend.token_of("agents/viewer")
            another = "forestall-0badcafe-1"
            assert backend.create(another, labels={"forestall.dev/owner": "0badcafe"}).status == 201
            assert backend.create("a-secret-of-somebody").status == 201

            def works(secret: Secret) -> bool:
                return backend.reads(secret.fields["token"]) == 200

            def alive() -> set[str]:
                return {name for name in backend.secrets() if name.startswith(f"forestall-{OWNER}-")}

            yield Bench(
                broker=broker,
                owner=OWNER,
                now=given.now,
                permit=permit(READ),
                action=action(),
                grant=grant(EVERYTHING),
                works=works,
                alive=alive,
                stop=backend.stop,
                others=[
                    lambda: backend.reads(theirs) == 200,
                    lambda: backend.secrets() >= {another, "a-secret-of-somebody"},
                ],
            )
            broker.close()
