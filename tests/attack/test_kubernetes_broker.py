"""A cluster's tokens against a holder that wants more, names that are something else, and a cluster that lies.

What holds a token back is the server's doing, and the server is ours: `docs/credentials/kubernetes.md` says what that
does not prove.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from forestall.adapter.credential.kubernetes import PAUSES_S, Kubernetes
from forestall.clock import Clock
from forestall.core.ask import CannotDo
from forestall.core.model import Lease, Secret
from forestall.core.reason import Reason
from forestall.credentials.kubernetes import open_broker
from tests.backends.kubernetes import CLASS, NAMESPACE, KubernetesBackend, kubernetes, write_token
from tests.backends.leases import EVERYTHING, OWNER, READ, action, context, grant, lease, permit, table
from tests.backends.tamper import Forward, Held, Passed, Tamper, honest, twice, unheard
from tests.unit.adapter.oidc.site import Asked


@pytest.fixture(scope="module")
def shared() -> Iterator[KubernetesBackend]:
    with kubernetes() as backend:
        yield backend


@pytest.fixture
def backend(shared: KubernetesBackend) -> KubernetesBackend:
    """As if it had been started just now."""
    shared.reset()
    return shared


@pytest.fixture
def tamper(backend: KubernetesBackend) -> Iterator[Tamper]:
    with Tamper(backend.port) as tamper:
        yield tamper


@pytest.fixture
def broker(tamper: Tamper, backend: KubernetesBackend, tmp_path: Path) -> Iterator[Kubernetes]:
    opened = opening(tmp_path, backend, tamper.url)
    yield opened
    opened.close()


def opening(
    folder: Path, backend: KubernetesBackend, url: str, *, more: str = "", timeout_s: float = 30.0, account: str = ""
) -> Kubernetes:
    write_token(folder, backend, account or "agents/forestall")
    opened = open_broker(table(folder, CLASS.format(url=url, more=more)), context(folder, timeout_s=timeout_s))
    opened._wait = lambda _: None
    return opened


def planned(broker: Kubernetes, *, effects: Any = READ, number: int = 1, **changes: Any) -> Lease:
    return replace(lease(broker.plan(permit(effects), action(), grant()), number=number), **changes)


def issued(broker: Kubernetes, **how: Any) -> tuple[Lease, Secret]:
    made = planned(broker, **how)
    secret = broker.issue(made)
    return replace(made, secret=secret), secret


def refused(ask: Callable[[], object], *words: str) -> CannotDo:
    with pytest.raises(CannotDo) as caught:
        ask()
    for word in words:
        assert word in caught.value.detail
    return caught.value


def of_token(asked: Asked) -> bool:
    return asked.path.endswith("/token")


def claims_of(token: str) -> Any:
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def saying(token: str, change: Callable[[Any], None]) -> str:
    """A token that says something else, of whoever cannot sign."""
    head, _, tail = token.split(".")
    claims = claims_of(token)
    change(claims)
    return f"{head}.{base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b'=').decode()}.{tail}"


# -- the holder


def test_a_token_does_what_its_account_may_and_nothing_of_ours(broker: Kubernetes, backend: KubernetesBackend) -> None:
    made, secret = issued(broker)
    token = secret.fields["token"]
    assert backend.reads(token) == 200
    assert backend.create("new", "shop", bearer=token).status == 403
    own = f"/api/v1/namespaces/{NAMESPACE}"
    assert backend.ask("DELETE", f"{own}/secrets/{made.name}", bearer=token).status == 403
    assert backend.reads(token, NAMESPACE) == 403
    assert backend.ask("POST", f"{own}/serviceaccounts/editor/token", {"spec": {}}, bearer=token).status == 403


def test_what_only_reads_gets_the_account_that_reads(broker: Kubernetes, backend: KubernetesBackend) -> None:
    assert planned(broker).rights["service_account"] == "viewer"
    writing = READ | {e for e in EVERYTHING if e == "write"}
    _, secret = issued(broker, effects=writing)
    assert claims_of(secret.fields["token"])["sub"] == "system:serviceaccount:agents:editor"
    error = refused(lambda: planned(broker, effects=EVERYTHING), "no rights for the effect `privilege`")
    assert error.reason is Reason.OUT_OF_SCOPE


def test_a_token_is_of_no_use_when_it_was_changed_or_its_secret_is_made_anew(
    broker: Kubernetes, backend: KubernetesBackend
) -> None:
    made, secret = issued(broker)
    token = secret.fields["token"]
    for change in (
        lambda claims: claims["kubernetes.io"].pop("secret"),
        lambda claims: claims.update(exp=2**40),
        lambda claims: claims.update(sub="system:serviceaccount:agents:editor"),
    ):
        assert backend.reads(saying(token, change)) == 401
    broker.revoke(made)
    assert backend.create(made.name).status == 201
    assert backend.reads(token) == 401, "another uid"


def test_our_own_account_may_do_what_its_page_says_and_no_more(broker: Kubernetes, backend: KubernetesBackend) -> None:
    own = backend.token_of("agents/forestall")
    backend.create("a-secret-of-somebody")
    assert backend.ask("GET", f"/api/v1/namespaces/{NAMESPACE}/secrets/x", bearer=own).status == 403
    assert backend.reads(own, "shop") == 403
    where = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/other/token"
    assert backend.ask("POST", where, {"spec": {}}, bearer=own).status == 403


def test_rights_of_another_class_are_not_asked_for(
    broker: Kubernetes, tamper: Tamper, backend: KubernetesBackend
) -> None:
    whole = planned(broker).rights
    for rights in (
        {},
        {**whole, "namespace": "shop"},
        {**whole, "service_account": "other"},
        {**whole, "service_account": "../../secrets"},
        {**whole, "service_account": ["viewer"]},
        {**whole, "audiences": ["vault"]},
    ):
        refused(lambda rights=rights: broker.issue(lease(rights)), "not those of")  # type: ignore[misc]
    assert tamper.passed == []


@pytest.mark.parametrize(
    "tail",
    ["", "../x", "x/../../y", "x?dryRun=All", "x#", "x%2e", 'x","y', "{}", "x\n", "X", "x y", "x;", ".", "a" * 41],
)
def test_nothing_is_asked_about_a_lease_of_another_name(tail: str, broker: Kubernetes, tamper: Tamper) -> None:
    one = planned(broker, name=f"forestall-{OWNER}-{tail}")
    refused(lambda: broker.issue(one), "name")
    refused(lambda: broker.revoke(one), "name")
    assert tamper.passed == []


# -- how long


@pytest.mark.parametrize(("lifetime_s", "seconds"), [(1, 600), (599, 600), (601, 601), (3607, 3606), (7200, 7200)])
def test_a_token_lives_as_long_as_its_lease_and_ten_minutes_at_least(
    lifetime_s: int, seconds: int, backend: KubernetesBackend, tmp_path: Path
) -> None:
    now = Clock()()
    write_token(tmp_path, backend)
    given = context(tmp_path, now=lambda: now)
    broker = open_broker(table(tmp_path, CLASS.format(url=backend.url, more="")), given)
    _, secret = issued(broker, expires_at=now + lifetime_s * 1000)
    claims = claims_of(secret.fields["token"])
    assert claims["exp"] - claims["iat"] == seconds
    assert secret.expires_at == claims["exp"] * 1000
    broker.close()


def test_a_lease_that_ran_out_makes_nothing(broker: Kubernetes, backend: KubernetesBackend) -> None:
    refused(lambda: broker.issue(planned(broker, expires_at=1)), "ran out")
    assert backend.secrets() == set()


# -- the end


def test_a_token_that_the_cluster_remembers_is_not_said_to_be_over(
    broker: Kubernetes, backend: KubernetesBackend
) -> None:
    backend.remember(100)
    made, secret = issued(broker)
    assert backend.reads(secret.fields["token"]) == 200
    refused(lambda: broker.revoke(made), "still takes the token")
    assert backend.secrets() == set()
    while backend.reads(secret.fields["token"]) == 200:
        pass
    broker.revoke(made)


def test_a_revocation_waits_until_the_cluster_has_forgotten(broker: Kubernetes, backend: KubernetesBackend) -> None:
    paused: list[float] = []
    broker._wait = paused.append
    backend.remember(4)
    made, secret = issued(broker)
    backend.reads(secret.fields["token"])
    broker.revoke(made)
    assert paused == list(PAUSES_S[:4])
    assert backend.reads(secret.fields["token"]) == 401


def test_the_pauses_are_longer_than_an_api_server_remembers() -> None:
    assert sum(PAUSES_S) > 10


def test_a_secret_that_a_finalizer_keeps_is_not_over(broker: Kubernetes, backend: KubernetesBackend) -> None:
    made, _ = issued(broker)
    assert backend.administer("POST", "/-/finalizer", {"namespace": NAMESPACE, "name": made.name}).status == 200
    refused(lambda: broker.revoke(made), "finalizer")


def test_a_token_for_another_audience_ends_with_its_secret(backend: KubernetesBackend, tmp_path: Path) -> None:
    broker = opening(tmp_path, backend, backend.url, more='audiences = ["vault"]')
    made, secret = issued(broker)
    token = secret.fields["token"]
    assert backend.reads(token) == 401
    assert backend.authenticated(token, "vault")
    assert not backend.authenticated(token)
    broker.revoke(made)
    assert not backend.authenticated(token, "vault")
    broker.close()


def test_orphans_are_found_on_every_page(broker: Kubernetes, backend: KubernetesBackend) -> None:
    labels = {"forestall.dev/owner": OWNER}
    names = [f"forestall-{OWNER}-{number:032x}" for number in range(230)]
    for name in names:
        assert backend.create(name, labels=labels).status == 201
    backend.create("somebody", labels=labels)
    backend.create(f"forestall-{OWNER}-nolabel")
    assert broker.list_orphans({names[7]}) == [name for name in names if name != names[7]]


# -- a cluster that cannot be trusted, or something before it


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda claims: claims["kubernetes.io"].pop("secret"), "not bound"),
        (lambda claims: claims["kubernetes.io"]["secret"].update(uid="another"), "not bound"),
        (lambda claims: claims["kubernetes.io"]["secret"].update(name="another"), "not bound"),
        (lambda claims: claims.pop("kubernetes.io"), "not bound"),
        (lambda claims: claims.update(sub="system:serviceaccount:agents:editor"), "another account"),
        (lambda claims: claims.update(exp=claims["exp"] + 86_400), "lives longer"),
        (lambda claims: claims.update(exp="tomorrow"), "without an end"),
        (lambda claims: claims.pop("exp"), "without an end"),
    ],
)
def test_a_token_that_is_another_than_was_asked_for_is_thrown_away(
    change: Callable[[Any], None], said: str, tamper: Tamper, broker: Kubernetes, backend: KubernetesBackend
) -> None:
    def rule(asked: Asked, forward: Forward) -> Passed:
        passed = forward()
        if not of_token(asked):
            return passed
        document = passed.json
        document["status"]["token"] = saying(document["status"]["token"], change)
        return passed.saying(document)

    tamper.rule = rule
    one = planned(broker)
    error = refused(lambda: broker.issue(one), said, "thrown away")
    assert "eyJ" not in f"{error!r}{error.detail}"
    broker.revoke(one)
    assert backend.secrets() == set()


@pytest.mark.parametrize("until", [None, "", "never", "2099-01-01T00:00:00Z", "2099-01-01T00:00:00", 4_000_000_000])
def test_an_end_that_is_none_or_too_late_is_refused(until: Any, tamper: Tamper, broker: Kubernetes) -> None:
    def rule(asked: Asked, forward: Forward) -> Passed:
        passed = forward()
        if not of_token(asked):
            return passed
        document = passed.json
        document["status"]["expirationTimestamp"] = until
        return passed.saying(document)

    tamper.rule = rule
    refused(lambda: broker.issue(planned(broker)), "thrown away")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"{}",
        b"\xff",
        b'{"status": {"token": 7}}',
        b'{"status": {"token": "a b"}}',
        b'{"status": {"token": "a.b.c"}}',
        b'{"status": {"token": ""}}',
        b"[" * 9000,
    ],
)
def test_an_answer_that_is_no_token_is_an_error_and_the_secret_goes(
    body: bytes, tamper: Tamper, broker: Kubernetes, backend: KubernetesBackend
) -> None:
    tamper.rule = lambda asked, forward: replace(forward(), body=body) if of_token(asked) else forward()
    one = planned(broker)
    refused(lambda: broker.issue(one))
    broker.revoke(one)
    assert backend.secrets() == set()


def test_a_lost_answer_leaves_what_is_found_by_name(
    tamper: Tamper, broker: Kubernetes, backend: KubernetesBackend
) -> None:
    kept: list[str] = []

    def rule(asked: Asked, forward: Forward) -> Passed | None:
        passed = forward()
        if not of_token(asked):
            return passed
        kept.append(passed.json["status"]["token"])
        return None

    tamper.rule = rule
    one = planned(broker)
    refused(lambda: broker.issue(one))
    assert backend.reads(kept[0]) == 200, "somebody has it"
    assert broker.list_orphans(()) == [one.name]
    broker.revoke(one)
    assert backend.reads(kept[0]) == 401
    assert backend.secrets() == set()


def test_an_answer_that_comes_too_late_is_a_lost_one(
    tamper: Tamper, backend: KubernetesBackend, tmp_path: Path
) -> None:
    tamper.rule = held = Held()
    broker = opening(tmp_path, backend, tamper.url, timeout_s=1.0)
    one = planned(broker)
    refused(lambda: broker.issue(one))
    held.release()
    patient = opening(tmp_path, backend, backend.url)
    assert backend.secrets() == {one.name}
    patient.revoke(one)
    assert backend.secrets() == set()
    for each in (broker, patient):
        each.close()


def test_a_request_that_is_carried_out_twice_makes_nothing_that_stays(
    tamper: Tamper, broker: Kubernetes, backend: KubernetesBackend
) -> None:
    tamper.rule = twice
    one = planned(broker)
    refused(lambda: broker.issue(one), "already")
    broker.revoke(one)
    assert backend.secrets() == set()
    tamper.rule = lambda asked, forward: twice(asked, forward) if of_token(asked) else forward()
    made, secret = issued(broker, number=2)
    assert backend.reads(secret.fields["token"]) == 200
    broker.revoke(made)
    assert backend.reads(secret.fields["token"]) == 401, "both of them are bound to one Secret"


def test_an_answer_that_comes_twice_counts_once(tamper: Tamper, broker: Kubernetes, backend: KubernetesBackend) -> None:
    tamper.doubled = True
    made, _ = issued(broker)
    other, secret = issued(broker, number=2)
    broker.revoke(made)
    assert backend.secrets() == {other.name}
    assert backend.reads(secret.fields["token"]) == 200


@pytest.mark.parametrize(
    "said",
    [
        Passed(200, (), b'{"kind": "Status", "status": "Success"}'),
        Passed(404, (), b"<html>not found"),
        Passed(404, (), b'{"reason": "SomethingElse"}'),
        Passed(204, (), b""),
        Passed(301, (("Location", "http://127.0.0.1:9/"),), b"{}"),
        Passed(500, (), b"{}"),
    ],
)
def test_a_deletion_that_is_only_said_is_not_believed(
    said: Passed, tamper: Tamper, broker: Kubernetes, backend: KubernetesBackend
) -> None:
    made, _ = issued(broker)
    tamper.rule = lambda *_: said
    refused(lambda: broker.revoke(made))
    refused(lambda: broker.revoke(replace(made, secret=None)))
    tamper.rule = honest
    broker.revoke(made)
    assert backend.secrets() == set()


def test_that_there_is_none_is_not_believed_while_the_token_is_taken(
    tamper: Tamper, broker: Kubernetes, backend: KubernetesBackend
) -> None:
    made, _ = issued(broker)
    gone = Passed(404, (), b'{"reason": "NotFound"}')
    tamper.rule = lambda asked, forward: gone if asked.command == "DELETE" else forward()
    refused(lambda: broker.revoke(made), "still takes")


def test_a_revocation_whose_answer_is_lost_is_asked_again(
    tamper: Tamper, broker: Kubernetes, backend: KubernetesBackend
) -> None:
    made, _ = issued(broker)
    tamper.rule = unheard
    refused(lambda: broker.revoke(made))
    assert backend.secrets() == set()
    tamper.rule = honest
    broker.revoke(made)


@pytest.mark.parametrize("status", [201, 204, 301, 401, 403, 404, 429, 500])
def test_a_list_that_is_none_is_no_empty_list(status: int, tamper: Tamper, broker: Kubernetes) -> None:
    tamper.rule = lambda *_: Passed(status, (), b'{"items": []}')
    refused(lambda: broker.list_orphans(()))


@pytest.mark.parametrize("body", [b"{}", b"[]", b'{"items": {}}', b'{"items": [], "metadata": {"continue": 7}}'])
def test_a_list_that_is_malformed_is_no_empty_list(body: bytes, tamper: Tamper, broker: Kubernetes) -> None:
    tamper.rule = lambda *_: Passed(200, (), body)
    refused(lambda: broker.list_orphans(()))


def test_a_list_without_end_is_given_up(tamper: Tamper, broker: Kubernetes) -> None:
    tamper.rule = lambda *_: Passed(200, (), b'{"items": [], "metadata": {"continue": "x"}}')
    refused(lambda: broker.list_orphans(()), "more than")


@pytest.mark.parametrize(
    ("account", "said"), [("agents/viewer", "look at its role"), ("agents/other", "look at its role")]
)
def test_an_account_of_ours_that_may_not_is_said(
    account: str, said: str, backend: KubernetesBackend, tmp_path: Path
) -> None:
    broker = opening(tmp_path, backend, backend.url, account=account)
    refused(lambda: broker.issue(planned(broker)), said)
    refused(lambda: broker.revoke(planned(broker)), said)
    refused(lambda: broker.list_orphans(()), said)
    broker.close()


def test_a_token_of_ours_that_is_gone_is_said(broker: Kubernetes, tmp_path: Path) -> None:
    (tmp_path / "own-token").write_text("a b")
    refused(lambda: broker.issue(planned(broker)), "own-token")
    (tmp_path / "own-token").unlink()
    refused(lambda: broker.revoke(planned(broker)), "own-token")


def test_a_limit_on_the_rate_is_said(tamper: Tamper, broker: Kubernetes) -> None:
    tamper.rule = lambda *_: Passed(429, (("Retry-After", "7"),), b"INJECTED")
    assert "INJECTED" not in refused(lambda: broker.issue(planned(broker)), "in 7 s").detail
