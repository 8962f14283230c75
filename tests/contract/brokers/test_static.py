"""The contract of brokers, kept by a secret that stands in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.adapter.credential.source import FileSource
from forestall.adapter.credential.static import StaticBroker
from forestall.core.model import Permit
from forestall.testing.broker import Bench, BrokerContract
from forestall.testing.world import GRANT, NOW, TOOL, action

KEY = "correct horse battery staple"

PERMIT = Permit(
    id="action-1",
    task=GRANT.task,
    tool=TOOL.id,
    pin=TOOL.pin,
    digest="sha256:arguments",
    effects=TOOL.effects,
    output=TOOL.output,
    policies=("writes",),
    policy_digest="sha256:bundle",
    expires_at=NOW + 10_000,
    credential="under-test",
)


class TestStatic(BrokerContract):
    @pytest.fixture
    def bench(self, tmp_path: Path) -> Bench:
        file = tmp_path / "key"
        file.touch(0o600)
        file.write_text(f"{KEY}\n")
        return Bench(
            broker=StaticBroker({"token": FileSource(file)}, "sends mail"),
            owner="0badcafe",
            now=lambda: NOW,
            permit=PERMIT,
            action=action(),
            grant=GRANT,
            works=lambda secret: secret.fields["token"] == KEY,
            alive=set,
            stop=file.unlink,
        )

    def test_its_end_ends_nothing_and_it_is_said_to_stand(self, bench: Bench) -> None:
        lease = bench.issued()
        assert lease.standing
        bench.broker.revoke(lease)
        assert lease.secret is not None
        assert bench.works(lease.secret)
