"""AWS's sessions against a holder that wants more, names that are something else, and an answer that lies.

The sessions and policies are moto's, who signs and who may is moto's check, and whether a session may still do
something is IAM's rule of evaluation as `tests/backends/iam.py` has it: `docs/credentials/aws.md` says what that does
not prove.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from forestall.adapter.credential.aws import Aws
from forestall.adapter.credential.aws_calls import Keys
from forestall.adapter.credential.aws_policy import end_of_one
from forestall.clock import Clock
from forestall.core.ask import CannotDo
from forestall.core.effects import Effect
from forestall.core.model import Action, Lease, Secret
from forestall.core.reason import Reason
from forestall.credentials.aws import open_broker
from tests.backends.aws import ARN, BUCKET, CLASS, OWN, ROLE, AwsBackend, aws, write_credentials
from tests.backends.leases import EVERYTHING, OWNER, READ, action, context, grant, lease, permit, table
from tests.backends.tamper import Forward, Held, Passed, Tamper, honest, twice, unheard
from tests.contract.brokers.test_aws import keys_of
from tests.unit.adapter.oidc.site import Asked

pytestmark = pytest.mark.slow

WRITES = READ | {Effect.WRITE}


@pytest.fixture(scope="module")
def shared() -> Iterator[AwsBackend]:
    with aws() as backend:
        yield backend


@pytest.fixture
def backend(shared: AwsBackend) -> AwsBackend:
    """With no denials. The sessions that there were go on."""
    shared.forget()
    return shared


@pytest.fixture
def tamper(backend: AwsBackend) -> Iterator[Tamper]:
    with Tamper(backend.port) as tamper:
        yield tamper


@pytest.fixture
def broker(tamper: Tamper, backend: AwsBackend, tmp_path: Path) -> Iterator[Aws]:
    opened = opening(tmp_path, backend, tamper.url)
    yield opened
    opened.close()


def opening(
    folder: Path,
    backend: AwsBackend,
    url: str,
    *,
    settle: int = 0,
    more: str = "",
    timeout_s: float = 30.0,
    now: Callable[[], int] | None = None,
) -> Aws:
    write_credentials(folder, backend.own)
    given = context(folder, timeout_s=timeout_s, now=now)
    return open_broker(table(folder, CLASS.format(url=url, settle=settle, more=more)), given)


COUNT = iter(range(1, 10**6))


def planned(broker: Aws, *, effects: Any = WRITES, asked: Action | None = None, **changes: Any) -> Lease:
    rights = broker.plan(permit(effects), asked or action(customer="shop"), grant())
    return replace(lease(rights, number=next(COUNT)), **changes)


def issued(broker: Aws, **how: Any) -> tuple[Lease, Secret]:
    made = planned(broker, **how)
    secret = broker.issue(made)
    return replace(made, secret=secret), secret


def refused(ask: Callable[[], object], *words: str) -> CannotDo:
    with pytest.raises(CannotDo) as caught:
        ask()
    for word in words:
        assert word in caught.value.detail
    return caught.value


def asks(asked: Asked, operation: str) -> bool:
    return f"Action={operation}&".encode() in asked.body + b"&"


def lying(operation: str, said: Passed) -> Callable[[Asked, Forward], Passed]:
    return lambda asked, forward: said if asks(asked, operation) else forward()


def editing(operation: str, old: bytes, new: bytes) -> Callable[[Asked, Forward], Passed]:
    """Another text in the answer to this."""

    def rule(asked: Asked, forward: Forward) -> Passed:
        passed = forward()
        if not asks(asked, operation):
            return passed
        body = re.sub(old, new, passed.body)
        assert body != passed.body
        return replace(passed, body=body)

    return rule


def error(code: str, status: int = 400, message: str = "INJECTED") -> Passed:
    said = f"<Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error>"
    return Passed(status, (("Content-Type", "text/xml"),), f"<ErrorResponse>{said}</ErrorResponse>".encode())


# -- the holder


def test_a_session_does_what_the_call_needs_and_nothing_else(broker: Aws, backend: AwsBackend) -> None:
    _, secret = issued(broker)
    keys = keys_of(secret)
    assert backend.may(keys, "s3:GetObject", f"{BUCKET}/shop/a")
    assert backend.may(keys, "s3:PutObject", f"{BUCKET}/shop/a")
    assert not backend.may(keys, "s3:PutObject", f"{BUCKET}/other/a")
    assert not backend.may(keys, "s3:DeleteObject", f"{BUCKET}/shop/a")
    assert not backend.may(keys, "iam:DeleteRolePolicy", ARN)


def test_a_call_that_reads_gets_a_session_that_reads(broker: Aws, backend: AwsBackend) -> None:
    _, secret = issued(broker, effects=READ)
    assert backend.may(keys_of(secret), "s3:GetObject", f"{BUCKET}/shop/a")
    assert not backend.may(keys_of(secret), "s3:PutObject", f"{BUCKET}/shop/a")
    assert refused(lambda: planned(broker, effects=EVERYTHING), "no rights").reason is Reason.OUT_OF_SCOPE


def test_keys_that_were_changed_sign_nothing(broker: Aws, backend: AwsBackend) -> None:
    _, secret = issued(broker)
    keys = keys_of(secret)
    assert backend.genuine(keys)
    assert not backend.genuine(replace(keys, secret=keys.secret[::-1]))
    assert not backend.genuine(replace(keys, token=keys.token[::-1]))


def test_our_own_user_may_do_what_the_page_says_and_no_more(backend: AwsBackend) -> None:
    from botocore.exceptions import ClientError

    iam = backend.client("iam", backend.own)
    for ask in (
        lambda: iam.create_user(UserName="another"),
        lambda: iam.put_user_policy(UserName="forestall", PolicyName="more", PolicyDocument=json.dumps(OWN)),
        lambda: iam.attach_role_policy(RoleName=ROLE, PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"),
        lambda: iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(OWN)),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            ask()


@pytest.mark.parametrize(
    "name",
    [
        "*",
        "shop/*",
        "../other",
        "..",
        ".hidden",
        "",
        "shop?",
        "${aws:username}",
        "{parameters.x}",
        "arn:aws:s3:::other",
        'shop","arn:aws:s3:::other/*',
        "shop\n",
        "shop%2F*",
        "shop other",
        "s" * 129,
        "\u0455hop",
        ["shop"],
        7,
        None,
    ],
)
def test_a_name_that_is_something_else_is_refused_before_anything_is_asked(
    name: Any, broker: Aws, tamper: Tamper
) -> None:
    assert refused(lambda: planned(broker, asked=action(customer=name))).reason is Reason.INVALID_ARGUMENTS
    assert tamper.passed == []


@pytest.mark.parametrize("tail", ["", "*", "x*", "?", "../x", "x y", 'x"', "X", "a" * 41])
def test_nothing_is_asked_about_a_lease_of_another_name(tail: str, broker: Aws, tamper: Tamper) -> None:
    """A denial of `forestall-...-*` would be one of everybody's sessions."""
    one = planned(broker, name=f"forestall-{OWNER}-{tail}")
    refused(lambda: broker.issue(one), "name")
    refused(lambda: broker.revoke(one), "name")
    assert tamper.passed == []


