"""What a server of OpenBao or Vault may say that a real one rarely does, and what is sent to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.credential.context import Context
from forestall.adapter.credential.openbao_api import Site
from forestall.adapter.credential.openbao_login import AppRole, Jwt, TokenFile
from forestall.adapter.credential.openbao_secret import OpenBaoSecret, StandingSecret
from forestall.core.ask import CannotDo
from forestall.core.model import Lease, Scope
from forestall.core.reason import Reason
from tests.unit.adapter.credential.raw import Peer, Raw
from tests.unit.adapter.credential.vault import (
    ACCESSOR,
    CREATED,
    DRAWN,
    GIVEN_OUT,
    GONE,
    LEASE,
    NAME,
    NOW,
    OWN,
    TOKEN,
    WRITTEN,
    Desk,
    desk,
)
from tests.unit.adapter.oidc.site import WAIT_S

CREATE, DRAW = "POST auth/token/create/forestall", "GET database/creds/shop-ro"
REVOKE, LOOK_UP = "POST auth/token/revoke-accessor", "POST auth/token/lookup-accessor"
LIST, RENEW = "LIST auth/token/accessors", "POST auth/token/renew-accessor"
END, FIND, SET = "POST sys/leases/revoke", "POST sys/leases/lookup", "POST sys/leases/renew"
SECRETS = "LIST sys/leases/lookup/database/creds/shop-ro"
HIDDEN = (OWN, TOKEN, "a-password-of-the-test")
DENIED = {"errors": ["1 error occurred:\n\t* permission denied\n\n"]}


@pytest.fixture
def at(tmp_path: Path) -> Iterator[Desk]:
    with desk(tmp_path) as made:
        yield made


@contextmanager
def not_done(match: str | None = None, reason: Reason = Reason.UNAVAILABLE) -> Iterator[None]:
    with pytest.raises(CannotDo, match=match) as caught:
        yield
    assert caught.value.reason is reason
    assert caught.value.detail.endswith(".")
    assert not [each for each in HIDDEN if each in repr(caught.value)]


def but(document: Mapping[str, Any], part: str, **changes: Any) -> dict[str, Any]:
    """The document with other members in one part of it; `...` takes one out."""
    inner = {**(document[part] if part else document), **changes}
    left = {name: value for name, value in inner.items() if value is not ...}
    return {**document, part: left} if part else left


def issued(at: Desk) -> Lease:
    lease = at.lease()
    return replace(lease, secret=at.broker.issue(lease))


# -- making


def test_a_token_is_asked_for_as_narrow_as_can_be_and_the_secret_is_read_with_it_alone(at: Desk) -> None:
    secret = at.broker.issue(at.lease())
    assert at.asked == [CREATE, DRAW]
    (_, first, asked), (_, second, _) = at.heard
    assert (first["x-vault-token"], second["x-vault-token"]) == (OWN, TOKEN)
    assert asked == {
        "policies": ["shop-ro"],
        "meta": {"forestall_lease": NAME, "forestall_leases": "database/creds/shop-ro"},
        "no_default_policy": True,
        "ttl": "60s",
        "explicit_max_ttl": "60s",
        "renewable": False,
        "num_uses": 2,
        "display_name": NAME,
        "type": "service",
    }
    assert dict(secret.fields) == {"username": "u", "password": "a-password-of-the-test", "port": "5432", "tls": "true"}
    assert (secret.handle, secret.expires_at) == (f"{ACCESSOR} {LEASE}", NOW + 60_000)
    assert not [each for each in HIDDEN if each in repr(secret) + repr(at.broker)]


def test_a_tasks_token_can_be_renewed(at: Desk) -> None:
    at.broker.issue(at.lease(Scope.TASK))
    asked = at.heard[0][2]
    assert asked["renewable"] is True
    assert "explicit_max_ttl" not in asked


def test_what_is_written_is_sent(tmp_path: Path) -> None:
    with desk(tmp_path, WRITTEN) as at:
        at.broker.issue(at.lease())
        assert (at.heard[1][0], at.heard[1][2]) == ("POST database/creds/shop-ro", {"name": "x", "count": 3})


def test_a_namespace_is_named_in_every_request(tmp_path: Path) -> None:
    with desk(tmp_path, namespace="agents/shop") as at:
        at.broker.revoke(issued(at))
        assert {headers["x-vault-namespace"] for _, headers, _ in at.heard} == {"agents/shop"}


def test_without_a_whole_second_to_live_nothing_is_asked_for(at: Desk) -> None:
    with not_done("not a second left", Reason.DEADLINE):
        at.broker.issue(at.lease(lives_ms=999))
    assert at.heard == []


@pytest.mark.parametrize(
    "changes",
    [
        {"policies": ["default", "shop-ro"]},
        {"policies": ["root"]},
        {"policies": []},
        {"policies": "shop-ro"},
        {"policies": ...},
        {"identity_policies": ["other"]},
        {"orphan": False},
        {"orphan": ...},
        {"orphan": 1},
        {"token_type": "batch"},
        {"token_type": ...},
        {"metadata": None},
        {"metadata": {"forestall_lease": f"forestall-0a1b2c3d-{'8' * 32}", "forestall_leases": ""}},
        {"num_uses": 0},
        {"num_uses": 1},
        {"num_uses": ...},
        {"accessor": ""},
        {"accessor": ...},
        {"accessor": "a b c d e f"},
        {"accessor": 12345678},
        {"client_token": ""},
        {"client_token": ...},
        {"client_token": "a\nX-Vault-Token: b"},
        {"client_token": "t" * 5000},
        {"lease_duration": 61},
        {"lease_duration": 0},
        {"lease_duration": -1},
        {"lease_duration": "60"},
        {"lease_duration": 59.5},
        {"lease_duration": True},
        {"lease_duration": ...},
    ],
)
def test_another_token_than_was_asked_for_is_refused_and_nothing_is_read_with_it(
    at: Desk, changes: dict[str, Any]
) -> None:
    at.says[CREATE] = 200, but(CREATED, "auth", **changes)
    with not_done("answered with"):
        at.broker.issue(at.lease())
    assert at.asked == [CREATE]


@pytest.mark.parametrize(
    "said",
    [
        but(DRAWN, "", lease_id=""),
        but(DRAWN, "", lease_id=...),
        but(DRAWN, "", lease_id=7),
        but(DRAWN, "", lease_id="database/creds/shop-rw/1"),
        but(DRAWN, "", lease_id="database/creds/shop-ro/1\n2"),
        but(DRAWN, "", lease_id=f"database/creds/shop-ro/{'1' * 600}"),
        but(DRAWN, "", lease_duration="60"),
        but(DRAWN, "", lease_duration=...),
        but(DRAWN, "", data=None),
        but(DRAWN, "", data=[]),
        but(DRAWN, "", data={}),
        but(DRAWN, "", data={"list": [1]}),
        but(DRAWN, "", data={"password": "x\0"}),
        but(DRAWN, "", data={"password": "x" * 70_000}),
        [],
        "x",
        b"not json",
        b'{"data":{},"data":{}}',
        b"",
        None,
    ],
)
def test_a_secret_that_is_none_is_refused(at: Desk, said: Any) -> None:
    at.says[DRAW] = 200, said
    with not_done():
        at.broker.issue(at.lease())


def test_a_secret_that_stands_is_told_by_its_name(at: Desk) -> None:
    at.says[DRAW] = 200, but(DRAWN, "", lease_id="")
    with not_done("lent as `static`"):
        at.broker.issue(at.lease())


def test_a_secret_that_outlives_its_token_is_brought_down_to_it(at: Desk) -> None:
    at.says[DRAW] = 200, but(DRAWN, "", lease_duration=3600)
    at.says[SET] = 200, {"lease_id": LEASE, "lease_duration": 58, "renewable": True}
    assert at.broker.issue(at.lease()).expires_at == NOW + 58_000
    assert at.heard[-1][2] == {"lease_id": LEASE, "increment": 60}
    for said in ((400, {"errors": ["lease is not renewable"]}), (200, {"lease_duration": 61}), (200, {})):
        at.says[SET] = said
        with not_done():
            at.broker.issue(at.lease())


def test_a_secret_that_ends_before_its_token_is_said_to(at: Desk) -> None:
    at.says[DRAW] = 200, but(DRAWN, "", lease_duration=10)
    assert at.broker.issue(at.lease()).expires_at == NOW + 10_000
    assert at.asked == [CREATE, DRAW]


@pytest.mark.parametrize(
    ("status", "said", "match"),
    [
        (400, {"errors": [f"policy of {TOKEN} {OWN}"]}, "400: it did not take a request"),
        (403, DENIED, "look at the policy of Forestall's own token"),
        (404, {"errors": []}, "404: it has nothing there"),
        (307, None, "name the active server's own address"),
        (472, None, "name the active server"),
        (473, {}, "name the active server"),
        (429, None, "name the active server"),
        (500, {"errors": ["internal error"]}, "500: it failed; look at its log"),
        (503, {"errors": ["Vault is sealed"]}, "is sealed; unseal it"),
        (503, {"errors": ["OpenBao is sealed"]}, "is sealed; unseal it"),
        (503, {"errors": ["Vault is sealed, or so", 7, None]}, "503: it cannot work"),
        (503, b"<html>", "not with JSON"),
        (200, b'[{"errors":[]}]', "JSON that is no object"),
    ],
)
@pytest.mark.parametrize("line", [CREATE, DRAW])
def test_each_refusal_says_what_to_do_and_nothing_of_what_the_server_said(
    at: Desk, line: str, status: int, said: Any, match: str
) -> None:
    at.says[line] = status, said
    with not_done(match):
        at.broker.issue(at.lease())


def test_a_token_that_is_given_out_has_the_uses_that_were_asked_for(tmp_path: Path) -> None:
    with desk(tmp_path, replace(GIVEN_OUT, uses=3)) as at:
        at.says[CREATE] = 200, but(CREATED, "auth", num_uses=3)
        secret = at.broker.issue(at.lease())
        assert (dict(secret.fields), secret.handle) == ({"token": TOKEN}, ACCESSOR)
        at.says[CREATE] = 200, but(CREATED, "auth", num_uses=0)
        with not_done():
            at.broker.issue(at.lease())


# -- renewing


def test_a_renewal_is_of_the_token_and_of_the_secret_and_ends_with_the_first(at: Desk) -> None:
    lease = issued(at)
    at.says[SET] = 200, {"lease_id": LEASE, "lease_duration": 40}
    assert at.broker.renew(lease, NOW + 60_500) == NOW + 40_000
    assert [body for _, _, body in at.heard[-2:]] == [
        {"accessor": ACCESSOR, "increment": 60},
        {"lease_id": LEASE, "increment": 60},
    ]


@pytest.mark.parametrize("said", [{}, {"auth": None}, {"auth": {}}, {"auth": {"lease_duration": 61}}])
def test_a_renewal_that_was_not_understood_is_none(at: Desk, said: Any) -> None:
    lease = issued(at)
    at.says[RENEW] = 200, said
    with not_done():
        at.broker.renew(lease, NOW + 60_000)


def test_what_is_lost_or_over_is_not_renewed(at: Desk) -> None:
    lease = issued(at)
    asked = len(at.heard)
    for each, until in ((replace(lease, secret=None), NOW + 60_000), (lease, NOW + 999)):
        with not_done():
            at.broker.renew(each, until)
    assert len(at.heard) == asked


# -- ending


def test_the_secret_ends_at_once_then_the_token_and_both_are_looked_up(at: Desk) -> None:
    lease = issued(at)
    asked = len(at.heard)
    at.broker.revoke(lease)
    assert at.asked[asked:] == [END, FIND, REVOKE, LOOK_UP]
    assert [body for _, _, body in at.heard[asked:]] == [
        {"lease_id": LEASE, "sync": True},
        {"lease_id": LEASE},
        {"accessor": ACCESSOR},
        {"accessor": ACCESSOR},
    ]


@pytest.mark.parametrize("line", [END, FIND, REVOKE, LOOK_UP])
@pytest.mark.parametrize(
    "say",
    [
        (200, {"data": {}}),
        (400, {"errors": ["no such thing"]}),
        (403, DENIED),
        (500, {"errors": []}),
        (404, None),
        (400, {}),
    ],
)
def test_whatever_else_the_server_says_it_is_not_over(at: Desk, line: str, say: tuple[int, Any]) -> None:
    if line in {END, REVOKE} and say[0] == 200:
        return  # done, as it says: what the look-up after it is for
    lease = issued(at)
    at.says[line] = (lambda _: (403, DENIED)) if say[0] == 403 else say
    with not_done():
        at.broker.revoke(lease)


@pytest.mark.parametrize(
    "said",
    [
        ["invalid accessor", "permission denied"],
        ["invalid accessor!"],
        ["bad invalid accessor"],
        "invalid accessor",
        [["invalid accessor"]],
        ["1 error occurred:\n\t* permission denied\n\n"],
        ["invalid accessor" + " " * 2000],
    ],
)
def test_only_a_server_that_says_so_and_nothing_else_says_that_it_is_gone(at: Desk, said: Any) -> None:
    lease = issued(at)
    at.says[LOOK_UP] = 400, {"errors": said}
    with not_done():
        at.broker.revoke(lease)


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("words", ["invalid accessor", "1 error occurred:\n\t* invalid accessor\n\n"])
def test_what_has_gone_is_over_whatever_the_status(at: Desk, status: int, words: str) -> None:
    lease = issued(at)
    for line in (REVOKE, LOOK_UP):
        at.says[line] = status, {"errors": [words]}
    at.broker.revoke(lease)


def test_a_token_that_may_not_be_looked_at_by_us_who_may_look_is_half_gone(at: Desk) -> None:
    lease = issued(at)
    at.says[LOOK_UP] = lambda body: (403, DENIED) if body["accessor"] == ACCESSOR else (400, GONE)
    at.broker.revoke(lease)


# -- finding


def token(name: object = NAME, **changes: Any) -> dict[str, Any]:
    meta = {"forestall_lease": name, "forestall_leases": "database/creds/shop-ro"}
    return {"data": {"path": "auth/token/create/forestall", "meta": meta, **changes}}


def live(at: Desk, **tokens: Any) -> None:
    """These tokens there are, until each is revoked."""

    def look(body: Any) -> tuple[int, Any]:
        return (200, tokens[body["accessor"]]) if body["accessor"] in tokens else (400, GONE)

    def revoke(body: Any) -> tuple[int, Any]:
        tokens.pop(body["accessor"], None)
        return 204, None

    at.says[LIST] = lambda _: (200, {"data": {"keys": sorted(tokens)}})
    at.says[LOOK_UP], at.says[REVOKE] = look, revoke


def test_a_lost_one_is_found_by_its_metadata_and_what_hangs_on_it_is_waited_for(at: Desk) -> None:
    live(at, other=token(f"forestall-0a1b2c3d-{'8' * 32}"), ours=token(), again=token(), none=token(meta=None))
    left = [2, 1]
    at.says[SECRETS] = 200, {"data": {"keys": ["a", "below/"]}}
    at.says[FIND] = lambda _: (
        (200, {"data": {"ttl": 0}}) if left and left.pop() else (400, {"errors": ["invalid lease"]})
    )
    at.broker.revoke(replace(at.lease(), rights={}))
    ended = [body["accessor"] for line, _, body in at.heard if line == REVOKE]
    assert ended == ["again", "ours"]
    assert at.asked.count(SECRETS) == 3
    assert left == []
    assert at.broker.list_orphans(()) == [f"forestall-0a1b2c3d-{'8' * 32}"]


def test_secrets_of_others_are_not_waited_for(at: Desk) -> None:
    at.says[SECRETS] = 200, {"data": {"keys": ["a"]}}
    at.says[FIND] = 200, {"data": {"ttl": 1}}
    at.broker.revoke(at.lease())
    assert at.asked.count(SECRETS) == 1


def test_a_secret_that_does_not_end_in_time_is_not_over(tmp_path: Path) -> None:
    with desk(tmp_path, timeout_s=0.5) as at:
        at.says[SECRETS] = 200, {"data": {"keys": ["a"]}}
        at.says[FIND] = 200, {"data": {"ttl": -1}}
        with not_done():
            at.broker.revoke(at.lease())


@pytest.mark.parametrize("ttl", [None, "0", 0.0, True, ...])
def test_a_secret_whose_end_is_not_told_is_not_over(at: Desk, ttl: Any) -> None:
    at.says[SECRETS] = 200, {"data": {"keys": ["a"]}}
    at.says[FIND] = 200, {"data": {} if ttl is ... else {"ttl": ttl}}
    with not_done():
        at.broker.revoke(at.lease())


@pytest.mark.parametrize("line", [LIST, SECRETS])
@pytest.mark.parametrize(
    "say",
    [
        (200, {}),
        (200, {"data": None}),
        (200, {"data": {}}),
        (200, {"data": {"keys": {}}}),
        (200, {"data": {"keys": [7]}}),
        (404, {}),
        (404, {"errors": ["no handler for route"]}),
        (403, DENIED),
        (204, None),
    ],
)
def test_a_list_that_is_none_finds_nothing_and_ends_nothing(at: Desk, line: str, say: tuple[int, Any]) -> None:
    at.says[line] = say
    with not_done():
        at.broker.revoke(at.lease())


def test_tokens_of_another_role_another_forestall_or_without_words_are_nobodys(at: Desk) -> None:
    live(
        at,
        role=token(path="auth/token/create/other"),
        longer=token(path="auth/token/create/forestall2"),
        root=token(path="auth/token/root"),
        number=token(7),
        theirs=token(f"forestall-ffffffff-{'7' * 32}"),
        pathless=token(path=None),
        wordless=token(meta={"forestall_lease": NAME}),
        ours=token(path="auth/token/create/forestall/suffix"),
    )
    assert at.broker.list_orphans(()) == [NAME]
    assert at.broker.list_orphans((NAME,)) == []


def test_each_token_is_looked_up_once(at: Desk) -> None:
    live(at, ours=token(), other=token(meta=None))
    at.broker.list_orphans(())
    at.broker.list_orphans(())
    assert at.asked.count(LOOK_UP) == 2


def test_a_search_that_was_cut_short_goes_on(at: Desk) -> None:
    live(at, a=token(meta=None), b=token(meta=None), c=token())
    look, failing = at.says[LOOK_UP], [True]
    assert callable(look)

    def once(body: Any) -> tuple[int, Any]:
        assert callable(look)
        return (503, None) if body["accessor"] == "b" and failing and failing.pop() else look(body)

    at.says[LOOK_UP] = once
    with not_done():
        at.broker.list_orphans(())
    assert at.broker.list_orphans(()) == [NAME]
    assert [body["accessor"] for line, _, body in at.heard if line == LOOK_UP] == ["a", "b", "b", "c"]


# -- Forestall's own token

LOGIN = "POST auth/approle/login"
AUTH: Mapping[str, Any] = {
    "auth": {"client_token": "login-1", "token_type": "service", "lease_duration": 100, "num_uses": 0}
}


def approle(folder: Path) -> AppRole:
    (folder / "secret-id").write_text("a-secret-id\n")
    return AppRole("a-role-id", folder / "secret-id")


def test_one_login_serves_until_half_of_its_life_and_is_ended_at_the_close(tmp_path: Path) -> None:
    clock = [NOW]
    with desk(tmp_path, login=approle, now=lambda: clock[0]) as at:
        at.says[LOGIN] = 200, AUTH
        at.broker.list_orphans(())
        clock[0] += 49_999
        at.broker.list_orphans(())
        assert at.asked.count(LOGIN) == 1
        clock[0] += 1
        at.broker.list_orphans(())
        assert at.asked.count(LOGIN) == 2
        assert at.heard[0][2] == {"role_id": "a-role-id", "secret_id": "a-secret-id"}
        assert "x-vault-token" not in at.heard[0][1]
        at.broker.close()
        assert (at.asked[-1], at.heard[-1][1]["x-vault-token"]) == ("POST auth/token/revoke-self", "login-1")


def test_a_login_by_jwt_sends_it(tmp_path: Path) -> None:
    def jwt(folder: Path) -> Jwt:
        (folder / "svid").write_text("a.b.c")
        return Jwt("forestall", folder / "svid", "spire/jwt")

    with desk(tmp_path, login=jwt) as at:
        at.says["POST auth/spire/jwt/login"] = 200, AUTH
        at.broker.list_orphans(())
        assert at.heard[0][2] == {"role": "forestall", "jwt": "a.b.c"}


def test_a_login_that_is_refused_is_made_anew_though_not_at_each_refusal(tmp_path: Path) -> None:
    clock = [NOW]
    with desk(tmp_path, login=approle, now=lambda: clock[0]) as at:
        at.says[LOGIN] = 200, AUTH
        at.says[LIST] = 403, DENIED
        for _ in range(2):
            with not_done("403"):
                at.broker.list_orphans(())
        assert at.asked.count(LOGIN) == 1
        clock[0] += 10_000
        with not_done("403"):
            at.broker.list_orphans(())
        assert at.asked.count(LOGIN) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"token_type": "batch"},
        {"token_type": ...},
        {"lease_duration": 0},
        {"lease_duration": "100"},
        {"num_uses": 5},
        {"client_token": "a\r\nb"},
        {"client_token": ...},
    ],
)
def test_a_login_that_does_not_last_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    with desk(tmp_path, login=approle) as at:
        at.says[LOGIN] = 200, but(AUTH, "auth", **changes)
        with not_done():
            at.broker.list_orphans(())
        assert at.asked == [LOGIN]


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"two\nlines", b"\xff\xfe", b"\x00", b"x" * 20_000])
def test_a_file_that_holds_no_token_is_told(tmp_path: Path, content: bytes) -> None:
    with desk(tmp_path) as at:
        (tmp_path / "token").write_bytes(content)
        with not_done("does not hold one line"):
            at.broker.list_orphans(())
        (tmp_path / "token").unlink()
        with not_done("cannot be read"):
            at.broker.list_orphans(())
        assert at.heard == []


# -- a secret that stands


@contextmanager
def standing(folder: Path, said: Any, version: int = 2, status: int = 200) -> Iterator[OpenBaoSecret]:
    (folder / "token").write_text(OWN)

    def play(peer: Peer) -> None:
        while peer.hear():
            peer.answer(json.dumps(said).encode(), f"{status} Said")

    with Raw(play) as server:
        context = Context("0a1b2c3d", lambda: NOW, bytes, WAIT_S, folder)
        secret = StandingSecret("kv/data/mail", "key", version)
        yield OpenBaoSecret(Site(server.url), TokenFile(folder / "token"), secret, context)


def test_a_standing_secret_is_one_text(tmp_path: Path) -> None:
    with standing(tmp_path, {"data": {"data": {"key": "s3cret\n"}, "metadata": {}}}) as source:
        assert source.read() == "s3cret"
        assert "s3cret" not in repr(source)
    with standing(tmp_path, {"data": {"key": "s3cret"}}, version=1) as source:
        assert source.read() == "s3cret"


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"data": None},
        {"data": {"data": None, "metadata": {"deletion_time": "2026-01-01T00:00:00Z"}}},
        {"data": {"key": "s3cret"}},
        {"data": {"data": {}}},
        {"data": {"data": {"key": 7}}},
        {"data": {"data": {"key": ""}}},
        {"data": {"data": {"key": "a\0b"}}},
        {"data": {"data": {"other": "s3cret"}}},
    ],
)
def test_what_is_no_standing_secret_is_told_and_shown_to_nobody(tmp_path: Path, said: Any) -> None:
    with standing(tmp_path, said) as source, pytest.raises(CannotDo) as caught:
        source.read()
    assert caught.value.reason is Reason.UNAVAILABLE
    assert "s3cret" not in repr(caught.value)
