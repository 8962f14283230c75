"""A client's configuration: which servers it starts, and how. Read strictly, changed only where it has to be."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from forestall.catalogue.statement import require_server_name
from forestall.core.errors import InvalidInput, SetupError, Unavailable
from forestall.setup.document import Member, Node, line_of, parse
from forestall.setup.far import Address
from forestall.setup.process import Command

MAX_BYTES = 16 * 1024 * 1024
"""Some clients keep their whole state in the same file."""

_TABLES = ("mcpServers", "servers")
"""What clients call the table of servers: most of them, and VS Code."""

_STREAMABLE = (None, "http", "streamable-http", "streamableHttp")
"""What clients call Streamable HTTP in `type`; most need no `type` beside a `url`."""

_CARRIED = frozenset(
    {"type", "url", "headers", "description", "disabled", "enabled", "timeout", "alwaysAllow", "autoApprove", "trust"}
    | {"name", "includeTools", "excludeTools", "tools", "gallery", "version", "env", "cwd"}
)
"""Members that mean the same to a server that is started. Of any other nobody knows what would be lost with it."""

TOKEN_IN_URL = re.compile(
    r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@|[?&](token|key|api_?key|access_token|secret|sig)=[^&]", re.IGNORECASE
)

_VARIABLE = re.compile(r"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_FOLDERS = re.compile(r"\$\{(?:workspaceFolder|cwd)\}")
_ASKED = re.compile(r"\$\{[^}]*\}")


@dataclass(frozen=True, slots=True)
class Server:
    """One server of the configuration."""

    name: str
    line: int
    command: tuple[str, ...]
    """What is started, the gateway aside; empty for a server that is reached by URL."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    directory: str | None = None
    url: str | None = field(default=None, repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    guarded_as: str | None = None
    """The name that its gateway gives it; None where it is not behind one."""
    gateway: tuple[str, ...] = ()
    """The words that start its gateway, up to its name."""
    obstacle: str = ""
    """Why it can neither be listed nor put behind the gateway; empty where it can."""
    left: str = ""
    """Why it is left as it is, though its tools can be listed: what would be lost; empty where nothing would."""

    @property
    def guardable(self) -> bool:
        return not self.obstacle and not self.left and self.guarded_as is None

    @property
    def listable(self) -> bool:
        return not self.obstacle and bool(self.command or self.url)


@dataclass(frozen=True, slots=True)
class Configuration:
    path: Path
    """Of the file itself, symbolic links followed."""
    text: str = field(repr=False)
    servers: tuple[Server, ...]
    _nodes: Mapping[str, Node] = field(repr=False)

    def guard(self, names: Sequence[str], start: Sequence[str]) -> str:
        """The text with these servers started by `start`, NAME and what it was; nothing else differs.

        `start`: the command of a gateway up to the server's name. There is no `--` before the server's command: it
        would end the options of a client that adds some of its own behind `args`, as the inspector does.
        """
        text, remote = self.text, {server.name for server in self.servers if server.url is not None}
        for name in sorted(names, key=lambda name: self._nodes[name].start, reverse=True):
            node = self._nodes[name]
            text = _guard_remote(text, node, start, name) if name in remote else _guard(text, node, [*start, name])
        return text


def read(path: Path) -> Configuration:
    """The configuration.

    Raises:
        SetupError: missing, not strict JSON, or not a client's configuration; says file and line.
    """
    try:
        resolved = path.resolve(strict=True)
        data = resolved.read_bytes()
    except OSError as error:
        raise SetupError(f"{path}: cannot be read: {error.strerror}. Name the client's configuration.") from None
    if len(data) > MAX_BYTES:
        raise SetupError(f"{path}: larger than {MAX_BYTES} bytes; this is no client's configuration.")
    try:
        text = data.decode()
        return _read(resolved, text)
    except UnicodeDecodeError:
        raise SetupError(f"{path}: not UTF-8.") from None
    except InvalidInput as error:
        raise SetupError(f"{path}:{error}") from None


def _read(path: Path, text: str) -> Configuration:
    document = parse(text)
    tables = [document.members[name].node for name in _TABLES if document.members and name in document.members]
    if len(tables) != 1 or tables[0].members is None:
        raise InvalidInput("1: there must be one object `mcpServers` (or, for VS Code, `servers`).")
    members = tables[0].members
    servers = tuple(_server(text, name, member) for name, member in members.items())
    return Configuration(path, text, servers, {name: member.node for name, member in members.items()})


def _server(text: str, name: str, member: Member) -> Server:
    line = line_of(text, member.start)
    values = member.node.plain
    if not isinstance(values, dict):
        raise InvalidInput(f"{line}: the server {name!r} must be an object.")
    said = _Said(name, line, values)
    environment, headers = said.texts_by_name("env"), said.texts_by_name("headers")
    directory, url = said.text("cwd"), said.text("url")
    if url is not None or said.text("type") in ("sse", *_STREAMABLE[1:]):
        obstacle = _obstacle(name) or _remote_obstacle(said, url or "")
        left = "" if obstacle else _left(values, url or "")
        return Server(name, line, (), environment, directory, url, headers, obstacle=obstacle, left=left)
    command = said.text("command")
    if not command:
        said.fail("has neither `command` nor `url`")
    words = (command, *said.texts("args"))
    gateway, inner = _unwrap(words)
    guarded_as = gateway[-1] if gateway else None
    obstacle = "" if gateway else _obstacle(name)
    url = _url_of(gateway)
    return Server(
        name, line, inner, environment, directory, url, guarded_as=guarded_as, gateway=gateway[:-1], obstacle=obstacle
    )


def _remote_obstacle(said: _Said, url: str) -> str:
    kind = said.text("type")
    if kind == "sse":
        return (
            "it is reached over HTTP with SSE (`type: sse`), which MCP has replaced and Forestall does not speak; name "
            "its Streamable HTTP address, with `type: http`, if it has one"
        )
    if kind not in _STREAMABLE:
        return f"its `type` is {kind!r:.80}, and its `url` is for `http`"
    if not url or said.values.get("command") is not None:
        return "it has both `command` and `url`" if url else "its `type` is for a `url`, and it has none"
    return "" if "${" in url else _url_obstacle(url)


def _url_obstacle(url: str) -> str:
    from forestall.pep.mcp.remote import Url  # HTTP is not light

    try:
        Url.parse(url)
    except SetupError as error:
        return f"its address cannot be used: {error}"
    return ""


def _left(values: Mapping[str, Any], url: str) -> str:
    """What the gateway's command line could not say, or would say to everybody."""
    give = "give it as a credential (docs/credentials/placing.md), take it out here, and run this again"
    if headers := ", ".join(values.get("headers") or ()):
        return f"its headers ({headers}) would be lost, since the gateway sends no others than a credential's; {give}"
    if TOKEN_IN_URL.search(url):
        return f"its URL seems to hold a token, which every user of the machine could read in the command; {give}"
    if lost := ", ".join(f"`{name}`" for name in values if name not in _CARRIED):
        return f"its {lost} would be lost, which a server that is started has not; take it out here if it may go"
    return ""


def _obstacle(name: str) -> str:
    try:
        require_server_name(name)
    except SetupError as error:
        return str(error)
    return ""


def _unwrap(words: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The gateway with the server's name, and the command behind it; nothing and the words where there is none."""
    for at in range(1, min(len(words), 5)):
        ours = Path(words[0]).name == "forestall" or "forestall.cli" in words[1:at]
        if ours and words[at] == "gateway":
            name = _after_options(words, at + 1)
            inner = name + 2 if words[name + 1 : name + 2] == ("--",) else name + 1
            if len(words) == name + 1 and _url_of(words) is not None:
                return words, ()
            return (words[: name + 1], words[inner:]) if len(words) > inner else ((), words)
    return (), words


def _url_of(gateway: tuple[str, ...]) -> str | None:
    """Where a gateway's server is, if it is remote."""
    joined = next((word.partition("=")[2] for word in gateway if word.startswith("--url=")), None)
    return gateway[gateway.index("--url") + 1] if "--url" in gateway[:-1] else joined


def _after_options(words: tuple[str, ...], at: int) -> int:
    """Where the gateway's own options end; beyond the end of the words where nothing follows them."""
    while at < len(words) and words[at].startswith("-"):
        if words[at] == "--":
            return len(words)
        at += 1 if "=" in words[at] else 2
    return at


@dataclass(frozen=True, slots=True)
class _Said:
    """The members of one server, with what is wrong with them in words."""

    name: str
    line: int
    values: Mapping[str, Any]

    def fail(self, sentence: str) -> NoReturn:
        raise InvalidInput(f"{self.line}: the server {self.name!r} {sentence}.")

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is not None and (not isinstance(value, str) or "\0" in value):
            self.fail(f"has a `{key}` that is not a string")
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        value = self.values.get(key)
        value = [] if value is None else value
        if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
            self.fail(f"has `{key}` that is not a list of strings")
        return tuple(value)

    def texts_by_name(self, key: str) -> dict[str, str]:
        value = self.values.get(key)
        value = {} if value is None else value
        if not isinstance(value, dict) or not all(isinstance(item, str | int | float) for item in value.values()):
            self.fail(f"has `{key}` that is not an object of strings")
        return {name: item if isinstance(item, str) else json.dumps(item) for name, item in value.items()}


def _guard(text: str, server: Node, words: Sequence[str]) -> str:
    """The text with the first word as one server's `command`, and the rest, then the old command, before its `args`."""
    assert server.members is not None
    command, arguments = server.members["command"], server.members.get("args")
    first, *inserted = [*map(json.dumps, words), text[command.node.start : command.node.end]]
    edits = [(command.node.start, command.node.end, first)]
    if arguments is None:
        gap = text[len(text[: command.start].rstrip(" \t\r\n")) : command.start] or " "
        edits.append((command.node.end, command.node.end, f',{gap}"args": [{", ".join(inserted)}]'))
    elif not arguments.node.items:
        edits.append((arguments.node.start, arguments.node.end, f"[{', '.join(inserted)}]"))
    else:
        place = arguments.node.items[0].start
        gap = text[arguments.node.start + 1 : place] or " "
        edits.append((place, place, "".join(f"{word},{gap}" for word in inserted)))
    for start, end, new in sorted(edits, reverse=True):
        text = text[:start] + new + text[end:]
    return text


def _guard_remote(text: str, server: Node, start: Sequence[str], name: str) -> str:
    """The text with the gateway as one server's `command` and `args`, in the place of its `url`."""
    assert server.members is not None
    url, kind = server.members["url"], server.members.get("type")
    first, *words = map(json.dumps, (*start, "--url"))
    words += [text[url.node.start : url.node.end], json.dumps(name)]
    gap = text[len(text[: url.start].rstrip(" \t\r\n")) : url.start] or " "
    edits = [(url.start, url.node.end, f'"command": {first},{gap}"args": [{", ".join(words)}]')]
    if kind is not None:
        edits.append((kind.node.start, kind.node.end, '"stdio"'))
    for begin, end, new in sorted(edits, reverse=True):
        text = text[:begin] + new + text[end:]
    return text


def expand(server: Server, configuration: Path) -> Command:
    """The command as the client would start it: `${VARIABLE}` and the folder's name replaced.

    Raises:
        Unavailable: it needs something that only the client can ask for.
    """
    folder, value = _folder(configuration), _valued(configuration)
    environment = {name: value(text) for name, text in server.environment.items()}
    directory = folder / value(server.directory) if server.directory else folder
    return Command(tuple(map(value, server.command)), environment, directory)


def expand_address(server: Server, configuration: Path) -> Address:
    """Where a remote server is, and with which headers the client would ask it. Raises as `expand`."""
    value = _valued(configuration)
    return Address(value(server.url or ""), {name: value(text) for name, text in server.headers.items()})


def _folder(configuration: Path) -> Path:
    base = configuration.parent
    return base.parent if base.name.startswith(".") else base


def _valued(configuration: Path) -> Callable[[str], str]:
    folder = _folder(configuration)

    def value(text: str) -> str:
        text = _FOLDERS.sub(lambda _: str(folder), text)
        text = _VARIABLE.sub(
            lambda match: os.environ.get(match[1], match[2] if match[2] is not None else match[0]), text
        )
        if left := _ASKED.search(text):
            raise Unavailable(f"its configuration needs {left[0]}, which is not set here")
        return text

    return value


def _from_environment(match: re.Match[str]) -> str:
    """The variable's value, else the default beside it, else what stands there."""
    return os.environ.get(match[1], match[0] if match[2] is None else match[2])
