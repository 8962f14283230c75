"""What runs whatever it is given is known by name, by list, and by having no name at all."""

from __future__ import annotations

import pytest

from forestall.adapter.attest.interpreter import MAX_SCRIPT, Interpreters, script_of
from forestall.core.errors import SetupError

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    "path",
    [
        "/usr/bin/python",
        "/usr/bin/python3",
        "/usr/bin/python3.13t",
        "/usr/bin/python3.11-dbg",
        "/opt/Python.framework/Python",
        "/usr/bin/pypy3.10-c",
        "/usr/bin/node",
        "/usr/bin/nodejs",
        "/opt/node-22/bin/node22",
        "/usr/bin/bash",
        "/usr/bin/dash",
        "/bin/busybox",
        "/usr/bin/perl5.36.0",
        "/usr/bin/ruby-3.2",
        "/usr/bin/php8.2",
        "/usr/bin/php-cgi8.2",
        "/usr/lib/jvm/java-21/bin/java",
        "/usr/share/dotnet/dotnet",
        "/usr/bin/lua5.4",
        "/usr/bin/gawk-5.2.1",
        "/usr/lib/erlang/erts-14/bin/beam.smp",
        "/usr/share/code/code",
        "/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2",
        "/usr/lib/aarch64-linux-gnu/ld-linux-aarch64.so.1",
        "/lib/ld-2.31.so",
        "/lib/ld-musl-x86_64.so.1",
        "/usr/bin/qemu-aarch64-static",
        "",
        "/a/directory/",
    ],
)
def test_an_interpreter_is_known_by_name(path: str) -> None:
    assert Interpreters().includes(path, "")


@pytest.mark.parametrize(
    "path", ["/usr/bin/python/agent", "/usr/bin/nodemon", "/usr/bin/pythonic", "/opt/agent", "/bin/cat", "/bin/basher"]
)
def test_a_program_of_its_own_is_none(path: str) -> None:
    assert not Interpreters().includes(path, DIGEST)


@pytest.mark.parametrize("entry", ["runner-*", "/opt/tools/runner-7", DIGEST])
def test_a_declared_one_is_one(entry: str) -> None:
    assert not Interpreters().includes("/opt/tools/runner-7", DIGEST)
    assert Interpreters((entry,)).includes("/opt/tools/runner-7", DIGEST)
    assert not Interpreters((entry,)).includes("/opt/tools/other", "sha256:" + "b" * 64)


@pytest.mark.parametrize("entry", ["", "bin/runner", "sha256:abc", "sha1:" + "a" * 40, DIGEST.upper()])
def test_an_entry_that_would_match_nothing_is_refused(entry: str) -> None:
    with pytest.raises(SetupError, match="is no interpreter's name"):
        Interpreters((entry,))


@pytest.mark.parametrize(
    ("line", "script"),
    [
        (["python3", "agent.py", "--token", "secret"], "agent.py"),
        (["python3", "-u", "-X", "dev", "-W", "error", "/srv/agent.py"], "/srv/agent.py"),
        (["python3", "-m", "agent.main", "secret"], "agent.main"),
        (["java", "-cp", "/srv/lib", "-Xmx1g", "-jar", "/srv/agent.jar"], "/srv/agent.jar"),
        (["node", "--import", "./hook.mjs", "agent.mjs"], "agent.mjs"),
        (["bash", "--norc", "run.sh"], "run.sh"),
    ],
)
def test_the_script_is_the_first_argument_that_is_no_option(line: list[str], script: str) -> None:
    assert script_of(line) == script


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["python3"],
        ["python3", "-"],
        ["python3", "-c", "secret"],
        ["bash", "-lc", "secret"],
        ["bash", "-xec", "secret"],
        ["perl", "-ne", "secret"],
        ["perl", "-E", "secret"],
        ["php", "-r", "secret"],
        ["node", "-p", "secret"],
        ["node", "--eval", "secret"],
        ["node", "--eval=secret"],
        ["awk", "{ print secret }"],
        ["python3", "-m"],
        ["python3", "secret\x1b[31m"],
        ["python3", "s" * (MAX_SCRIPT + 1)],
    ],
)
def test_a_program_in_the_line_itself_is_not_recorded(line: list[str]) -> None:
    assert script_of(line) == ""
