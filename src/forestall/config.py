"""Settings, from TOML (docs/adr/0002-home.md). Every key has a default; an unknown key is an error.

Every error is a `SetupError` of one sentence that names the file, and the line where there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path

from forestall.core.errors import SetupError
from forestall.home import Home
from forestall.mandates import DEFAULT_MANDATE as DEFAULT_MANDATE  # noqa: PLC0414 - where it is looked for
from forestall.mandates import load_mandates as load_mandates  # noqa: PLC0414 - as above
from forestall.permit_settings import PermitSettings, permit_settings
from forestall.risk_settings import RiskSettings, risk_settings
from forestall.source import Source

MAX_SOCKET_PATH = 107
"""Bytes that `sun_path` holds, its final zero aside (unix(7))."""


def _limit(default: int, least: int, most: int) -> int:
    """An integer setting with its bounds, inclusive."""
    value: int = field(default=default, metadata={"least": least, "most": most})
    return value


@dataclass(frozen=True, slots=True)
class Serve:
    """`[serve]`: the decision point."""

    socket: str = ""
    """Where it listens; empty is `run/socket` in the home. Short: a socket's path holds 107 bytes."""
    idle_exit_s: int = _limit(900, 1, 86_400)
    """Seconds without a connection after which a decision point that was started on demand ends."""
    max_connections: int = _limit(128, 1, 4096)
    """Open connections. One for each guarded server and each running command; a client starts a dozen."""
    max_asks: int = _limit(64, 1, 4096)
    """Calls of one connection that are decided or running at the same time."""
    handshake_timeout_ms: int = _limit(5_000, 10, 60_000)
    """Milliseconds that a new connection has for its `hello`."""
    decision_timeout_ms: int = _limit(5_000, 10, 60_000)
    """Milliseconds that a decision may take; then it is a denial."""
    upstream_timeout_ms: int = _limit(2_000, 0, 60_000)
    """Milliseconds that a call of a delegated task waits for what is undecided above it, where policy says that it has
    to (`@after_upstream`). Never more than four fifths of `decision_timeout_ms`.
    """
    credential_timeout_ms: int = _limit(3_000, 100, 60_000)
    """Milliseconds that a backend of credentials has to make one, or to end one. Making one that is put into a call
    counts to the decision's time.
    """
    heartbeat_ms: int = _limit(1_000, 100, 60_000)
    """Milliseconds after which an enforcement point that has heard nothing is told that the decision point is there.
    One that has heard nothing for three of them refuses what it is asked to do."""
    outcome_timeout_s: int = _limit(3_600, 1, 86_400)
    """Seconds that a permitted call may run before its outcome is settled as ambiguous."""
    allowed_uids: tuple[int, ...] = ()
    """Users besides the decision point's own who may connect."""


@dataclass(frozen=True, slots=True)
class LedgerSettings:
    """`[ledger]`: the log."""

    origin: str = ""
    """Names the log in its checkpoints (C2SP); taken when the keys are made, never after. Empty: one that is unique."""
    denials_per_minute: int = _limit(600, 1, 1_000_000)
    """Denials that are written out one by one; the rest of a minute are counted in one entry."""


@dataclass(frozen=True, slots=True)
class Attest:
    """`[attest]`: who is at the other end of the socket."""

    interpreters: tuple[str, ...] = ()
    """Programs that run what they are given, besides those known: a name (`*` and `?` as in a shell), an absolute path,
    or `sha256:` and a digest. Theirs identifies nobody.
    """


@dataclass(frozen=True, slots=True)
class Runaway:
    """`[runaway]`: what suspends a task, each within one minute. No agent that does its work comes near."""

    calls: int = _limit(20_000, 1, 10_000_000)
    """Permitted calls: a burst."""
    denials: int = _limit(2_000, 1, 10_000_000)
    """Denials, repetitions among them: a storm."""
    same_call: int = _limit(5_000, 1, 10_000_000)
    """Permitted calls of one tool with the same arguments: a loop."""
    too_deep: int = _limit(20, 1, 10_000_000)
    """Refusals because the chain of agents is too deep."""


