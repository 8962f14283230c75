"""GitHub's tokens against a holder that wants more, names that are something else, and a server that cannot be trusted.

What holds a token back is the server's doing, and the server is ours: `docs/credentials/github.md` says what that does
not prove.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from forestall.adapter.credential.github import LIFE_MS, SKEW_MS, GitHub
from forestall.core.ask import CannotDo
from forestall.core.model import Action, Lease, Secret
from forestall.core.reason import Reason
from forestall.credentials.github import open_broker
from tests.backends.github import CLASS, GitHubBackend, assertion, encoded, github, write_key
from tests.backends.leases import EVERYTHING, READ, action, context, grant, lease, permit, table
from tests.backends.tamper import Forward, Held, Passed, Tamper, twice, unheard
from tests.unit.adapter.oidc.site import Asked

NAMES = '["{arguments.repo}"]'


@pytest.fixture(scope="module")
def shared() -> Iterator[GitHubBackend]:
    with github() as backend:
        yield backend


@pytest.fixture
def backend(shared: GitHubBackend) -> GitHubBackend:
    """As if it had been started just now."""
    shared.reset()
    return shared


@pytest.fixture
def tamper(backend: GitHubBackend) -> Iterator[Tamper]:
    with Tamper(backend.port) as tamper:
        yield tamper


@pytest.fixture
def broker(tamper: Tamper, tmp_path: Path) -> Iterator[GitHub]:
    opened = opening(tmp_path, tamper.url)
    yield opened
    opened.close()


def opening(folder: Path, url: str, *, timeout_s: float = 30.0, now: Callable[[], int] | None = None) -> GitHub:
    write_key(folder)
    text = CLASS.format(url=url, repositories=NAMES)
    return open_broker(table(folder, text), context(folder, timeout_s=timeout_s, now=now))


def planned(broker: GitHub, *, effects: Any = EVERYTHING, asked: Action | None = None, number: int = 1) -> Lease:
    rights = broker.plan(permit(effects), asked or action(repo="shop"), grant())
    return lease(rights, number=number)


def issued(broker: GitHub, **how: Any) -> tuple[Lease, Secret]:
    made = planned(broker, **how)
    secret = broker.issue(made)
    return replace(made, secret=secret), secret


def refused(ask: Callable[[], object], *words: str) -> CannotDo:
    with pytest.raises(CannotDo) as caught:
        ask()
    for word in words:
        assert word in caught.value.detail
    return caught.value


def changing(change: Callable[[Any], None]) -> Callable[[Asked, Forward], Passed]:
    """What comes back with a new token is another document."""

    def rule(asked: Asked, forward: Forward) -> Passed:
        passed = forward()
        if asked.command != "POST":
            return passed
        document = passed.json
        change(document)
        return passed.saying(document)

    return rule


# -- the holder


def test_a_token_reaches_its_repository_and_no_other(backend: GitHubBackend, broker: GitHub) -> None:
    _, secret = issued(broker)
    token = secret.fields["token"]
    assert backend.read(token).status == 200
    assert backend.write(token).status == 201
    assert backend.read(token, "acme/secrets").status == 404
    assert backend.read(token, "rival/shop").status == 404
    assert backend.create(token).status == 401, "a token makes no tokens"


def test_a_call_that_reads_gets_a_token_that_reads(backend: GitHubBackend, broker: GitHub) -> None:
    _, secret = issued(broker, effects=READ)
    assert backend.read(secret.fields["token"]).status == 200
    assert backend.write(secret.fields["token"]).status == 403
    assert [each["permissions"] for each in backend.tokens()] == [
        {"contents": "read", "issues": "read", "metadata": "read"}
    ]


def test_rights_that_name_nothing_are_not_sent(tamper: Tamper, broker: GitHub, backend: GitHubBackend) -> None:
    """GitHub gives everything where nothing is named."""
    whole = planned(broker).rights
    for rights in ({}, {**whole, "repositories": []}, {**whole, "permissions": {}}, {**whole, "account": "rival"}):
        refused(lambda rights=rights: broker.issue(lease(rights)), "not those of")  # type: ignore[misc]
    assert tamper.passed == []
    assert backend.tokens() == []


@pytest.mark.parametrize(
    "name",
    [
        "rival/shop",
        "acme/shop/../secrets",
        "../rival/shop",
        "..",
        ".",
        "",
        "*",
        "shop%2F..%2Fsecrets",
        "shop?x=1",
        "shop#",
        "https://example.org/shop",
        'shop","secrets',
        '{"a": 1}',
        "shop\n",
        "shop\r\nAuthorization: x",
        "shop; DROP TABLE x",
        "\u0455hop",
        "s" * 101,
        "/shop",
        "acme//shop",
        ["shop", "secrets"],
        {"name": "shop"},
        17,
        None,
    ],
)
def test_a_name_that_is_something_else_is_refused_before_anything_is_asked(
    name: Any, broker: GitHub, tamper: Tamper
) -> None:
    error = refused(lambda: planned(broker, asked=action(repo=name)))
    assert error.reason in {Reason.OUT_OF_SCOPE, Reason.INVALID_ARGUMENTS}
    assert tamper.passed == []


@pytest.mark.parametrize("name", ["", "forestall-0badcafe-1", "x", "forestall-0123abcd-../17", "forestall-0123abcd-A"])
def test_nothing_is_asked_about_a_lease_of_another_name(name: str, broker: GitHub, tamper: Tamper) -> None:
    one = replace(planned(broker), name=name)
    refused(lambda: broker.issue(one), "name")
    refused(lambda: broker.revoke(one), "name")
    assert tamper.passed == []


# -- what the server checks of the app


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: assertion(rsa.generate_private_key(65537, 2048)),
        lambda: assertion(iss="Iv23liSOMEBODY"),
        lambda: assertion(exp=int(time.time()) - 60),
        lambda: assertion(exp=int(time.time()) + 700),
        lambda: assertion(iat=int(time.time()) + 60),
        lambda: assertion(exp=None),
        lambda: assertion(header={"alg": "none"}).rpartition(".")[0] + ".",
        lambda: f"{encoded(b'{}')}.{encoded(b'{}')}.",
        lambda: "",
    ],
)
def test_the_server_takes_no_assertion_but_the_apps(wrong: Callable[[], str], backend: GitHubBackend) -> None:
    assert backend.create(wrong()).status == 401
    assert backend.tokens() == []


def test_the_server_gives_what_the_installation_has_and_no_more(backend: GitHubBackend) -> None:
    for body in (
        {"repositories": ["of-nobody"]},
        {"permissions": {"administration": "write"}},
        {"permissions": {"secrets": "read"}},
    ):
        assert backend.create(assertion(), body).status == 422
    assert backend.create(assertion(), installation=99).status == 404


def test_a_clock_that_is_wrong_by_too_much_is_said(backend: GitHubBackend, tmp_path: Path) -> None:
    late = opening(tmp_path, backend.url, now=lambda: int(time.time() * 1000) - 700_000)
    refused(lambda: late.issue(planned(late)), "clock")
    late.close()


# -- a server that cannot be trusted, or something before it


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda said: said["repositories"].append({"full_name": "acme/secrets"}), "other repositories"),
        (lambda said: said.update(repositories=[{"full_name": "rival/shop"}]), "other repositories"),
        (lambda said: said.update(repositories=[]), "which repositories"),
        (lambda said: said.update(repositories=[{"full_name": "acme/shop"}, 7]), "which repositories"),
        (lambda said: said.pop("repositories"), "which repositories"),
        (lambda said: said.update(repository_selection="all"), "every repository"),
        (lambda said: said["permissions"].update(administration="read"), "other permissions"),
        (lambda said: said["permissions"].update(contents="admin"), "other permissions"),
        (lambda said: said["permissions"].update(metadata="write"), "other permissions"),
        (lambda said: said["permissions"].pop("contents"), "other permissions"),
        (lambda said: said.pop("permissions"), "what it permits"),
        (lambda said: said.pop("expires_at"), "without an end"),
        (lambda said: said.update(expires_at="2099-01-01T00:00:00Z"), "within the hour"),
        (lambda said: said.update(expires_at="2026-01-01T00:00:00"), "within the hour"),
    ],
)
def test_a_token_for_more_than_was_asked_for_is_revoked_at_once(
    change: Callable[[Any], None], said: str, tamper: Tamper, broker: GitHub, backend: GitHubBackend
) -> None:
    tamper.rule = changing(change)
    one = planned(broker)
    error = refused(lambda: broker.issue(one), said, "revoked at once")
    assert "ghs_" not in f"{error!r}{error.detail}"
    assert backend.tokens() == []
    broker.revoke(one)


def test_a_token_for_more_that_cannot_be_revoked_now_is_revoked_later(
    tamper: Tamper, broker: GitHub, backend: GitHubBackend
) -> None:
    def rule(asked: Asked, forward: Forward) -> Passed | None:
        if asked.command == "DELETE":
            return None
        return changing(lambda said: said["permissions"].update(administration="read"))(asked, forward)

    tamper.rule = rule
    one = planned(broker)
    refused(lambda: broker.issue(one))
    assert len(backend.tokens()) == 1
    tamper.rule = lambda _, forward: forward()
    broker.revoke(one)
    assert backend.tokens() == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b'{"token": 7}',
        b'{"token": "a b"}',
        b'{"token": "a", "token": "b"}',
        b"\xff",
        b"[" * 9000,
    ],
)
def test_an_answer_without_a_token_leaves_the_lease_without_an_end(body: bytes, tamper: Tamper, broker: GitHub) -> None:
    tamper.rule = lambda _, forward: replace(forward(), body=body)
    one = planned(broker)
    refused(lambda: broker.issue(one))
    refused(lambda: broker.revoke(one), "answer was lost")


def test_an_answer_that_is_lost_is_over_once_its_hour_is(
    tamper: Tamper, backend: GitHubBackend, tmp_path: Path
) -> None:
    now = [int(time.time() * 1000)]
    broker = opening(tmp_path, tamper.url, now=lambda: now[0])
    tamper.rule = unheard
    one = planned(broker)
    refused(lambda: broker.issue(one))
    assert len(backend.tokens()) == 1
    refused(lambda: broker.revoke(one), "answer was lost", "ends by")
    now[0] = one.expires_at + LIFE_MS + SKEW_MS - 1
    refused(lambda: broker.revoke(one))
    now[0] += 1
    broker.revoke(one)
    broker.close()


def test_an_answer_that_comes_too_late_is_a_lost_one(tamper: Tamper, backend: GitHubBackend, tmp_path: Path) -> None:
    tamper.rule = held = Held()
    broker = opening(tmp_path, tamper.url, timeout_s=1.0)
    one = planned(broker)
    refused(lambda: broker.issue(one))
    held.release()
    refused(lambda: broker.revoke(one), "answer was lost")
    broker.close()


def test_what_was_never_asked_or_was_refused_is_over(tamper: Tamper, broker: GitHub, backend: GitHubBackend) -> None:
    one = planned(broker, asked=action(repo="of-nobody"))
    refused(lambda: broker.issue(one), "repositories or permissions")
    broker.revoke(one)
    assert backend.tokens() == []


def test_a_request_that_is_carried_out_twice_leaves_the_token_that_nobody_was_told_of(
    tamper: Tamper, broker: GitHub, backend: GitHubBackend
) -> None:
    """It lives for its hour, with the same rights: `docs/credentials/github.md` says so."""
    tamper.rule = twice
    made, secret = issued(broker)
    broker.revoke(made)
    assert backend.read(secret.fields["token"]).status == 401
    assert [each["repositories"] for each in backend.tokens()] == [["acme/shop"]]


def test_an_answer_that_comes_twice_counts_once(tamper: Tamper, broker: GitHub, backend: GitHubBackend) -> None:
    tamper.doubled = True
    made, secret = issued(broker)
    other, another = issued(broker, number=2)
    assert secret.fields["token"] != another.fields["token"]
    broker.revoke(made)
    assert [each["token"] for each in backend.tokens()] == [another.fields["token"]]
    broker.revoke(other)
    assert backend.tokens() == []


def test_a_revocation_that_is_only_said_is_not_believed(tamper: Tamper, broker: GitHub, backend: GitHubBackend) -> None:
    made, _ = issued(broker)
    tamper.rule = lambda asked, forward: Passed(204, (), b"") if asked.command == "DELETE" else forward()
    refused(lambda: broker.revoke(made), "still takes it")
    tamper.rule = lambda _, forward: forward()
    broker.revoke(made)
    assert backend.tokens() == []


def test_a_revocation_whose_answer_is_lost_is_asked_again(
    tamper: Tamper, broker: GitHub, backend: GitHubBackend
) -> None:
    made, _ = issued(broker)
    tamper.rule = unheard
    refused(lambda: broker.revoke(made))
    assert backend.tokens() == []
    tamper.rule = lambda _, forward: forward()
    broker.revoke(made)


@pytest.mark.parametrize("status", [301, 307, 500, 502])
def test_a_server_that_says_something_else_did_not_revoke(
    status: int, tamper: Tamper, broker: GitHub, backend: GitHubBackend
) -> None:
    made, _ = issued(broker)
    tamper.rule = lambda *_: Passed(status, (("Location", "http://127.0.0.1:9/"),), b"{}")
    refused(lambda: broker.revoke(made))
    assert len(backend.tokens()) == 1


@pytest.mark.parametrize(
    ("status", "headers", "said"),
    [
        (403, {"retry_after": "41"}, "in 41 s"),
        (429, {"retry_after": "41"}, "in 41 s"),
        (403, {"x_ratelimit_remaining": "0", "x_ratelimit_reset": "1"}, "later"),
        (429, {}, "later"),
        (429, {"retry_after": 'ghs_something" or worse'}, "later"),
    ],
)
def test_a_limit_on_the_rate_is_said_and_made_nothing(
    status: int, headers: dict[str, str], said: str, broker: GitHub, backend: GitHubBackend
) -> None:
    one = planned(broker)
    backend.limit(status, **headers)
    assert refused(lambda: broker.issue(one), "limits how often", said).reason is Reason.UNAVAILABLE
    broker.revoke(one)
    assert backend.tokens() == []


def test_the_backends_words_are_in_no_error(broker: GitHub, backend: GitHubBackend) -> None:
    backend.limit(403, "INJECTED \x1b[31m")
    assert "INJECTED" not in refused(lambda: broker.issue(planned(broker))).detail


def test_a_key_that_is_gone_or_that_others_can_read_is_said(broker: GitHub, tmp_path: Path) -> None:
    file = tmp_path / "app.pem"
    file.chmod(0o644)
    refused(lambda: broker.issue(planned(broker)), "chmod 600")
    file.unlink()
    refused(lambda: broker.issue(planned(broker)), "cannot be read")


def test_a_new_key_is_used_without_a_restart(broker: GitHub, backend: GitHubBackend, tmp_path: Path) -> None:
    write_key(tmp_path, rsa.generate_private_key(65537, 2048))
    refused(lambda: broker.issue(planned(broker)), "private_key_file")
    write_key(tmp_path)
    issued(broker)
    assert len(backend.tokens()) == 1


def test_what_is_sent_is_what_was_planned_and_nothing_else(tamper: Tamper, broker: GitHub) -> None:
    issued(broker, asked=action(repo="ACME/shop"))
    ((method, where, body),) = tamper.passed
    assert (method, where) == ("POST", "/app/installations/17/access_tokens")
    assert json.loads(body) == {"repositories": ["shop"], "permissions": {"contents": "write", "issues": "write"}}
