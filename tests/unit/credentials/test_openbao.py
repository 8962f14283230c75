"""A class of OpenBao's or Vault's credentials as it is written, and each thing that can be wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.openbao import OpenBaoBroker
from forestall.adapter.credential.openbao_secret import OpenBaoSecret
from forestall.adapter.credential.static import StaticBroker
from forestall.core.errors import SetupError
from forestall.core.model import Scope
from forestall.credentials import close_all, load_credentials
from forestall.home import Home
from tests.unit.adapter.credential.vault import action, grant, permit

SITE = """\
address = "https://bao.example.org:8200"
login = { method = "token", file = "keys/bao-token" }
"""
CLASS = f"""\
[credentials.shop]
backend = "openbao"
{SITE}token_role = "forestall"
kind = "database"
path = "database/creds/{{role}}"
roles = {{ read = "shop-ro", write = "shop-rw" }}
policies = ["{{role}}"]
"""
TOKEN = CLASS.replace('"database"', '"token"').replace('path = "database/creds/{role}"\n', "")


def read(folder: Path, text: str) -> object:
    home = Home(folder)
    home.credentials.write_text(text)
    found = load_credentials(home, Context("0a1b2c3d", lambda: 0, bytes, 1.0, folder))
    close_all(found.values())
    return next(iter(found.values())).broker


def plan(folder: Path, text: str) -> object:
    broker = read(folder, text)
    assert isinstance(broker, OpenBaoBroker)
    return broker.plan(permit(), action(), grant(parameters={"customer": "ada"}))


def test_a_class_of_users_of_a_database(tmp_path: Path) -> None:
    assert plan(tmp_path, CLASS) == {
        "kind": "database",
        "policies": ["shop-ro"],
        "leases": ["database/creds/shop-ro"],
        "path": "database/creds/shop-ro",
        "method": "read",
    }


def test_a_class_of_what_is_written(tmp_path: Path) -> None:
    text = CLASS.replace('"database"', '"dynamic"').replace("database/creds/{role}", "pki/issue/{customer}")
    text += 'method = "write"\ndata = { common_name = "{customer}.example", ttl = 60, plain = true }\n'
    assert plan(tmp_path, text) == {
        "kind": "dynamic",
        "policies": ["shop-ro"],
        "leases": ["pki/issue/ada"],
        "path": "pki/issue/ada",
        "method": "write",
        "data": {"common_name": "ada.example", "ttl": 60, "plain": True},
    }


def test_a_class_of_tokens(tmp_path: Path) -> None:
    text = TOKEN + 'leases = ["database/creds/{role}"]\nuses = 5\n'
    assert plan(tmp_path, text) == {
        "kind": "token",
        "policies": ["shop-ro"],
        "leases": ["database/creds/shop-ro"],
        "uses": 5,
    }


@pytest.mark.parametrize(
    "login",
    [
        '{ method = "approle", role_id = "r", secret_id_file = "s" }',
        '{ method = "approle", mount = "a/b", role_id = "r", secret_id_file = "s" }',
        '{ method = "jwt", role = "r", file = "f", mount = "spire" }',
    ],
)
def test_each_way_to_log_in(tmp_path: Path, login: str) -> None:
    plan(tmp_path, CLASS.replace('{ method = "token", file = "keys/bao-token" }', login))


def test_the_scope_is_the_classes(tmp_path: Path) -> None:
    broker = read(tmp_path, f'{CLASS}scope = "task"\n')
    assert isinstance(broker, OpenBaoBroker)
    assert broker._context.scope is Scope.TASK


def test_a_secret_that_stands_there_is_lent_by_static(tmp_path: Path) -> None:
    text = f'[credentials.mail]\nbackend = "static"\n[credentials.mail.secrets.key]\n{SITE}'
    text += 'path = "kv/data/mail"\nfield = "k"\n'
    broker = read(tmp_path, text)
    assert isinstance(broker, StaticBroker)
    assert isinstance(broker.sources["key"], OpenBaoSecret)
    for old, new, sentence in (
        ('field = "k"\n', "", "has no `field`"),
        ("kv/data/mail", "kv/mail", "has `data` in it"),
        ("kv/data/mail", "kv/data/../mail", "a path, such as"),
        ('field = "k"', 'field = "k"\nengine_version = 3', "from 1 to 2"),
        ('field = "k"', 'field = "k"\ntoken_role = "x"', "unknown key `token_role`"),
    ):
        with pytest.raises(SetupError, match=sentence):
            read(tmp_path, text.replace(old, new))
    read(tmp_path, text.replace("kv/data/mail", "kv/mail") + "engine_version = 1\n")


@pytest.mark.parametrize(
    ("old", "new", "line", "sentence"),
    [
        ("https://bao", "http://bao", 3, "this cannot be: .*not https"),
        (":8200", ":8200/?a=b", 3, "where the server is"),
        ("https://bao", "https://u:p@bao", 3, "this cannot be"),
        ('address = "https://bao.example.org:8200"\n', "", 1, "has no `address`"),
        ('method = "token"', 'method = "password"', 4, "is one of approle, jwt, token"),
        ('file = "keys/bao-token"', 'file = ""', 4, "not empty"),
        ('file = "keys/bao-token"', 'file = "f", mount = "m"', 4, "unknown key `mount`"),
        (', file = "keys/bao-token"', "", 4, "has no `file`"),
        ('"forestall"', '"a/b"', 5, "name of a token role"),
        ('kind = "database"', 'kind = "data"', 6, "is one of database, dynamic, token"),
        ('path = "database/creds/{role}"\n', "", 1, "says what is read"),
        ("database/creds/{role}", "database/creds/{role", 7, "a brace that begins or ends no"),
        ("database/creds/{role}", "/database/creds", 7, "is not a path"),
        ("database/creds/{role}", "database/../creds", 7, "is not a path"),
        ("database/creds/{role}", "database//creds", 7, "is not a path"),
        ("database/creds/{role}", "database/creds?list=true", 7, "is not a path"),
        ("database/creds/{role}", "database/creds/", 7, "is not a path"),
        ('roles = { read = "shop-ro", write = "shop-rw" }\n', "", 8, "`{role}` is filled in by `roles`"),
        ('{ read = "shop-ro", write = "shop-rw" }', "{}", 8, "`roles` is empty"),
        ("read =", "red =", 8, "did you mean `read`"),
        ('"shop-ro"', '"../x"', 8, "the name of a role"),
        ('["{role}"]', "[]", 9, "one at least"),
        ('["{role}"]', '["root"]', 9, "not root"),
        ('["{role}"]', '["Shop"]', 9, "small letters"),
        ('["{role}"]\n', '["{role}"]\nuses = 3\n', 10, 'this is for `kind = "token"`'),
        ('["{role}"]\n', '["{role}"]\nleases = ["a"]\n', 10, 'this is for `kind = "token"`'),
        ('["{role}"]\n', '["{role}"]\ndata = { a = 1 }\n', 10, "what is read is sent nothing"),
        ('["{role}"]\n', '["{role}"]\nmethod = "write"\n', 10, '`kind = "database"` reads'),
        ('["{role}"]\n', '["{role}"]\nkey = "k.pem"\n', 10, "is that of `certificate`"),
        ('["{role}"]\n', '["{role}"]\nnamespace = "../x"\n', 10, "a namespace, such as"),
        ('["{role}"]\n', '["{role}"]\nca_file = "none.pem"\n', 0, "none.pem cannot be read"),
        ('["{role}"]\n', '["{role}"]\ntokenrole = "x"\n', 10, "did you mean `token_role`"),
    ],
)
def test_each_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, sentence: str) -> None:
    assert CLASS.replace(old, new) != CLASS
    with pytest.raises(SetupError, match=sentence) as caught:
        read(tmp_path, CLASS.replace(old, new))
    if line:
        assert str(caught.value).startswith(f"{tmp_path}/credentials.toml:{line}: ")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ('path = "a/b"', "a class of tokens reads nothing"),
        ('method = "read"', "a class of tokens reads nothing"),
        ("uses = -1", "from 0 to"),
        ('leases = ["a//b"]', "is not a path"),
    ],
)
def test_each_mistake_of_a_class_of_tokens(tmp_path: Path, more: str, sentence: str) -> None:
    with pytest.raises(SetupError, match=sentence):
        read(tmp_path, f"{TOKEN}{more}\n")


@pytest.mark.parametrize("value", ['["a"]', "1.5", "{ b = 1 }", '"{"', '"{role"'])
def test_each_mistake_in_what_is_written(tmp_path: Path, value: str) -> None:
    text = CLASS.replace('"database"', '"dynamic"') + f'method = "write"\ndata = {{ a = {value} }}\n'
    with pytest.raises(SetupError):
        read(tmp_path, text)
