"""`backend = "aws"` in `credentials.toml`."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.errors import SetupError
from forestall.core.model import Scope
from forestall.credentials.aws import open_broker
from tests.backends.leases import EVERYTHING, READ, action, context, grant, permit, table

GOOD = """\
role = "arn:aws:iam::123456789012:role/agents/reports"
region = "eu-central-1"
environment = true
[[credentials.under-test.allow]]
effect = "read"
actions = ["s3:Get*"]
resources = ["arn:aws:s3:::acme/{parameters.customer}/*"]
[[credentials.under-test.allow]]
effect = "write"
actions = ["s3:PutObject"]
resources = ["*"]
"""


def test_a_tasks_session_is_for_what_the_task_has_and_the_class_gives(tmp_path: Path) -> None:
    broker = open_broker(table(tmp_path, GOOD), context(tmp_path, scope=Scope.TASK))
    rights = broker.plan(permit(READ), action(), grant(EVERYTHING, {"customer": "shop"}))
    reads = {"Effect": "Allow", "Action": ["s3:Get*"], "Resource": ["arn:aws:s3:::acme/shop/*"]}
    assert rights["allow"] == [reads, {"Effect": "Allow", "Action": ["s3:PutObject"], "Resource": ["*"]}]
    assert broker.plan(permit(READ), action(), grant(READ, {"customer": "shop"}))["allow"] == [reads]
    with pytest.raises(CannotDo, match="no rights for the effect `privilege`"):
        broker.plan(permit(READ | {Effect.PRIVILEGE}), action(), grant(EVERYTHING, {"customer": "shop"}))
    broker.close()


def test_a_policy_that_grows_too_long_is_refused(tmp_path: Path) -> None:
    many = GOOD.replace('/*"]', '/*"' + ', "arn:aws:s3:::acme/{parameters.customer}/x"' * 15 + "]")
    broker = open_broker(table(tmp_path, many), context(tmp_path))
    broker.plan(permit(READ), action(), grant(EVERYTHING, {"customer": "shop"}))
    with pytest.raises(CannotDo, match="AWS takes 2048"):
        broker.plan(permit(READ), action(), grant(EVERYTHING, {"customer": "s" * 128}))
    broker.close()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("role/agents/reports", "user/forestall", ":2: .*ARN of a role"),
        ("eu-central-1", "eu central", ":3: .*a region"),
        ("environment = true", "", "in one way"),
        ("environment = true", "environment = false", "is true"),
        ("environment = true", 'environment = true\nprofile = "x"', "in one way"),
        ("environment = true", 'profile = "x"', "go together"),
        ("environment = true", 'environment = true\ncredentials_file = "x"', "go together"),
        ("environment = true", 'web_identity_token_file = "x"', "go together"),
        ("environment = true", 'environment = true\nexternal_id = "a b"', "an external id"),
        ("environment = true", "environment = true\nsettle_s = 301", "whole number"),
        ("environment = true", 'environment = true\nendpoint = "http://example.org"', "not https"),
        ("environment = true", "environment = true\nsettle = 1", "did you mean `settle_s`"),
        ('"s3:Get*"', '"*"', "no action"),
        ('"s3:Get*"', '"s3:*Get"', "no action"),
        ('["s3:Get*"]', "[]", "one action"),
        ("arn:aws:s3:::acme", "acme", "no ARN"),
        ("{parameters.customer}", "{arguments.customer}", "of one call"),
        ("{parameters.customer}", "${aws:username}", "brace"),
        ('effect = "write"', 'effect = "writes"', "one of read, write"),
        ("s3:PutObject", "s3:" + "P" * 100 + '", "s3:' + '", "s3:'.join(["Q" * 100] * 20), "AWS takes 2048"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_where(old: str, new: str, said: str, tmp_path: Path) -> None:
    assert old in GOOD
    with pytest.raises(SetupError, match=said):
        open_broker(table(tmp_path, GOOD.replace(old, new)), context(tmp_path, scope=Scope.TASK))


def test_a_web_identity_has_no_tags_and_no_external_id(tmp_path: Path) -> None:
    own = 'web_identity_token_file = "token"\nown_role = "arn:aws:iam::123456789012:role/forestall"'
    broker = open_broker(table(tmp_path, GOOD.replace("environment = true", own)), context(tmp_path))
    assert broker.plan(permit(READ), action(), grant(EVERYTHING, {"customer": "shop"}))["tags"] == {}
    broker.close()
    with pytest.raises(SetupError, match="no `external_id`"):
        open_broker(
            table(tmp_path, GOOD.replace("environment = true", own + '\nexternal_id = "xyz"')), context(tmp_path)
        )
