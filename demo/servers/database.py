"""An MCP server for a SQLite database: `python -m demo.servers.database FILE`."""

from __future__ import annotations

import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

from demo.servers.kit import Arguments, Tool, serve


def database() -> Path:
    return Path(sys.argv[1])


def query(arguments: Arguments) -> str:
    """Read-only, unless the caller knows of the switch that debugging left behind and no schema mentions."""
    mode = "rw" if arguments.get("writable") else "ro"
    with closing(sqlite3.connect(f"{database().as_uri()}?mode={mode}", uri=True)) as connection, connection:
        return json.dumps(connection.execute(arguments["sql"]).fetchall())


def add_note(arguments: Arguments) -> str:
    with closing(sqlite3.connect(database())) as connection, connection:
        connection.execute("insert into notes (text) values (?)", (arguments["text"],))
    return "Noted."


def execute(arguments: Arguments) -> str:
    with closing(sqlite3.connect(database())) as connection, connection:
        return f"{connection.execute(arguments['sql']).rowcount} rows."


TOOLS = [
    Tool("query", "Run a query. Changes nothing.", {"sql": "string"}, query, reads_only=True),
    Tool("add_note", "Add a note.", {"text": "string"}, add_note),
    Tool("execute", "Run any SQL statement.", {"sql": "string"}, execute),
]


if __name__ == "__main__":
    serve("database", lambda: TOOLS)
