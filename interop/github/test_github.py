"""Jobs that are agents: with the rule and the step of docs/identity.md, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from forestall.agent import Agent, TaskRefused, TokenFile
from interop.authority import Authority
from interop.point import Point
from interop.program import ROOT, Program
from interop.session import WAIT_S, Session, gateway

PAGE = (ROOT / "docs" / "identity.md").read_text()
ORDER = {"order": "4711"}

JOB = {
    "repository": "octocat/my-repo",
    "repository_id": "456789",
    "repository_owner": "octocat",
    "repository_owner_id": "123456",
    "repository_visibility": "private",
    "event_name": "push",
    "ref": "refs/heads/main",
    "ref_type": "branch",
    "actor": "octocat",
    "actor_id": "123456",
    "workflow_ref": "octocat/my-repo/.github/workflows/release.yml@refs/heads/main",
    "job_workflow_ref": "octocat/my-repo/.github/workflows/release.yml@refs/heads/main",
    "runner_environment": "github-hosted",
}
NAMED = "repo:octocat/my-repo:ref:refs/heads/main"
NUMBERED = "repo:octocat@123456/my-repo@456789:ref:refs/heads/main"


def block(kind: str, holding: str) -> str:
    """The one block of the page that holds this."""
    (found,) = (each for each in re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) if holding in each)
    return str(found)


STEP = textwrap.dedent(block("yaml", "id-token: write").partition("run: |\n")[2])


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="hub-") as name:
        yield Path(name).resolve()


@pytest.fixture
def authority(folder: Path) -> Authority:
    return Authority(folder)


@pytest.fixture
def github(authority: Authority) -> Iterator[Program]:
    program = Program([sys.executable, "-m", "interop.github.issuer", *map(str, authority.server("github"))], {})
    yield program
    program.stop()


@pytest.fixture
def point(github: Program, authority: Authority, folder: Path) -> Iterator[Point]:
    kind = 'kind = "github"\n'
    here = f'{kind}issuer = "{github.ask("start")["issuer"]}"\nca_file = "{authority.ca}"\n'
    with Point(folder / "home", authority, block("toml", kind).replace(kind, here)) as running:
        yield running


def token(github: Program, authority: Authority, folder: Path, claims: Mapping[str, str]) -> Path:
    """What the page's step leaves behind, run by a shell in a job of these claims."""
    job = {**github.ask("job", **claims), "RUNNER_TEMP": str(folder), "CURL_CA_BUNDLE": str(authority.ca)}
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", STEP],
        env={**os.environ, **job},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")  # the token is not in the log
    file = folder / "forestall-token"
    assert file.stat().st_mode & 0o777 == 0o600
    return file


def agent(point: Point, file: Path) -> Agent:
    return Agent(point.url, TokenFile(file), ca_file=point.ca)


@pytest.mark.parametrize("subject", [NAMED, NUMBERED])
def test_the_job_that_the_page_lists_acts_in_its_task(
    github: Program, authority: Authority, folder: Path, point: Point, subject: str
) -> None:
    held = agent(point, token(github, authority, folder, {**JOB, "sub": subject})).open("work", parameters=ORDER)
    held.write(folder / "grant.json")
    session = Session(gateway(point.home.root, folder / "grant.json"))
    assert session.call("read_order", ORDER) == {"text": "order 4711: nothing"}
    (entry,) = point.entries("opened")
    assert (entry["subject"]["id"], entry["subject"]["assurance"]) == ("spiffe://example.org/ci/release", "oidc")
    assert "#run/" in entry["subject"]["instance"]
    assert point.order("kill", "--agent", "spiffe://example.org/ci/release")["tasks_ended"] == 1
    assert session.call("read_order", ORDER)["reason"] == "revoked"
    session.close()


@pytest.mark.parametrize(
    "claims",
    [
        {"repository_id": "456790"},  # the name was given up, and taken by somebody else
        {"event_name": "pull_request_target"},
        {"workflow_ref": "octocat/my-repo/.github/workflows/test.yml@refs/heads/main"},
        {"runner_environment": "self-hosted"},
        {"sub": "repo:octocat/other:ref:refs/heads/main"},
        {"sub": "repo:octocat@123456/my-repo@456790:ref:refs/heads/main"},
    ],
    ids=lambda claims: next(iter(claims.values())),
)
def test_another_job_is_nobody(
    github: Program, authority: Authority, folder: Path, point: Point, claims: dict[str, str]
) -> None:
    file = token(github, authority, folder, {**JOB, "sub": NAMED, **claims})
    with pytest.raises(TaskRefused) as caught:
        agent(point, file).open("work", parameters=ORDER)
    assert caught.value.error == "invalid_client"
    assert "wrong_subject" in point.denial(caught.value.decision)["detail"]
