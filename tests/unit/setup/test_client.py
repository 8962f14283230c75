from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.errors import SetupError, Unavailable
from forestall.setup.client import Configuration, expand, read

GATEWAY = ("/opt/forestall", "gateway", "--home", "/h")


def written(tmp_path: Path, text: str, name: str = ".mcp.json") -> Configuration:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return read(path)


def one(tmp_path: Path, **server: Any) -> Configuration:
    return written(tmp_path, json.dumps({"mcpServers": {"git": server}}))


def test_it_reads_what_a_client_starts(tmp_path: Path) -> None:
    configuration = one(tmp_path, command="uvx", args=["mcp-server-git"], env={"A": "b", "N": 1}, cwd="/x")
    (server,) = configuration.servers
    assert (server.name, server.command) == ("git", ("uvx", "mcp-server-git"))
    assert (server.environment, server.directory) == ({"A": "b", "N": "1"}, "/x")
    assert server.guardable


def test_it_reads_the_other_name_of_the_table(tmp_path: Path) -> None:
    configuration = written(
        tmp_path, '{"inputs": [], "servers": {"a": {"type": "stdio", "command": "x", "args": null}}}'
    )
    assert configuration.servers[0].command == ("x",)


@pytest.mark.parametrize("kind", [{"url": "https://x"}, {"type": "http", "url": "https://x"}, {"type": "sse"}])
def test_a_server_by_url_is_not_guarded(tmp_path: Path, kind: dict[str, str]) -> None:
    (server,) = one(tmp_path, **kind).servers
    assert not server.guardable
    assert server.guarded_as is None
    assert "URL" in server.obstacle


def test_a_name_that_cannot_be_a_servers_is_an_obstacle(tmp_path: Path) -> None:
    (server,) = written(tmp_path, '{"mcpServers": {"my server": {"command": "x"}}}').servers
    assert not server.guardable
    assert "my server" in server.obstacle


SPREAD = """\
{
  "mcpServers": {
    "git": {
      "command": "uvx",
      "args": [
        "a",
        "b"
      ]
    }
  }
}
"""
LAYOUTS = {
    "spread": SPREAD,
    "tight": '{"mcpServers":{"git":{"command":"uvx","args":["a","b"]}}}',
    "no args": '{\n\t"mcpServers": {\n\t\t"git": {\n\t\t\t"env": {},\n\t\t\t"command": "uvx"\n\t\t}\n\t}\n}',
    "no args, one line": '{"mcpServers": {"git": {"command": "uvx"}}}',
    "empty args": '{"mcpServers": {"git": {"args": [ ], "command": "uvx", "x": 1}}}',
    "null args": '{"mcpServers": {"git": {"args": null, "command": "uvx"}}}',
    "args first": '{"mcpServers": {"git": {"args": ["a"], "command": "uvx"}}}',
    "escapes": '{"mcpServers": {"git": {"command": "u\\u0076x", "args": ["\\ud83d\\ude00", "\\/"]}}}\r\n',
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_guarding_changes_how_it_starts_and_nothing_else(tmp_path: Path, name: str) -> None:
    configuration = written(tmp_path, LAYOUTS[name])
    before = json.loads(LAYOUTS[name])["mcpServers"]["git"]
    text = configuration.guard(["git"], GATEWAY)
    after = json.loads(text)["mcpServers"]["git"]
    inside = [before.pop("command"), *(before.pop("args", None) or [])]
    assert [after.pop("command"), *after.pop("args")] == [*GATEWAY, "git", *inside]
    assert after == before
    again = written(tmp_path, text)
    assert again.servers[0].guarded_as == "git"
    assert again.servers[0].command == tuple(inside)
    assert again.servers[0].gateway == GATEWAY
    assert not again.servers[0].guardable


def test_the_layout_of_a_spread_list_is_kept(tmp_path: Path) -> None:
    text = written(tmp_path, LAYOUTS["spread"]).guard(["git"], ("/f", "gateway"))
    assert text == LAYOUTS["spread"].replace('"uvx"', '"/f"').replace(
        '        "a"', '        "gateway",\n        "git",\n        "uvx",\n        "a"'
    )


def test_a_missing_list_is_laid_out_like_its_neighbours(tmp_path: Path) -> None:
    text = written(tmp_path, LAYOUTS["no args"]).guard(["git"], ("/f", "gateway"))
    assert '\t\t\t"command": "/f",\n\t\t\t"args": ["gateway", "git", "uvx"]\n' in text


def test_each_server_is_changed_in_its_own_place(tmp_path: Path) -> None:
    servers = {name: {"command": name, "args": [name]} for name in ("c", "a", "b")}
    configuration = written(tmp_path, json.dumps({"before": 1, "mcpServers": servers, "after": [2]}, indent=1))
    data = json.loads(configuration.guard(["a", "c"], GATEWAY))
    assert list(data) == ["before", "mcpServers", "after"]
    assert list(data["mcpServers"]) == ["c", "a", "b"]
    assert data["mcpServers"]["b"] == servers["b"]
    assert data["mcpServers"]["a"]["args"][-2:] == ["a", "a"]
    assert data["mcpServers"]["c"]["args"][-2:] == ["c", "c"]


@pytest.mark.parametrize(
    ("command", "args", "name", "inner"),
    [
        ("/x/forestall", ["gateway", "git", "--", "uvx", "a"], "git", ("uvx", "a")),
        ("forestall", ["gateway", "--home=/h", "git", "--", "uvx"], "git", ("uvx",)),
        (
            "forestall",
            ["gateway", "--home", "/h", "--mandate", "m", "git", "uvx", "--", "-x"],
            "git",
            ("uvx", "--", "-x"),
        ),
        ("forestall", ["gateway", "git", "--", "--", "-x"], "git", ("--", "-x")),
        ("forestall", ["gateway", "--home"], None, ("forestall", "gateway", "--home")),
        ("forestall", ["gateway"], None, ("forestall", "gateway")),
        ("forestall", ["gateway", "git"], None, ("forestall", "gateway", "git")),
        (
            "/v/python",
            ["-P", "-m", "forestall.cli", "gateway", "git", "--", "uvx", "--", "a"],
            "git",
            ("uvx", "--", "a"),
        ),
        ("forestall", ["gateway", "git", "--"], None, ("forestall", "gateway", "git", "--")),
        ("forestall", ["gateway", "--", "uvx"], None, ("forestall", "gateway", "--", "uvx")),
        ("forestall", ["serve"], None, ("forestall", "serve")),
        ("other", ["gateway", "git", "--", "uvx"], None, ("other", "gateway", "git", "--", "uvx")),
        (
            "python",
            ["-m", "evil", "gateway", "git", "--", "x"],
            None,
            ("python", "-m", "evil", "gateway", "git", "--", "x"),
        ),
    ],
)
def test_what_is_behind_a_gateway_already(
    tmp_path: Path, command: str, args: list[str], name: str | None, inner: tuple[str, ...]
) -> None:
    (server,) = one(tmp_path, command=command, args=args).servers
    assert server.guarded_as == name
    assert server.command == inner


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "1: not a JSON value"),
        ("[]", "one object `mcpServers`"),
        ("{}", "one object `mcpServers`"),
        ('{"mcpServers": []}', "one object `mcpServers`"),
        ('{"mcpServers": {}, "servers": {}}', "one object `mcpServers`"),
        ('{"mcpServers": {\n"a": 1}}', "2: the server 'a' must be an object"),
        ('{"mcpServers": {\n"a": {}}}', "2: the server 'a' has neither"),
        ('{"mcpServers": {"a": {"command": ""}}}', "has neither"),
        ('{"mcpServers": {"a": {"command": 1}}}', "`command` that is not a string"),
        ('{"mcpServers": {"a": {"command": "a\\u0000b"}}}', "`command` that is not a string"),
        ('{"mcpServers": {"a": {"command": "x", "args": "y"}}}', "`args` that is not a list"),
        ('{"mcpServers": {"a": {"command": "x", "args": [1]}}}', "`args` that is not a list"),
        ('{"mcpServers": {"a": {"command": "x", "env": []}}}', "`env` that is not an object"),
        ('{"mcpServers": {"a": {"command": "x", "env": {"A": {}}}}}', "`env` that is not an object"),
        ('{"mcpServers": {"a": {"command": "x"}, // b\n}}', "a comment"),
    ],
)
def test_what_is_no_configuration_is_refused_with_file_and_line(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SetupError) as error:
        written(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / '.mcp.json'}:")
    assert sentence in str(error.value)


