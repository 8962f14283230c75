"""`backend = "static"`: secrets by reference."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from forestall.adapter.credential.context import Context
from forestall.core.ask import CannotDo
from forestall.core.errors import SetupError
from forestall.core.toml import parse_toml
from forestall.credentials.static import open_broker
from forestall.table import Table
from forestall.testing.world import LEASE


def table(tmp_path: Path, text: str) -> Table:
    file = tmp_path / "credentials.toml"
    text = f"[x]\n{text}"
    return Table.of_file(parse_toml(text, file), text, file).table("x")


def context(tmp_path: Path) -> Context:
    return Context("0badcafe", lambda: 0, bytes, 10.0, tmp_path)


def test_each_reference_becomes_a_field(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file\n")
    (tmp_path / "key").chmod(0o600)
    program = f'{{ command = ["{sys.executable}", "-c", "print(1)"] }}'
    text = f'secrets = {{ a = "file:key", b = "env:KEY", c = {program}, d = "file:{tmp_path}/key" }}\nallows = "all"\n'
    broker = open_broker(table(tmp_path, text), context(tmp_path), {"KEY": "from a variable"})
    secret = broker.issue(LEASE)
    assert secret.fields == {"a": "from a file", "b": "from a variable", "c": "1", "d": "from a file"}
    assert (secret.handle, secret.expires_at) == ("", 0)
    with pytest.raises(CannotDo, match="not renewed"):
        broker.renew(LEASE, 1)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "has no `secrets`"),
        ("secrets = {}\n", "`secrets` is empty"),
        ('secrets = { token = "hunter2" }\n', "told by reference, and never written here"),
        ('secrets = { token = "file:" }\n', "told by reference"),
        ('secrets = { token = "env:" }\n', "told by reference"),
        ('secrets = { Token = "file:x" }\n', "no name of a field"),
        ("secrets = { token = 1 }\n", "`token` is a text"),
        ("secrets = { token = { command = [] } }\n", "by its whole path"),
        ('secrets = { token = { command = ["pass", "x"] } }\n', "by its whole path"),
        ('secrets = { token = { comand = ["/x"] } }\n', "did you mean `command`?"),
        ('secrets = { token = "file:x" }\nlifetime = 3\n', "unknown key `lifetime`"),
    ],
)
def test_what_is_no_reference_is_refused_and_not_repeated(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SetupError) as caught:
        open_broker(table(tmp_path, text), context(tmp_path))
    assert sentence in str(caught.value)
    assert "hunter2" not in str(caught.value)
