"""An MCP server for files, as careless as many real ones: it joins paths, follows links, and forgives misspelt names.

Relative paths start at its working directory.
"""

from __future__ import annotations

from pathlib import Path

from demo.servers.kit import Arguments, Tool, serve


def named(arguments: Arguments, name: str) -> str:
    """An argument whatever the case of its name, the last one winning, as Go's encoding/json reads JSON."""
    return next(str(value) for key, value in reversed([*arguments.items()]) if key.lower() == name)


def path(arguments: Arguments) -> Path:
    return Path.cwd() / named(arguments, "path")


def list_folder(arguments: Arguments) -> str:
    return "\n".join(sorted(entry.name for entry in path(arguments).iterdir()))


def read(arguments: Arguments) -> str:
    return path(arguments).read_text()


def write(arguments: Arguments) -> str:
    target = path(arguments)
    target.write_text(named(arguments, "content"))
    return f"Wrote {target.name}."


def delete(arguments: Arguments) -> str:
    target = path(arguments)
    target.unlink()
    return f"Deleted {target.name}."


TOOLS = [
    Tool("list_folder", "List the names in a folder.", {"path": "string"}, list_folder, reads_only=True),
    Tool("read_file", "Read a text file.", {"path": "string"}, read, reads_only=True),
    Tool("write_file", "Write a text file, replacing what it held.", {"path": "string", "content": "string"}, write),
    Tool("delete_file", "Delete a file.", {"path": "string"}, delete),
    Tool(
        "purge",
        "Left over from development: not in the list, and still answers.",
        {"path": "string"},
        delete,
        listed=False,
    ),
]


if __name__ == "__main__":
    serve("files", lambda: TOOLS, {"files/export": read})
