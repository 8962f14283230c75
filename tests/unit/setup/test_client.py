from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.errors import SetupError, Unavailable
from forestall.setup.client import Configuration, expand, expand_address, read

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


URL = "https://tools.example/mcp"
REMOTE = ("/opt/forestall", "gateway", "--home", "/h", "--url")


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"type": "sse", "url": URL}, "HTTP with SSE"),
        ({"type": "sse"}, "HTTP with SSE"),
        ({"type": "http"}, "it has none"),
        ({"type": "http", "url": ""}, "it has none"),
        ({"type": "ws", "url": URL}, "its `type` is 'ws'"),
        ({"type": "stdio", "url": URL}, "its `type` is 'stdio'"),
        ({"url": URL, "command": "x"}, "both `command` and `url`"),
        ({"url": "http://tools.example/mcp"}, "for this machine alone"),
        ({"url": "https://me:pass@tools.example/mcp"}, "no user, no password"),
        ({"url": "ftp://tools.example/"}, "whole address"),
        ({"url": "https://a b/"}, "no user, no password"),
    ],
    ids=str,
)
def test_an_address_that_no_gateway_can_speak_to_is_an_obstacle(
    tmp_path: Path, entry: dict[str, str], says: str
) -> None:
    (server,) = one(tmp_path, **entry).servers
    assert (server.guardable, server.listable, server.guarded_as) == (False, False, None)
    assert says in server.obstacle


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"headers": {"Authorization": "Bearer s3cr3t", "X-Tenant": "a"}}, "(Authorization, X-Tenant) would be lost"),
        ({"headers": {"X-Tenant": "${TENANT}"}}, "(X-Tenant) would be lost"),
        ({"url": f"{URL}?api_key=s3cr3t"}, "every user of the machine could read"),
        ({"oauth": {"clientId": "a"}, "headersHelper": "x"}, "`oauth`, `headersHelper` would be lost"),
    ],
    ids=str,
)
def test_what_the_gateway_could_not_carry_leaves_the_entry_as_it_is(
    tmp_path: Path, more: dict[str, Any], says: str
) -> None:
    (server,) = one(tmp_path, **{"type": "http", "url": URL, **more}).servers
    assert (server.guardable, server.listable, server.obstacle) == (False, True, "")
    assert says in server.left
    assert "s3cr3t" not in server.left


FAR_LAYOUTS = {
    "spread": '{\n  "mcpServers": {\n    "git": {\n      "type": "http",\n      "url": "%s"\n    }\n  }\n}\n',
    "tight": '{"mcpServers":{"git":{"url":"%s","type":"streamable-http"}}}',
    "alone": '{"servers": {"git": {"url": "%s"}}, "inputs": []}',
    "escaped": '{"mcpServers": {"git": {"disabled": false, "url": "%s", "headers": {}, "timeout": 5}}}',
}


@pytest.mark.parametrize("layout", FAR_LAYOUTS)
def test_a_remote_server_is_put_behind_the_gateway_and_nothing_else_differs(tmp_path: Path, layout: str) -> None:
    shown = URL.replace("/", "\\/") if layout == "escaped" else URL
    before = written(tmp_path, FAR_LAYOUTS[layout] % shown)
    assert before.servers[0].guardable
    after = written(tmp_path, before.guard(["git"], GATEWAY), "after.json")
    (server,) = after.servers
    assert (server.guarded_as, server.url, server.command) == ("git", URL, ())
    assert (server.gateway, server.guardable, server.listable) == ((*REMOTE, URL), False, True)
    (was,), (now,) = (
        next(value for name, value in json.loads(one.text).items() if name != "inputs").values()
        for one in (before, after)
    )
    assert now == {
        **{name: value for name, value in was.items() if name not in {"url", "type"}},
        **({"type": "stdio"} if "type" in was else {}),
        "command": GATEWAY[0],
        "args": [*GATEWAY[1:], "--url", URL, "git"],
    }
    assert after.guard([], GATEWAY) == after.text


def test_both_kinds_are_put_behind_it_at_once(tmp_path: Path) -> None:
    text = json.dumps({"mcpServers": {"far": {"url": URL}, "near": {"command": "x", "url": None}}}, indent=1)
    before = written(tmp_path, text)
    after = written(tmp_path, before.guard(["far", "near"], GATEWAY), "after.json")
    assert [(one.guarded_as, one.url, one.command) for one in after.servers] == [
        ("far", URL, ()),
        ("near", None, ("x",)),
    ]


@pytest.mark.parametrize("words", [["--url", URL], [f"--url={URL}"]])
def test_a_gateway_before_an_address_is_known(tmp_path: Path, words: list[str]) -> None:
    (server,) = one(tmp_path, command="forestall", args=["gateway", *words, "git"]).servers
    assert (server.guarded_as, server.url, server.gateway) == ("git", URL, ("forestall", "gateway", *words))
    (server,) = one(tmp_path, command="forestall", args=["gateway", "git"]).servers
    assert server.guarded_as is None


def test_an_address_is_expanded_as_the_client_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENANT", "acme")
    entry = {"url": "https://${TENANT}.example/${PLACE:-mcp}", "headers": {"X-Tenant": "${TENANT}"}}
    (server,) = one(tmp_path, **entry).servers
    assert not server.obstacle
    address = expand_address(server, tmp_path / "f")
    assert (address.url, address.headers) == ("https://acme.example/mcp", {"X-Tenant": "acme"})
    (server,) = one(tmp_path, url="https://${input:host}/").servers
    with pytest.raises(Unavailable, match="input:host"):
        expand_address(server, tmp_path / "f")


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
