"""moto with its checks switched on: an account with a role, Forestall's own user, and somebody else's session."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import ClientError

from forestall.adapter.credential.aws_calls import Keys
from tests.backends.iam import allows
from tests.backends.process import Backend

ADMINISTRATOR = "administrator-of-the-test"
ACCOUNT, ROLE = "123456789012", "agent-reports"
ARN = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
BUCKET = "arn:aws:s3:::acme-reports"

CLASS = """\
role = "arn:aws:iam::123456789012:role/agent-reports"
region = "eu-central-1"
endpoint = "{url}"
profile = "forestall"
credentials_file = "credentials"
settle_s = {settle}
{more}
[[credentials.under-test.allow]]
effect = "read"
actions = ["s3:GetObject"]
resources = ["arn:aws:s3:::acme-reports/{{arguments.customer}}/*"]
[[credentials.under-test.allow]]
effect = "write"
actions = ["s3:PutObject"]
resources = ["arn:aws:s3:::acme-reports/{{arguments.customer}}/*"]
"""

OWN = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": ["sts:AssumeRole", "sts:TagSession"], "Resource": ARN},
        {
            "Effect": "Allow",
            "Action": ["iam:GetRolePolicy", "iam:PutRolePolicy", "iam:DeleteRolePolicy", "iam:ListRolePolicies"],
            "Resource": ARN,
        },
    ],
}
"""As in docs/credentials/aws.md."""

WORK = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:user/forestall"},
            "Action": ["sts:AssumeRole", "sts:TagSession"],
        }
    ],
}


SESSION = botocore.session.Session()


@dataclass(frozen=True)
class Session:
    name: str
    policy: Any
    key_id: str


class AwsBackend(Backend):
    admin = Keys("AKIAUNSIGNEDUNSIGNED", "unsigned" * 5)
    own = admin

    def __init__(self, module: str, settings: Any) -> None:
        super().__init__(module, settings)
        self._clients: dict[Any, Any] = {}

    def client(self, service: str, keys: Keys) -> Any:
        known = service, keys.id, keys.secret, keys.token
        if known not in self._clients:
            self._clients[known] = self._client(service, keys)
        return self._clients[known]

    def _client(self, service: str, keys: Keys) -> Any:
        return SESSION.create_client(
            service,
            region_name="eu-central-1",
            endpoint_url=self.url,
            aws_access_key_id=keys.id,
            aws_secret_access_key=keys.secret,
            aws_session_token=keys.token or None,
            config=Config(retries={"total_max_attempts": 1}),
        )

    @property
    def iam(self) -> Any:
        return self.client("iam", self.admin)

    def prepare(self) -> None:
        """Before anything is checked; from then on everything is."""
        self.admin, everything = self._user("administrator"), {**WORK}
        everything["Statement"] = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
        first = self.client("iam", AwsBackend.admin)
        first.put_user_policy(UserName="administrator", PolicyName="all", PolicyDocument=json.dumps(everything))
        self.own = self._user("forestall")
        first.put_user_policy(UserName="forestall", PolicyName="least", PolicyDocument=json.dumps(OWN))
        first.create_role(RoleName=ROLE, AssumeRolePolicyDocument=json.dumps(TRUST), MaxSessionDuration=43_200)
        first.put_role_policy(RoleName=ROLE, PolicyName="work", PolicyDocument=json.dumps(WORK))
        self._check_after(0)

    @contextmanager
    def unchecked(self) -> Iterator[None]:
        """moto checks neither signatures nor rights."""
        self._check_after(1000)
        yield
        self._check_after(0)

    def _check_after(self, calls: int) -> None:
        assert self.ask("POST", "/moto-api/reset-auth", calls).status == 200

    def _user(self, name: str) -> Keys:
        first = self.client("iam", AwsBackend.admin)
        first.create_user(UserName=name)
        made = first.create_access_key(UserName=name)["AccessKey"]
        return Keys(made["AccessKeyId"], made["SecretAccessKey"])

    def sessions(self) -> list[Session]:
        """Every one that was ever given, as moto keeps it."""
        said = self.ask("GET", "/-/sessions", bearer=ADMINISTRATOR).body
        return [Session(name, json.loads(policy or "null"), key) for name, policy, key in said]

    def policies(self) -> dict[str, Any]:
        """The role's, as the administrator reads them."""
        iam = self.iam
        names = iam.list_role_policies(RoleName=ROLE)["PolicyNames"]
        return {name: iam.get_role_policy(RoleName=ROLE, PolicyName=name)["PolicyDocument"] for name in names}

    def forget(self) -> None:
        """Take away every policy of the role but its own."""
        for name in self.policies().keys() - {"work"}:
            self.iam.delete_role_policy(RoleName=ROLE, PolicyName=name)

    def genuine(self, keys: Keys) -> str:
        """Whose they are, where moto knows them and they sign; else nothing."""
        try:
            return str(self.client("sts", keys).get_caller_identity()["Arn"])
        except ClientError:
            return ""

    def may(self, keys: Keys, action: str, resource: str) -> bool:
        """By the policies that moto holds, and IAM's rule, which is not moto's."""
        (session,) = [each for each in self.sessions() if each.key_id == keys.id]
        if not self.genuine(keys).endswith(f":assumed-role/{ROLE}/{session.name}"):
            return False
        about = {"aws:userid": f"AROAEXAMPLE:{session.name}", "aws:TokenIssueTime": datetime.now(UTC).isoformat()}
        return allows(list(self.policies().values()), session.policy, action, resource, about)


def write_credentials(folder: Path, keys: Keys) -> Path:
    file = folder / "credentials"
    file.touch(0o600)
    file.write_text(f"[forestall]\naws_access_key_id = {keys.id}\naws_secret_access_key = {keys.secret}\n")
    return file


@contextmanager
def aws() -> Iterator[AwsBackend]:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE"):
        os.environ.pop(name, None)
    with AwsBackend("moto_server", {"administrator": ADMINISTRATOR}) as backend:
        backend.prepare()
        yield backend
