"""The gateway before a remote server: the SDK's own, over real HTTP, with real clients of every era."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from forestall.home import Home
from tests.mcpkit.home import home_of, stop
from tests.mcpkit.session import Session
from tests.points import entries

ROOT = Path(__file__).parents[2]
KIT = ROOT / "tests" / "mcpkit"
FULL = [sys.executable, str(KIT / "full_server.py")]
SECRET = "pX7wkZq93kLmNtR5"
CLASS = """\
[credentials.api]
backend = "static"
scope = "{scope}"
secrets = {{ token = "file:{key}" }}
place = {{ where = "header", name = "Authorization", template = "Bearer {{token}}" }}
{server}
"""
LENT = """\
@id("lent") @credential("api") permit (principal, action == Action::"forestall/equip", resource)
when { context.args.server == "full" && !context.args.exposed };
@id("calls") permit (principal, action == Action::"full/echo", resource);
"""
PER_CALL = '@id("calls") @credential("api") permit (principal, action == Action::"full/echo", resource);\n'


@contextmanager
def served(kind: str, *words: str, **environment: str) -> Iterator[str]:
    command = [sys.executable, "-m", "tests.mcpkit.http_server", kind, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, env={**os.environ, **environment}) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}/mcp"
        finally:
            server.kill()


def gateway(home: Home, url: str) -> list[str]:
    return [sys.executable, "-m", "forestall.cli", "gateway", "--home", str(home.root), "--url", url, "full"]


def lend(home: Home, *, scope: str = "task", server: str = 'server = "full"') -> None:
    key = home.root / "key"
    key.touch(0o600)
    key.write_text(SECRET)
    home.credentials.write_text(CLASS.format(scope=scope, key=key, server=server))


def seen(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def permissive() -> Iterator[Home]:
    with home_of({"full": FULL}) as home:
        yield home


@pytest.mark.parametrize("mode", ["legacy", "auto", "2026-07-28"])
def test_a_real_client_uses_all_that_a_real_server_has(permissive: Home, mode: str) -> None:
    with served("events") as url:
        script = [sys.executable, str(KIT / "conversation.py"), mode, *gateway(permissive, url)]
        done = subprocess.run(script, capture_output=True, text=True, timeout=120, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.strip() == ("2025-11-25" if mode == "legacy" else "2026-07-28")


@pytest.mark.parametrize("version", ["2025-03-26", "2025-06-18", "2025-11-25"])
def test_answers_that_are_one_piece_of_json_are_read_too(permissive: Home, version: str) -> None:
    with served("json") as url, Session(gateway(permissive, url)) as client:
        assert client.initialize(version)["result"]["protocolVersion"] == version
        client.send({"jsonrpc": "2.0", "id": 1, "method": "tools/list"})
        assert "echo" in [tool["name"] for tool in client.answer_to(1)["result"]["tools"]]
        client.call(2, "echo", text="hello")
        assert "hello" in json.dumps(client.answer_to(2)["result"])
        assert client.end()[0] == 0


def test_what_is_lent_for_a_task_goes_with_every_message_and_ends_with_it(tmp_path: Path) -> None:
    file = tmp_path / "seen"
    with home_of({"full": FULL}, LENT) as home, served("events", SECRET, SEEN=str(file)) as url:
        lend(home)
        with Session(gateway(home, url)) as client:
            assert "result" in client.initialize()
            client.call(1, "echo", text="hello")
            assert client.answer_to(1)["result"]["content"][0]["text"]
            assert client.end()[0] == 0
        stop(home)
        kinds = [entry["kind"] for entry in entries(home)]
        assert kinds.count("leased") == kinds.count("revoked") == 1
        files = [file for file in home.root.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]
        assert files == [home.root / "key"]
    assert {one.get("authorization") for one in seen(file)} == {f"Bearer {SECRET}"}
    assert seen(file)[-1]["verb"] == "DELETE", "the session was ended"


def test_what_is_lent_for_a_call_goes_with_that_call_alone(tmp_path: Path) -> None:
    file = tmp_path / "seen"
    with home_of({"full": FULL}, PER_CALL) as home, served("events", SEEN=str(file)) as url:
        lend(home, scope="action", server="")
        with Session(gateway(home, url)) as client:
            client.initialize()
            client.call(1, "echo", text="hello")
            client.answer_to(1)
            client.send({"jsonrpc": "2.0", "id": 2, "method": "resources/list"})
            client.answer_to(2)
            client.end()
    assert [one.get("authorization") for one in seen(file)].count(f"Bearer {SECRET}") == 1


def test_without_it_the_server_says_no_and_nothing_of_the_client_s_is_let_in(tmp_path: Path) -> None:
    file = tmp_path / "seen"
    with home_of({"full": FULL}, PER_CALL) as home, served("events", SECRET, SEEN=str(file)) as url:
        lend(home, scope="action", server="")
        with Session(gateway(home, url), AUTHORIZATION="Bearer mine") as client:
            answer = client.initialize()
            assert "status 401" in answer["error"]["message"]
            client.end()
    assert not any("authorization" in one for one in seen(file))


def test_a_server_that_is_not_there_is_said_and_the_next_call_is_tried_again(permissive: Home) -> None:
    with Session(gateway(permissive, "http://127.0.0.1:9/mcp")) as client:
        assert "cannot be reached" in client.initialize()["error"]["message"]
        client.call(1, "echo")
        assert client.answer_to(1)["result"]["isError"] is True
        assert client.end()[0] == 0


@pytest.mark.parametrize(
    "url", ["http://example.org/mcp", "ftp://127.0.0.1/", "https://u:p@example.org/", "https://", "x", "https://a b/"]
)
def test_an_address_that_a_credential_may_not_go_to_is_refused(permissive: Home, url: str) -> None:
    with Session(gateway(permissive, url)) as client:
        status, said = client.end()
    assert (status, "--url" in said) == (78, True)
