"""`credentials.toml`, and each thing that can be wrong with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.adapter.credential.context import Context
from forestall.core.errors import SetupError
from forestall.core.model import Risk, Scope
from forestall.core.place import Place, Where
from forestall.credentials import Credentials, close_all, load_credentials, owner_of
from forestall.home import Home
from tests.backends import install

STATIC = 'backend = "static"\nsecrets = { token = "file:token" }\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture(autouse=True)
def _backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`files`, a backend of another package, which is installed for the test."""
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))


def context(home: Home) -> Context:
    return Context("0badcafe", lambda: 0, bytes, 1.0, home.root)


def read(home: Home, text: str, held: Credentials | None = None) -> Credentials:
    home.credentials.write_text(text)
    return load_credentials(home, context(home), held or {})


def files(more: str = "") -> str:
    return f'[credentials.desk]\nbackend = "files"\npath = "desk"\n{more}'


def test_without_a_file_or_without_a_class_there_is_none(home: Home) -> None:
    assert load_credentials(home, context(home)) == {}
    assert read(home, "") == {}


def test_what_is_not_said_is_for_one_action_and_five_minutes(home: Home) -> None:
    found = read(home, f"[credentials.mail]\n{STATIC}")["mail"]
    assert (found.name, found.backend, found.scope, found.lifetime_ms) == ("mail", "static", Scope.ACTION, 300_000)
    assert (found.place, found.server, found.revoke_at, found.reads_only, found.exposed) == (
        None,
        "",
        None,
        False,
        False,
    )


def test_what_is_said_counts(home: Home) -> None:
    place = '{ where = "environment", name = "TOKEN", template = "Bearer {token}" }'
    text = f'[credentials.mail]\n{STATIC}scope = "task"\nlifetime_s = 60\nserver = "mail"\nplace = {place}\n'
    found = read(home, f'{text}revoke_at = "medium"\nreads_only = true\n')["mail"]
    assert (found.scope, found.lifetime_ms, found.server) == (Scope.TASK, 60_000, "mail")
    assert found.place == Place(Where.ENVIRONMENT, "TOKEN", "Bearer {token}")
    assert (found.revoke_at, found.reads_only, found.exposed) == (Risk.MEDIUM, True, True)


@pytest.mark.parametrize(("where", "exposed"), [("header", False), ("argument", False), ("command", True)])
def test_what_a_user_of_the_machine_could_read_is_exposed(home: Home, where: str, exposed: bool) -> None:
    place = f'{{ where = "{where}", name = "x", template = "{{token}}" }}'
    start = 'scope = "task"\nserver = "mail"\n' if where == "command" else ""
    assert read(home, f"[credentials.mail]\n{STATIC}{start}place = {place}\n")["mail"].exposed is exposed


PLACE = 'place = { where = "header", name = "Authorization", template = "Bearer {token}" }'
START = 'place = { where = "descriptor", name = "TOKEN", template = "{token}" }'


@pytest.mark.parametrize(
    ("text", "line", "sentence"),
    [
        ("[credential.x]\n", 1, "unknown section `credential`; did you mean `credentials`?"),
        (f'[credentials."a b"]\n{STATIC}', 1, "no name of a class"),
        ('[credentials.x]\nsecrets = { token = "file:t" }\n', 1, "`backend` says what makes it, and is missing"),
        ('[credentials.x]\nbackend = "postgres"\n', 2, "unknown backend `postgres`; did you mean `postgresql`?"),
        ('[credentials.x]\nbackend = "zzz"\n', 2, "known are aws, files, github, kubernetes, oauth, openbao"),
        (f"[credentials.x]\n{STATIC}secrts = 1\n", 4, "unknown key `secrts` in [credentials.x]; did you mean"),
        (f'[credentials.x]\n{STATIC}scope = "call"\n', 4, "`scope` is one of action, task"),
        (f"[credentials.x]\n{STATIC}lifetime_s = 0\n", 4, "`lifetime_s` is a whole number from 1 to 86400"),
        (f"[credentials.x]\n{STATIC}lifetime_s = 86401\n", 4, "`lifetime_s` is a whole number from 1 to 86400"),
        (f'[credentials.x]\n{STATIC}revoke_at = "low"\n', 4, "`revoke_at` is one of medium, high"),
        (f'[credentials.x]\n{STATIC}reads_only = "yes"\n', 4, "`reads_only` is true or false"),
        (f'[credentials.x]\n{STATIC}place = "header"\n', 4, "`place` is a table"),
        (f'[credentials.x]\n{STATIC}place = {{ where = "header" }}\n', 4, "has no `name`"),
        (f"[credentials.x]\n{STATIC}{PLACE.replace('header', 'body')}\n", 4, "`where` is one of header, argument"),
        (f"[credentials.x]\n{STATIC}{PLACE.replace('Authorization', 'A: b')}\n", 4, "`name` is a header's name"),
        (f"[credentials.x]\n{STATIC}{PLACE.replace('{token}', '{token')}\n", 4, "A brace stands alone"),
        (f"[credentials.x]\n{STATIC}{PLACE.replace('{token}', 'x')}\n", 4, "`template` has no field"),
        (f"[credentials.x]\n{STATIC}{START}\n", 4, 'there from the server\'s start; write `scope = "task"`'),
        (f'[credentials.x]\n{STATIC}scope = "action"\n{START}\n', 4, 'write `scope = "task"`'),
        (f'[credentials.x]\n{STATIC}scope = "task"\n{START}\n', 5, "Name the server"),
        (f'[credentials.x]\n{STATIC}server = "mail"\n{PLACE}\n', 4, "a call has its own server"),
        (
            f"[credentials.x]\n{STATIC}{PLACE.replace('{token}', '{user} {token}')}\n",
            4,
            "what this backend makes has no `{user}`; it has `{token}`.",
        ),
        (
            f"[credentials.x]\n{STATIC}[credentials.x.place]\nwhere = 'header'\nname = 'X'\ntemplate = '{{key|url}}'\n",
            7,
            "has no `{key}`; it has `{token}`.",
        ),
        (files("unrevocable = true\n"), 2, "the backend cannot revoke it, and it would live 300 s"),
        (files("unrevocable = true\nlifetime_s = 11\n"), 5, "cannot revoke it, and it would live 11 s"),
        (files("unrevocable = true\nlifetime_s = 10\nshortest_s = 60\n"), 5, "it would live 60 s"),
    ],
)
def test_what_is_wrong_is_refused_with_its_place_and_what_to_do(
    home: Home, text: str, line: int, sentence: str
) -> None:
    with pytest.raises(SetupError) as caught:
        read(home, text)
    assert str(caught.value).startswith(f"{home.credentials}:{line}: ")
    assert sentence in str(caught.value)