def test_rights_of_another_class_are_not_asked_for(broker: Aws, tamper: Tamper) -> None:
    """A session without a policy may do all that its role may."""
    whole = planned(broker).rights
    for rights in ({}, {**whole, "allow": []}, {**whole, "role": ARN + "-admin"}):
        refused(lambda rights=rights: broker.issue(lease(rights)), "not those of")  # type: ignore[misc]
    assert tamper.passed == []


def test_what_is_sent_is_what_was_planned(broker: Aws, tamper: Tamper, backend: AwsBackend) -> None:
    made, _ = issued(broker)
    ((_, _, body),) = tamper.passed
    sent = {name: value[0] for name, value in parse_qs(body.decode()).items()}
    assert sent["RoleSessionName"] == made.name
    assert sent["DurationSeconds"] == "900"
    assert json.loads(sent["Policy"])["Statement"] == made.rights["allow"]
    tags = {sent[f"Tags.member.{at}.Key"]: sent[f"Tags.member.{at}.Value"] for at in (1, 2)}
    assert tags == {"forestall:task": "task", "forestall:permit": permit(READ).id}
    assert backend.own.secret not in body.decode()


# -- the end


def test_one_session_ends_and_those_beside_it_go_on(broker: Aws, backend: AwsBackend) -> None:
    (one, first), (_, second) = issued(broker), issued(broker)
    broker.revoke(one)
    assert not backend.may(keys_of(first), "s3:GetObject", f"{BUCKET}/shop/a")
    assert backend.may(keys_of(second), "s3:GetObject", f"{BUCKET}/shop/a")
    assert backend.genuine(keys_of(first)), "AWS ends no session; it lets it do nothing"


