"""A server, a database that it makes users of, and the rights that the docs page gives Forestall, by its own lines."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from forestall.testing.postgresql import Cluster
from interop.authority import Authority
from interop.vault.server import Server, is_program
from interop.vault.shop import Shop

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "credentials" / "openbao.md"
OWN = "FORESTALL_BAO"
"""The variable that names another program to run: `bao`, or a `vault` with all its engines."""

TABLES = """\
CREATE DATABASE shop;
\\connect shop
CREATE TABLE orders (id integer PRIMARY KEY, what text NOT NULL);
CREATE TABLE salaries (name text PRIMARY KEY, amount integer NOT NULL);
INSERT INTO orders VALUES (1, 'a chair');
INSERT INTO salaries VALUES ('Ada', 1);
"""


@pytest.fixture(scope="session")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vault-") as name:
        yield Path(name).resolve()


@pytest.fixture(scope="session")
def program() -> tuple[Path, Path]:
    """The server's, and the folder of its programs for databases."""
    named = os.environ.get(OWN)
    if named is not None:
        assert is_program(Path(named)), f"{OWN} names no program"
        return Path(named), Path(named).parent
    done = subprocess.run([HERE / "install.sh"], check=True, stdout=subprocess.PIPE, text=True)
    built = Path(done.stdout.strip())
    return built / "vault", built


@pytest.fixture(scope="session")
def shop(program: tuple[Path, Path], folder: Path) -> Iterator[Shop]:
    own = folder / "server"
    own.mkdir()
    with Cluster.made() as cluster, Server(*program, own, Authority(folder)) as server:
        cluster.run_script(TABLES, "postgres")
        password = os.urandom(16).hex()
        cluster.run_script(f"CREATE ROLE bao LOGIN SUPERUSER PASSWORD '{password}';", "postgres")
        if OWN not in os.environ:
            server.register("postgresql-database-plugin", program[1] / "postgresql-database-plugin")
        where = f"127.0.0.1:{cluster.port}"
        for script in scripts():
            server.run(script, folder, {"DATABASE": where, "PASSWORD": password})
        server.ask("POST", "sys/mounts/kv", {"type": "kv", "options": {"version": "2"}})
        role_id = (folder / "role-id").read_text().strip()
        yield Shop(server, cluster, role_id, folder / "secret-id", server.authority.ca)


def scripts() -> list[str]:
    """The page's own lines for a shell."""
    found = re.findall(r"^```sh\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert len(found) == 2
    return found
