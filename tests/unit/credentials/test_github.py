"""`backend = "github"` in `credentials.toml`."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.core.errors import SetupError
from forestall.core.model import Scope
from forestall.credentials.github import open_broker
from tests.backends.github import write_key
from tests.backends.leases import EVERYTHING, READ, action, context, grant, permit, table

GOOD = """\
app = "Iv23liFORESTALL"
private_key_file = "app.pem"
installation = 17
account = "acme"
repositories = ["shop", "{parameters.repo}"]
[credentials.under-test.permissions]
contents = "write"
"""


def test_what_a_class_says_is_what_is_planned(tmp_path: Path) -> None:
    write_key(tmp_path)
    broker = open_broker(table(tmp_path, GOOD), context(tmp_path, scope=Scope.TASK))
    task = grant(EVERYTHING, {"repo": "docs"})
    expected = {"account": "acme", "repositories": ["docs", "shop"], "permissions": {"contents": "write"}}
    assert broker.plan(permit(READ), action(), task) == expected
    reading = grant(READ, {"repo": "shop"})
    assert broker.plan(permit(READ), action(), reading) == {
        "account": "acme",
        "repositories": ["shop"],
        "permissions": {"contents": "read"},
    }
    broker.close()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('app = "Iv23liFORESTALL"', 'app = "a b"', ":2: .*client id"),
        ('app = "Iv23liFORESTALL"\n', "", "has no `app`"),
        ("installation = 17", "installation = 0", ":4: .*whole number"),
        ("installation = 17", 'installation = "17"', ":4: .*whole number"),
        ('account = "acme"', 'account = "acme/shop"', ":5: .*installed for"),
        ('["shop", "{parameters.repo}"]', "[]", ":6: .*one at least"),
        ('"shop", ', '"rival/shop", ', ":6: .*not one of acme's"),
        ('"shop", ', '"sh op", ', ":6: .*no name"),
        ("{parameters.repo}", "{repo}", ":6: .*brace"),
        ("{parameters.repo}", "{arguments.repo}", ":6: .*of one call"),
        ('contents = "write"', 'contents = "all"', ":8: .*read, write, admin"),
        ('contents = "write"', "", "one at least"),
        ('contents = "write"', '"Con tents" = "read"', "no permission"),
        ('account = "acme"', 'account = "acme"\ninstalation = 1', "did you mean `installation`"),
        ('account = "acme"', 'account = "acme"\napi = "http://example.org"', "not https"),
        ('account = "acme"', 'account = "acme"\nca_file = "missing.pem"', "missing.pem"),
        ('"app.pem"', '"missing.pem"', "cannot be read"),
    ],
)
def test_what_cannot_be_is_an_error_that_says_where(old: str, new: str, said: str, tmp_path: Path) -> None:
    write_key(tmp_path)
    assert old in GOOD
    with pytest.raises(SetupError, match=said):
        open_broker(table(tmp_path, GOOD.replace(old, new)), context(tmp_path, scope=Scope.TASK))