def test_a_session_that_begins_after_its_end_is_denied_too(broker: Aws, backend: AwsBackend) -> None:
    """An answer that comes late, or a request that somebody kept."""
    one = planned(broker)
    broker.revoke(one)
    secret = broker.issue(one)
    assert not backend.may(keys_of(secret), "s3:GetObject", f"{BUCKET}/shop/a")


def test_a_denial_is_in_force_once_iam_has_had_its_time(backend: AwsBackend, tmp_path: Path) -> None:
    now = [Clock()()]
    broker = opening(tmp_path, backend, backend.url, settle=10, now=lambda: now[0])
    made, _ = issued(broker)
    refused(lambda: broker.revoke(made), "10 s")
    now[0] += 8_000
    refused(lambda: broker.revoke(made))
    now[0] += 3_000
    broker.revoke(made)
    assert len(backend.policies()) == 2, "one denial, whatever it took"
    broker.close()


def test_denials_go_once_their_sessions_have_ended(backend: AwsBackend, tmp_path: Path) -> None:
    now = [Clock()()]
    first = opening(tmp_path, backend, backend.url, now=lambda: now[0])
    made, _ = issued(first)
    first.revoke(made)
    now[0] = made.expires_at + (900 + 299) * 1000
    first.list_orphans(())
    assert made.name in backend.policies()
    now[0] += 3_000
    another = opening(tmp_path, backend, backend.url, now=lambda: now[0])  # a process that has seen none of it
    assert another.list_orphans(()) == ()
    assert set(backend.policies()) == {"work"}
    first.close()
    another.close()


def full(backend: AwsBackend, at: int) -> list[str]:
    """Denials until the role has no room left."""
    names: list[str] = []
    iam = backend.iam
    while len(names) < 100:
        name = f"forestall-{OWNER}-{len(names):032d}z"
        document = end_of_one(name, at, at + 10_000)
        try:
            iam.put_role_policy(RoleName=ROLE, PolicyName=name, PolicyDocument=document)
        except iam.exceptions.LimitExceededException:
            return names
        names.append(name)
    raise AssertionError("the role takes everything")


def test_a_role_without_room_is_an_error_that_says_what_to_do(broker: Aws, backend: AwsBackend) -> None:
    made, secret = issued(broker)
    full(backend, Clock()() // 1000)
    refused(lambda: broker.revoke(made), "no room", "end_all_when_full")
    assert backend.may(keys_of(secret), "s3:GetObject", f"{BUCKET}/shop/a"), "and it is not said to be over"


def test_a_role_without_room_ends_all_that_began_where_the_class_says_so(backend: AwsBackend, tmp_path: Path) -> None:
    now = Clock()() // 1000
    old = full(backend, now - 1000)
    later = [now * 1000 + 60_000]
    broker = opening(tmp_path, backend, backend.url, more="end_all_when_full = true", now=lambda: later[0])
    made, secret = issued(broker)
    broker.revoke(made)
    left = backend.policies()
    assert set(left) == {"work", old[0], made.name}, "one in place of all, and the one of this lease"
    assert left[old[0]]["Statement"][0]["Condition"]["DateLessThan"]
    assert not backend.may(keys_of(secret), "s3:GetObject", f"{BUCKET}/shop/a")
    broker.revoke(replace(made, name=old[0]))
    broker.close()


def test_a_role_that_is_full_of_others_policies_is_left_alone(backend: AwsBackend, tmp_path: Path) -> None:
    room = json.dumps(
        {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "a:" + "b" * 9900, "Resource": "*"}]}
    )
    backend.iam.put_role_policy(RoleName=ROLE, PolicyName="somebody", PolicyDocument=room)
    broker = opening(tmp_path, backend, backend.url, more="end_all_when_full = true")
    made, _ = issued(broker)
    refused(lambda: broker.revoke(made), "no room")
    assert set(backend.policies()) == {"work", "somebody"}
    broker.close()


def test_a_policy_of_our_name_that_is_not_ours_is_no_end(broker: Aws, backend: AwsBackend) -> None:
    made, secret = issued(broker)
    wrong = end_of_one(f"forestall-{OWNER}-other", 1, 2)
    backend.iam.put_role_policy(RoleName=ROLE, PolicyName=made.name, PolicyDocument=wrong)
    refused(lambda: broker.revoke(made), "did not write")
    assert backend.may(keys_of(secret), "s3:GetObject", f"{BUCKET}/shop/a")