@dataclass(frozen=True, slots=True)
class Protect:
    """`[protect]`: what no tool may reach, whatever policy says."""

    paths: tuple[str, ...] = ()
    """Files and directories, besides Forestall's own and the known clients' configuration."""


@dataclass(frozen=True, slots=True)
class Http:
    """`[http]`: the listener for agents elsewhere (docs/http.md)."""

    listen: str = ""
    """Address and port, such as `127.0.0.1:8443`; port 0 is one that is free. Empty: nothing listens."""
    issuer: str = ""
    """What clients call it: the URL that its tokens name. Empty: that of its address, which is this machine's then."""
    tls_certificate: str = ""
    """PEM, the chain with its own first. Without it there is plain HTTP, at an address of this machine alone."""
    tls_key: str = ""
    """PEM, unencrypted, and not everybody's to read."""
    client_ca: str = ""
    """PEM of the authorities that client certificates may come from, besides those of SPIFFE trust bundles."""
    max_connections: int = _limit(256, 1, 4096)
    """Open connections; where there are more, those that wait for no answer make room."""
    max_header_bytes: int = _limit(16_384, 1024, 65_536)
    """Bytes of a request line and its headers. A chain of certificates or a grant in a header has about 4,000."""
    max_body_bytes: int = _limit(65_536, 1024, 1_048_576)
    """Bytes of a request's body. A delegation with two tokens has about 8,000."""
    handshake_timeout_ms: int = _limit(5_000, 10, 60_000)
    """Milliseconds that TLS has to begin, and the first request after it: a client connects because it has one."""
    request_timeout_ms: int = _limit(10_000, 10, 60_000)
    """Milliseconds in which a request has to be there, from its first byte to its last."""
    answer_timeout_ms: int = _limit(10_000, 10, 60_000)
    """Milliseconds that an answer may take to be found; then it is a 503."""
    idle_timeout_s: int = _limit(60, 1, 3_600)
    """Seconds that a connection is kept between two requests."""


@dataclass(frozen=True, slots=True)
class Config:
    serve: Serve = field(default_factory=Serve)
    ledger: LedgerSettings = field(default_factory=LedgerSettings)
    runaway: Runaway = field(default_factory=Runaway)
    protect: Protect = field(default_factory=Protect)
    http: Http = field(default_factory=Http)
    attest: Attest = field(default_factory=Attest)
    risk: tuple[RiskSettings, ...] = ()
    permits: Mapping[str, PermitSettings] = field(default_factory=dict)
    """By server: those that demand a permit with each call."""

    @property
    def posture(self) -> frozenset[str]:
        """Everything that some source tells of a posture."""
        return frozenset(part for one in self.risk for part in one.posture)


def load(home: Home) -> Config:
    """The settings in `forestall.toml`, or the defaults where there is no such file."""
    source = Source.read(home.config, missing_ok=True)
    known = {section.name: section for section in fields(Config)}
    source.require_known(source.table, known, "section")
    return Config(
        serve=source.section("serve", Serve),
        ledger=source.section("ledger", LedgerSettings),
        runaway=source.section("runaway", Runaway),
        protect=source.section("protect", Protect),
        http=source.section("http", Http),
        attest=source.section("attest", Attest),
        risk=risk_settings(source),
        permits=permit_settings(source),
    )


def socket_path(home: Home, config: Config) -> Path:
    """Where the decision point listens.

    Raises:
        SetupError: the path is longer than a socket's may be.
    """
    path = Path(config.serve.socket).expanduser() if config.serve.socket else home.socket
    path = home.root / path
    if len(str(path).encode()) > MAX_SOCKET_PATH:
        raise SetupError(
            f"{path} is longer than the {MAX_SOCKET_PATH} bytes that a socket's path may have; "
            f'put `socket = "/a/shorter/path"` under [serve] in {home.config}.'
        )
    return path
