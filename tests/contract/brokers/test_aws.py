"""The contract of brokers, for sessions of AWS STS, against moto and IAM's rule of evaluation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from forestall.adapter.credential.aws_calls import Keys
from forestall.core.effects import Effect
from forestall.core.model import Secret
from forestall.credentials.aws import open_broker
from forestall.testing.broker import Bench, BrokerContract
from tests.backends.aws import BUCKET, CLASS, aws, write_credentials
from tests.backends.leases import EVERYTHING, OWNER, READ, action, context, grant, permit, table


def keys_of(secret: Secret) -> Keys:
    given = secret.fields
    return Keys(given["access_key_id"], given["secret_access_key"], given["session_token"])


@pytest.mark.slow
class TestAws(BrokerContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Iterator[Bench]:
        with aws() as backend:
            write_credentials(tmp_path, backend.own)
            given = context(tmp_path)
            broker = open_broker(table(tmp_path, CLASS.format(url=backend.url, settle=0, more="")), given)

            def works(secret: Secret) -> bool:
                return backend.may(keys_of(secret), "s3:PutObject", f"{BUCKET}/shop/report")

            yield Bench(
                broker=broker,
                owner=OWNER,
                now=given.now,
                permit=permit(READ | {Effect.WRITE}),
                action=action(customer="shop"),
                grant=grant(EVERYTHING),
                works=works,
                alive=set,
                stop=backend.stop,
                others=[lambda: "work" in backend.policies()],
            )
            broker.close()