# -- an answer that lies, or never comes


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (rb"assumed-role/agent-reports/forestall-[0-9a-f-]+", b"assumed-role/agent-reports/other", "another name"),
        (rb"assumed-role/agent-reports", b"assumed-role/admin", "another name"),
        (rb"<AssumedRoleId>[^<]*", b"<AssumedRoleId>AROA:other", "another name"),
        (rb"<PackedPolicySize>6</PackedPolicySize>", b"", "without its policy"),
        (rb"<Expiration>[^<]*", b"<Expiration>2099-01-01T00:00:00Z", "lives longer"),
        (rb"<Expiration>[^<]*</Expiration>", b"", "without an end"),
        (rb"<SessionToken>[^<]*</SessionToken>", b"", "without a session"),
        (rb"<AccessKeyId>[^<]*", b"<AccessKeyId>a b", "no credentials"),
        (rb"AssumedRoleUser>", b"Nobody>", "another name"),
    ],
)
def test_a_session_that_is_another_than_was_asked_for_is_thrown_away(
    old: bytes, new: bytes, said: str, tamper: Tamper, broker: Aws
) -> None:
    tamper.rule = editing("AssumeRole", old, new)
    one = planned(broker)
    caught = refused(lambda: broker.issue(one), said)
    assert "ASIA" not in f"{caught!r}{caught.detail}"
    tamper.rule = honest
    broker.revoke(one)


