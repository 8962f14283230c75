from __future__ import annotations

from typing import Any

import pytest

from forestall.setup.client import Server
from forestall.setup.token import find_tokens, printable, shown_command


def server(*words: str, **more: Any) -> Server:
    return Server("s", 1, words, **more)


@pytest.mark.parametrize(
    ("found", "place"),
    [
        (server("x", environment={"GITHUB_TOKEN": "abc"}), "variable GITHUB_TOKEN"),
        (server("x", environment={"OPENAI_API_KEY": "abc"}), "variable OPENAI_API_KEY"),
        (server("x", environment={"db_password": "abc"}), "variable db_password"),
        (server("x", environment={"HARMLESS": "ghp_0123456789abcdef"}), "variable HARMLESS"),
        (server("x", environment={"DSN": "postgres://me:pass@host/db"}), "variable DSN"),
        (server("x", environment={"V": "q7Zx0Lm3Kp9Rt2Wv8Yb4"}), "variable V"),
        (server(headers={"Authorization": "Bearer abc"}), "header Authorization"),
        (server(url="https://me:pass@host/"), "its URL"),
        (server(url="https://host/?api_key=abc"), "its URL"),
        (server("x", "--api-key=abc"), "argument --api-key"),
        (server("x", "--token", "abc"), "argument --token"),
        (server("x", "y", "sk-abcdefgh"), "argument 2"),
        (server("x", "postgres://me:pass@host/db"), "argument 1"),
    ],
)
def test_a_standing_token_is_named_and_not_shown(found: Server, place: str) -> None:
    assert find_tokens(found) == (place,)
    shown = shown_command(found)
    for secret in ("abc", "pass@", "sk-"):
        assert secret not in shown


@pytest.mark.parametrize(
    "harmless",
    [
        server("uvx", "mcp-server-git@2026.10.19", "--repository", "/home/me/projects/something-long-1234"),
        server("npx", "-y", "@modelcontextprotocol/server-filesystem", "/tmp/a"),
        server("x", environment={"GITHUB_TOKEN": "${GITHUB_TOKEN}", "TOKEN": ""}),
        server("x", environment={"KEY_FILE": "/home/me/.ssh/key", "SSL_KEY": "/etc/key.pem", "MAX_TOKENS": "4096"}),
        server("x", environment={"TOKENIZERS_PARALLELISM": "false"}),
        server("x", "--key-file", "~/key", "--verbose", "--token"),
        server(url="https://host/mcp"),
        server(),
    ],
)
def test_what_is_no_token_is_not_called_one(harmless: Server) -> None:
    assert find_tokens(harmless) == ()


def test_the_rest_of_the_command_is_shown() -> None:
    assert shown_command(server("a b", "--key=x", "--token", "y", "z")) == "'a b' '--key=***' --token '***' z"


def test_nothing_reaches_a_terminal_that_it_would_act_on() -> None:
    assert shown_command(server("x", "\x1b]0;evil\x07")).isprintable()
    assert printable("a\u202eb\n") == "a<U+202E>b<U+000A>"