def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        read(tmp_path / "none")
    with pytest.raises(SetupError, match="cannot be read"):
        read(tmp_path)
    (tmp_path / "x").write_bytes(b"\xff{}")
    with pytest.raises(SetupError, match="UTF-8"):
        read(tmp_path / "x")


def test_variables_are_replaced_as_a_client_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORESTALL_TEST", "value")
    configuration = one(
        tmp_path,
        command="${FORESTALL_TEST}/x",
        args=["${env:FORESTALL_TEST}", "${FORESTALL_NONE:-rest}", "${FORESTALL_NONE:-}", "$HOME", "${workspaceFolder}"],
        env={"A": "${FORESTALL_TEST}"},
    )
    command = expand(configuration.servers[0], configuration.path)
    assert command.argv == ("value/x", "value", "rest", "", "$HOME", str(tmp_path))
    assert command.environment == {"A": "value"}
    assert command.directory == tmp_path


def test_a_folder_of_the_clients_own_is_below_where_it_works(tmp_path: Path) -> None:
    configuration = written(tmp_path, '{"servers": {"a": {"command": "x", "cwd": "sub"}}}', ".vscode/mcp.json")
    assert expand(configuration.servers[0], configuration.path).directory == tmp_path / "sub"


@pytest.mark.parametrize("word", ["${input:key}", "${FORESTALL_NONE}", "${command:x}"])
def test_what_only_the_client_knows_is_said(tmp_path: Path, word: str) -> None:
    configuration = one(tmp_path, command="x", args=[word])
    with pytest.raises(Unavailable, match="not set here"):
        expand(configuration.servers[0], configuration.path)


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    configuration = one(tmp_path, command="x", env={"TOKEN": "s3cr3t"}, headers={"Authorization": "s3cr3t"})
    assert "s3cr3t" not in repr(configuration)


words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


@given(
    st.dictionaries(
        st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True),
        st.fixed_dictionaries(
            {
                "command": st.text(
                    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8
                )
            },
            optional={"args": st.lists(words)},
        ),
        min_size=1,
        max_size=4,
    ).filter(lambda servers: not {"mcp", "forestall"} & set(servers)),
    st.sampled_from([None, 0, 2, "\t"]),
)
def test_any_configuration_is_guarded_and_read_back(
    tmp_path_factory: pytest.TempPathFactory, servers: dict[str, Any], indent: Any
) -> None:
    directory = tmp_path_factory.mktemp("client")
    before = written(directory, json.dumps({"mcpServers": servers}, indent=indent))
    names = [server.name for server in before.servers if server.guardable]
    after = written(directory, before.guard(names, GATEWAY))
    for old, new in zip(before.servers, after.servers, strict=True):
        assert new.command == old.command
        assert new.guarded_as == old.name or old.guarded_as