@pytest.mark.parametrize("more", ["lifetime_s = 10\n", "reads_only = true\n"])
def test_what_cannot_be_revoked_is_for_reads_or_over_at_once(home: Home, more: str) -> None:
    assert "desk" in read(home, files(f"unrevocable = true\n{more}"))


def test_what_is_no_text_or_too_long_is_refused(home: Home) -> None:
    home.credentials.write_bytes(b"\xff")
    with pytest.raises(SetupError, match="not UTF-8"):
        load_credentials(home, context(home))
    home.credentials.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(SetupError, match="larger than"):
        load_credentials(home, context(home))
    home.credentials.unlink()
    home.credentials.mkdir()
    with pytest.raises(SetupError, match="cannot be read"):
        load_credentials(home, context(home))


def test_a_class_that_did_not_change_keeps_its_broker(home: Home) -> None:
    other = f"[credentials.mail]\n{STATIC}"
    before = read(home, f"{files()}{other}")
    after = read(home, f"{files('lifetime_s = 60')}\n{other}", before)
    assert after["mail"].broker is before["mail"].broker
    assert after["desk"].broker is not before["desk"].broker


def test_where_one_class_is_wrong_what_was_opened_before_it_is_closed(home: Home) -> None:
    with pytest.raises(SetupError):
        read(home, f'{files()}[credentials.x]\nbackend = "static"\n')
    assert (home.root / "desk" / "closed").exists()


def test_all_are_closed_even_where_one_cannot_be(home: Home) -> None:
    both = f"{files()}{files().replace('desk', 'bench')}"
    found = read(home, both)
    (home.root / "desk").rename(home.root / "gone")
    with pytest.raises(FileNotFoundError):
        close_all(found.values())
    assert (home.root / "bench" / "closed").exists()


def test_an_owner_is_eight_digits_that_follow_from_its_ledger() -> None:
    assert owner_of("a", b"key") == owner_of("a", b"key")
    assert len({owner_of("a", b"key"), owner_of("b", b"key"), owner_of("a", b"kez")}) == 3
    assert len(owner_of("a", b"key")) == 8
    assert int(owner_of("a", b"key"), 16) >= 0


def test_what_a_backend_does_not_say_that_it_makes_is_known_when_it_made_it(home: Home) -> None:
    place = 'place = { where = "header", name = "X", template = "{whatever}" }\n'
    assert read(home, files(place))["desk"].place is not None


OPENBAO = """\
[credentials.shop]
backend = "openbao"
address = "https://bao.example.org"
login = { method = "token", file = "token" }
token_role = "forestall"
policies = ["shop"]
"""
AT = 'place = { where = "header", name = "X", template = "{nothing}" }\n'


@pytest.mark.parametrize(
    ("text", "has"),
    [
        (f'{OPENBAO}kind = "token"\n', "`{token}`"),
        (f'{OPENBAO}kind = "database"\npath = "database/creds/shop"\n', "`{password}`, `{username}`"),
        (
            (
                '[credentials.pods]\nbackend = "kubernetes"\napi = "https://cluster.example.org"\n'
                'token_file = "token"\nnamespace = "agents"\nservice_accounts = { read = "viewer" }\n'
            ),
            "`{api}`, `{namespace}`, `{service_account}`, `{token}`",
        ),
        (
            (
                '[credentials.db]\nbackend = "postgresql"\ndatabase = "shop"\ndsn = "host=127.0.0.1 user=f"\n'
                '[[credentials.db.allow]]\ntable = "orders"\noperations = ["select"]\n'
            ),
            "`{database}`, `{host}`, `{password}`, `{port}`, `{url}`, `{user}`",
        ),
    ],
    ids=["openbao token", "openbao database", "kubernetes", "postgresql"],
)
def test_a_template_names_what_its_backend_makes(home: Home, text: str, has: str) -> None:
    name, _, rest = text.partition("\n")
    with pytest.raises(SetupError, match=r"toml:2: what this backend makes has no `\{nothing\}`") as caught:
        read(home, f"{name}\n{AT}{rest}")
    assert str(caught.value).endswith(f"it has {has}.")


def test_what_another_engine_makes_is_known_from_its_answer_alone(home: Home) -> None:
    text = f'{OPENBAO}{AT}kind = "dynamic"\npath = "aws/creds/shop"\n'
    found = read(home, text)
    assert found["shop"].broker.traits.fields is None
    close_all(found.values())
