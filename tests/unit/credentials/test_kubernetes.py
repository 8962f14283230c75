"""`backend = "kubernetes"` in `credentials.toml`."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.errors import SetupError
from forestall.core.model import Scope
from forestall.credentials.kubernetes import open_broker
from tests.backends.leases import EVERYTHING, READ, action, context, grant, permit, table
from tests.unit.adapter.oidc.site import roots

GOOD = """\
api = "https://kubernetes.default.svc"
ca_file = "ca.pem"
token_file = "/var/run/secrets/kubernetes.io/serviceaccount/token"
namespace = "agents"
service_account = "viewer"
audiences = ["vault"]
"""
BY_EFFECT = GOOD.replace('service_account = "viewer"', 'service_accounts = { read = "viewer", privilege = "root" }')


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ca.pem").write_text(roots())
    return tmp_path


def test_what_a_class_says_is_what_is_planned(folder: Path) -> None:
    broker = open_broker(table(folder, GOOD), context(folder))
    expected = {"namespace": "agents", "service_account": "viewer", "audiences": ["vault"]}
    assert broker.plan(permit(EVERYTHING), action(), grant()) == expected
    broker.close()


def test_a_tasks_token_is_of_the_account_for_the_gravest_effect_of_the_task(folder: Path) -> None:
    broker = open_broker(table(folder, BY_EFFECT), context(folder, scope=Scope.TASK))
    assert broker.plan(permit(READ), action(), grant(READ))["service_account"] == "viewer"
    assert broker.plan(permit(READ), action(), grant(EVERYTHING))["service_account"] == "root"
    most = EVERYTHING - {Effect.PRIVILEGE}
    assert broker.plan(permit(READ), action(), grant(most))["service_account"] == "viewer"
    with pytest.raises(CannotDo, match="no rights for the effect `write`"):
        broker.plan(permit(READ | {Effect.WRITE}), action(), grant(most))
    broker.close()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('namespace = "agents"', 'namespace = "Agents/x"', ":5: .*small letters"),
        ('namespace = "agents"\n', "", "has no `namespace`"),
        ('"https://kubernetes.default.svc"', '"http://kubernetes.default.svc"', ":2: .*not https"),
        ('"https://kubernetes.default.svc"', '"https://k/#x"', ":2: .*fragment"),
        ('service_account = "viewer"\n', "", "say `service_account"),
        ('audiences = ["vault"]', 'service_accounts = { read = "x" }', "say `service_account"),
        ('service_account = "viewer"', 'service_account = "../viewer"', ":6: .*small letters"),
        ('service_account = "viewer"', 'service_account = "a..b"', ":6: .*small letters"),
        ('service_account = "viewer"', "service_accounts = {}", "one at least"),
        ('service_account = "viewer"', 'service_accounts = { reed = "x" }', "did you mean `read`"),
        ('service_account = "viewer"', 'service_accounts = { read = "X" }', "small letters"),
        ('["vault"]', '["a b"]', ":7: .*one word"),
        ('["vault"]', '["vault"]\nexpiry = 1', "unknown key `expiry`"),
        ('"ca.pem"', '"missing.pem"', "missing.pem"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_where(old: str, new: str, said: str, folder: Path) -> None:
    assert old in GOOD
    with pytest.raises(SetupError, match=said):
        open_broker(table(folder, GOOD.replace(old, new)), context(folder))