@pytest.mark.parametrize("body", [b"", b"{}", b"<", b"<a/>", b"\xff\xfe", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>"])
def test_an_answer_that_is_none_is_an_error(body: bytes, tamper: Tamper, broker: Aws) -> None:
    tamper.rule = lambda _, forward: replace(forward(), body=body)
    refused(lambda: broker.issue(planned(broker)))
    refused(lambda: broker.revoke(planned(broker)))


def test_a_lost_answer_is_ended_by_its_name(tamper: Tamper, broker: Aws, backend: AwsBackend) -> None:
    tamper.rule = unheard
    one = planned(broker)
    refused(lambda: broker.issue(one))
    assert one.name in {each.name for each in backend.sessions()}
    tamper.rule = honest
    broker.revoke(one)
    assert one.name in backend.policies()


def test_an_answer_that_comes_too_late_is_a_lost_one(tamper: Tamper, backend: AwsBackend, tmp_path: Path) -> None:
    tamper.rule = held = Held()
    broker = opening(tmp_path, backend, tamper.url, timeout_s=2.0)
    one = planned(broker)
    refused(lambda: broker.issue(one))
    held.release()
    assert one.name in {each.name for each in backend.sessions()}
    patient = opening(tmp_path, backend, backend.url)
    patient.revoke(one)
    for each in (broker, patient):
        each.close()


def test_what_is_carried_out_twice_has_one_name_and_one_end(tamper: Tamper, broker: Aws, backend: AwsBackend) -> None:
    tamper.rule = twice
    made, secret = issued(broker)
    assert [each.name for each in backend.sessions()].count(made.name) == 2
    broker.revoke(made)
    assert not backend.may(keys_of(secret), "s3:GetObject", f"{BUCKET}/shop/a")
    assert len(backend.policies()) == 2


def test_an_answer_that_comes_twice_counts_once(tamper: Tamper, broker: Aws, backend: AwsBackend) -> None:
    tamper.doubled = True
    (one, _), (_, second) = issued(broker), issued(broker)
    broker.revoke(one)
    assert backend.may(keys_of(second), "s3:GetObject", f"{BUCKET}/shop/a")


def test_a_denial_that_is_only_said_is_not_believed(tamper: Tamper, broker: Aws, backend: AwsBackend) -> None:
    made, secret = issued(broker)
    tamper.rule = lying("PutRolePolicy", Passed(200, (("Content-Type", "text/xml"),), b"<PutRolePolicyResponse/>"))
    refused(lambda: broker.revoke(made), "does not show it")
    assert backend.may(keys_of(secret), "s3:GetObject", f"{BUCKET}/shop/a")
    tamper.rule = honest
    broker.revoke(made)
    assert not backend.may(keys_of(secret), "s3:GetObject", f"{BUCKET}/shop/a")


def test_a_denial_whose_answer_is_lost_is_found(tamper: Tamper, broker: Aws, backend: AwsBackend) -> None:
    made, _ = issued(broker)
    tamper.rule = lambda asked, forward: unheard(asked, forward) if asks(asked, "PutRolePolicy") else forward()
    refused(lambda: broker.revoke(made))
    assert made.name in backend.policies()
    broker.revoke(made)


@pytest.mark.parametrize("operation", ["GetRolePolicy", "PutRolePolicy"])
@pytest.mark.parametrize(("code", "status"), [("AccessDenied", 403), ("Throttling", 400), ("ServiceFailure", 500)])
def test_a_refusal_is_no_end_and_says_nothing_of_what_aws_wrote(
    operation: str, code: str, status: int, tamper: Tamper, broker: Aws
) -> None:
    made, _ = issued(broker)
    tamper.rule = lying(operation, error(code, status))
    caught = refused(lambda: broker.revoke(made), operation, code)
    assert "INJECTED" not in caught.detail


@pytest.mark.parametrize("code", ["PackedPolicyTooLarge", "ExpiredToken", "RegionDisabledException", "<b>", "x" * 200])
def test_a_refused_session_says_what_to_do(code: str, tamper: Tamper, broker: Aws) -> None:
    tamper.rule = lying("AssumeRole", error(code.replace("<", "&lt;")))
    caught = refused(lambda: broker.issue(planned(broker)), "AWS refuses AssumeRole")
    assert "INJECTED" not in caught.detail
    assert "<" not in caught.detail
    assert len(caught.detail) < 250


def test_our_own_keys_that_are_wrong_or_gone_are_said(broker: Aws, backend: AwsBackend, tmp_path: Path) -> None:
    write_credentials(tmp_path, replace(backend.own, secret="x" * 40))
    refused(lambda: broker.issue(planned(broker)), "SignatureDoesNotMatch")
    write_credentials(tmp_path, Keys("AKIAUNKNOWNUNKNOWNUN", "x" * 40))
    refused(lambda: broker.revoke(planned(broker)), "InvalidClientTokenId")
    (tmp_path / "credentials").chmod(0o644)
    refused(lambda: broker.issue(planned(broker)), "chmod 600")
    (tmp_path / "credentials").unlink()
    refused(lambda: broker.issue(planned(broker)), "cannot be read")


def test_the_environment_and_the_users_files_change_nothing(
    backend: AwsBackend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config").write_text("[default]\nendpoint_url = http://127.0.0.1:9\nregion = nowhere\n")
    for name, value in {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_PROFILE": "missing",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "AKIASOMEBODYSOMEBODY",
        "AWS_SECRET_ACCESS_KEY": "x" * 40,
        "AWS_CA_BUNDLE": "/nonexistent",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }.items():
        monkeypatch.setenv(name, value)
    broker = opening(tmp_path, backend, backend.url)
    made, secret = issued(broker)
    monkeypatch.undo()
    assert backend.may(keys_of(secret), "s3:GetObject", f"{BUCKET}/shop/a")
    broker.revoke(made)
    broker.close()


def test_a_token_of_somebody_elses_begins_sessions_and_ends_them(backend: AwsBackend, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("header.body.signature\n")
    way = f'web_identity_token_file = "token"\nown_role = "{ARN[:-8]}-keeper"'
    text = CLASS.format(url=backend.url, settle=0, more=way)
    text = text.replace('profile = "forestall"\ncredentials_file = "credentials"\n', "")
    keeper, name = json.dumps(OWN), "agent-keeper"
    if name not in {role["RoleName"] for role in backend.iam.list_roles()["Roles"]}:
        backend.iam.create_role(RoleName=name, AssumeRolePolicyDocument=keeper)
        backend.iam.put_role_policy(RoleName=name, PolicyName="least", PolicyDocument=keeper)
    broker = open_broker(table(tmp_path, text), context(tmp_path))
    with backend.unchecked():  # moto checks the signature of what has none
        made, secret = issued(broker)
        broker.revoke(made)
    assert backend.genuine(keys_of(secret))
    assert not backend.may(keys_of(secret), "s3:GetObject", f"{BUCKET}/shop/a")
    backend.forget()
    assert backend.may(keys_of(secret), "s3:GetObject", f"{BUCKET}/shop/a")
    (tmp_path / "token").unlink()
    refused(lambda: broker.issue(planned(broker)), "cannot be read")
    broker.close()
