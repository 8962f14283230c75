"""The composition root: from a home's settings to the parts that decide. Nothing else names a concrete adapter."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from forestall.adapter.attest.digest import Digests
from forestall.adapter.attest.interpreter import Interpreters
from forestall.adapter.attest.unix import Attestor, Limits, this_machine
from forestall.adapter.credential.context import Context
from forestall.adapter.credential.escrow import Escrow
from forestall.adapter.facts.files import Files
from forestall.adapter.facts.own import OwnFiles, home_directories
from forestall.adapter.identity import LocalIdentity
from forestall.adapter.ledger import keys
from forestall.adapter.ledger.denials import Quota
from forestall.adapter.ledger.log import FileLedger
from forestall.adapter.signals.heard import Heard
from forestall.adapter.store.state import LogState, open_state
from forestall.adapter.store.waiting import until_settled
from forestall.clock import Clock
from forestall.config import Config, Runaway, load, socket_path
from forestall.core.ask import (
    Admit,
    AwaitUpstream,
    CannotDo,
    Confirm,
    Evaluate,
    FindApproval,
    FindGrant,
    FindTool,
    Gather,
    Issue,
    Plan,
    Record,
    Release,
    Reserve,
    Revoke,
    Tell,
    Verify,
)
from forestall.core.control import Command
from forestall.core.entry import Entry, Kind, Stream, ordered
from forestall.core.errors import SetupError, Unavailable
from forestall.core.label import CLEAN, Label
from forestall.core.model import Action, Facts, Grant, Permit, Tool
from forestall.core.own import SERVER
from forestall.core.place import Where
from forestall.core.reason import Reason
from forestall.core.refer import with_references
from forestall.core.runaway import Pace, Runaways
from forestall.core.task import OPEN
from forestall.credentials import CredentialClass, Credentials, close_all, load_credentials, owner_of, reopen
from forestall.credentials.words import Words
from forestall.home import VARIABLE, Home
from forestall.lending import Lending
from forestall.permits import NO_PERMITS, Permits, open_permits, publish
from forestall.policy.schema import METHOD_TOOL
from forestall.port import Position, Written
from forestall.proof.fault import Fault, InvalidProof
from forestall.risks import NO_RISKS, Risks, open_risks, risk_path
from forestall.rules import Rules, load_rules, require_classes, write_default_mandate
from forestall.tokens import Tokens, TokensOf, open_tokens, renew

Handler = Callable[[Any], Any]


@dataclass(slots=True)
class Parts:
    """Everything that a decision point is made of."""

    home: Home
    config: Config
    ledger: FileLedger
    state: LogState
    identity: LocalIdentity
    facts: Files
    rules: Rules
    lending: Lending
    now: Callable[[], int]
    tokens: Tokens | None = None
    """Who can be verified besides the peers of the socket, and what grants are signed with; None without rules."""
    issuer: str = ""
    """What clients call us, a URL. Empty until it is known where we listen."""
    attestor: Attestor | None = None
    """None where this machine cannot show who is at the other end of a socket; `unattested` says why."""
    unattested: str = ""
    on_close: list[Callable[[], None]] = field(default_factory=list)
    """Called once a task was closed, on whatever thread that was recorded."""
    runaways: Runaways = field(default_factory=lambda: runaways_of(Runaway()))
    on_order: list[Callable[[Command], None]] = field(default_factory=list)
    """Called once an order was recorded and taken in, before whoever gave it goes on."""
    heard: Heard | None = None
    """Of security events; None until `hear`."""
    risks: Risks = NO_RISKS
    permits: Permits = NO_PERMITS
    """For servers that demand one with each call."""

    def reload(self) -> None:
        """Take in the rules as they are on disk now; where they do not check, keep the old and raise SetupError."""
        rules, held, lent = load_rules(self.home), self.tokens, self.lending.classes
        classes = self._classes(rules)
        try:
            permits = self.permits.renew(self.home, self.now())
            tokens = renew(held, self.home, now=self.now, issuer=self.issuer)
        except SetupError:
            close_all(one for name, one in classes.items() if one is not lent.get(name))
            raise
        self.lending.take(classes)
        self.tokens, self.rules, self.permits = tokens, rules, permits
        publish(self.permits, self.home, self.state.epoch, self.now())
        self.runaways.renew()
        if held is not None and (self.tokens is None or self.tokens.verifiers is not held.verifiers):
            held.close()

    def _classes(self, rules: Rules) -> Credentials:
        """Those that are on disk now, of which `rules` name no others."""
        context = _context(self.home, self.config, self.lending.owner, self.now)
        held = self.lending.classes
        classes = load_credentials(self.home, context, held)
        try:
            require_classes(rules, classes)
        except SetupError:
            close_all(one for name, one in classes.items() if one is not held.get(name))
            raise
        return classes

    @property
    def lends(self) -> bool:
        """Is there any class of credentials?"""
        return bool(self.lending.classes)

    def at_start(self, server: str) -> Mapping[str, Where]:
        """The classes of credentials that this server is started with, and where each goes."""
        classes = self.lending.classes.values()
        return {one.name: one.place.where for one in classes if one.server == server and one.place is not None}

    def called(self, issuer: str) -> None:
        """What clients call us is known: our tokens name it."""
        self.issuer = issuer
        if self.tokens is not None:
            self.tokens.issuer = issuer

    def accepts(self, grant: Grant) -> bool:
        """Is its holder one who may ask at all? Who is of no trust domain runs on this machine."""
        if not grant.trust_domain:
            return True
        return self.tokens is not None and self.tokens.identities.tenant(grant.trust_domain) == grant.tenant

    def client_authorities(self) -> tuple[bytes, ...]:
        """Those that client certificates may come from, in DER, by the trust bundles of this moment."""
        return () if self.tokens is None else self.tokens.verifiers.authorities(self.now())

    def hear(self) -> Heard:
        """What was heard of security events. From the first call on they can be received. Raises Unavailable."""
        if self.heard is None:
            self.heard = Heard(self.home.root / "signals.sqlite")
        return self.heard

    def require_signed_in(self, user: str, vouched_at: int) -> None:
        """Raises InvalidProof: REVOKED, where a session of the user that began by then was revoked."""
        if self.heard is not None and vouched_at <= self.heard.signed_out_at(user):
            raise InvalidProof(Fault.REVOKED, "the user's session was revoked; they have to sign in again")

    def close(self) -> None:
        """The ledger last: it signs what everything else wrote."""
        with ExitStack() as closing:
            closing.callback(self.ledger.close)
            closing.callback(self.lending.close)
            closing.callback(self.risks.close)
            closing.callback(self.state.close)
            if self.heard is not None:
                closing.callback(self.heard.close)
            if self.tokens is not None:
                closing.callback(self.tokens.close)


def build(
    home: Home,
    config: Config | None = None,
    rules_of: Callable[[Home], Rules] = load_rules,
    tokens_of: TokensOf = open_tokens,
) -> Parts:
    """Open everything. The caller holds the home's lock, and closes the parts.

    `tokens_of`: `no_tokens` for a program that serves nobody.

    Raises:
        SetupError: settings, policy, catalogue, mandates, identities or keys are missing or malformed.
        Unavailable: the disk does not take the ledger.
        Tampered: the ledger does not verify.
    """
    config = load(home) if config is None else config
    interpreters = Interpreters(config.attest.interpreters)
    write_default_mandate(home)
    rules, clock = rules_of(home), Clock()
    with ExitStack() as undo:
        pair = keys.load_or_create(home.keys, home.ledger, config.ledger.origin or None)
        quota = Quota(entries=config.ledger.denials_per_minute)
        ledger = FileLedger.open(home.ledger, keys=pair, now=clock, quota=quota)
        undo.callback(ledger.close)
        state = open_state(home.state, ledger)
        undo.callback(state.close)
        owner = _owner(pair)
        classes = load_credentials(home, _context(home, config, owner, clock))
        undo.callback(close_all, classes.values())
        require_classes(rules, classes)
        words = Words(home.run / "classes")
        former = _former(home, _context(home, config, owner, clock), words, state, classes)
        undo.callback(close_all, former)
        tokens = tokens_of(home, now=clock, issuer=config.http.issuer)
        permits = open_permits(home, config.permits, pair.origin, clock())
        undo.pop_all()
    uids = (os.geteuid(), *config.serve.allowed_uids)
    own, issuer = _files(home, config, uids), config.http.issuer
    risks = open_risks(home, config.risk, clock, state.risk)
    lending = Lending(
        state,
        Escrow(home.run / "leases", home.keys),
        words,
        owner=owner,
        now=clock,
        risk=lambda grant, at: risks.read(grant, at).risk,
        timeout_s=_timeout_s(config),
        classes=classes,
        former=former,
    )
    parts = Parts(home, config, ledger, state, LocalIdentity(uids), own, rules, lending, clock, tokens, issuer)
    parts.risks = risks
    parts.permits = permits
    parts.runaways = runaways_of(config.runaway)
    try:
        parts.attestor = _attestor(interpreters)
    except Unavailable as error:
        parts.unattested = str(error)
    return parts


def handlers(parts: Parts, *, directory: str) -> dict[type, Handler]:
    """Who carries out what a flow asks for, for one task's actions, under the rules as they are now.

    `Perform` is the enforcement point's.
    """
    state, rules, lending = parts.state, parts.rules, parts.lending
    return {
        Verify: lambda ask: parts.identity.verify(ask.proof),
        FindTool: lambda ask: find_tool(rules, ask.tool),
        FindGrant: lambda ask: find_grant(state, ask.task),
        Admit: lambda ask: admit(state, ask),
        Gather: lambda ask: gather(parts, ask, directory),
        Evaluate: lambda ask: rules.engine.evaluate(ask.question),
        FindApproval: lambda ask: state.take_approval(ask.action, ask.subject, ask.ruling, ask.facts),
        AwaitUpstream: lambda ask: await_upstream(parts, ask.action),
        Reserve: lambda ask: state.reserve(ask.grant, ask.effects),
        Release: lambda ask: state.release(ask.grant, ask.effects),
        Record: lambda ask: record(parts, ask.entry),
        Confirm: lambda ask: confirm(parts, ask.permit),
        Plan: lambda ask: lending.making.plan(ask.permit, ask.action),
        Issue: lambda ask: lending.making.issue_async(ask.lease),
        Revoke: lambda ask: lending.ending.revoke_async(ask.lease),
        Tell: lambda _ask: parts.now(),
    }


def handlers_blocking(parts: Parts, *, directory: str) -> dict[type, Handler]:
    """As `handlers`, for `run`: what waits for the disk, or for a backend, blocks its caller."""
    return {**handlers(parts, directory=directory), **waiting(parts)}


def waiting(parts: Parts) -> dict[type, Handler]:
    """Those that block."""
    return {
        Record: lambda ask: record_blocking(parts, ask.entry),
        Issue: lambda ask: parts.lending.making.issue(ask.lease),
        Revoke: lambda ask: parts.lending.ending.revoke(ask.lease),
    }


def waiting_async(parts: Parts) -> dict[type, Handler]:
    """Those whose answer is awaited."""
    return {
        Record: lambda ask: record(parts, ask.entry),
        Issue: lambda ask: parts.lending.making.issue_async(ask.lease),
        Revoke: lambda ask: parts.lending.ending.revoke_async(ask.lease),
    }


def find_tool(rules: Rules, tool: str) -> Tool | None:
    return METHOD_TOOL if tool == METHOD_TOOL.id else rules.catalogue.find(tool)


def find_grant(state: LogState, task: str) -> Grant | None:
    against = state.stopped(task)
    if against is not None:
        raise CannotDo(against)
    return state.find_grant(task)


def admit(state: LogState, ask: Admit) -> Reason | None:
    """Who comes over the socket holds no more tasks than there are connections; of others it has to be counted."""
    if ask.subject.key and not state.has_room_for(ask.subject):
        raise CannotDo(Reason.UNAVAILABLE, f"{ask.subject.id!r:.200} holds as many tasks as may be remembered")
    return state.barred(ask.subject, ask.user)


def confirm(parts: Parts, permit: Permit) -> Reason | None:
    """Why a permit that was recorded does not stand, if it does not."""
    at = parts.now()
    if parts.state.stands(permit.id, at):
        return None
    against = parts.state.stopped(permit.task)
    if against is not None:
        return against
    return Reason.DEADLINE if at >= permit.expires_at else Reason.TASK_ENDED


def await_upstream(parts: Parts, action: Action) -> Awaitable[bool] | bool:
    """See `AwaitUpstream`. The bound is one for the whole decision, however often it is begun anew."""
    serve = parts.config.serve
    bound = min(serve.upstream_timeout_ms, serve.decision_timeout_ms * 4 // 5)
    return until_settled(parts.state, action.task, action.at + bound - parts.now())


def order(parts: Parts, command: Command) -> Awaitable[Position]:
    """Record an order and take it in. Once that is answered, nothing stands that the order is against: what was
    recorded before is stopped by it, and what comes later in the log never lives.

    Raises:
        Unavailable: the ledger does not take it. It may then be in force all the same; give it again.
    """
    entry = ordered(command, secrets.token_hex(16), parts.now())

    def taken_in(position: Position) -> None:
        _apply(parts, entry, position)
        _tell(parts, command)

    return parts.ledger.append_async(entry, taken_in)


def order_blocking(parts: Parts, command: Command) -> None:
    """As `order`, for callers without a loop."""
    record_blocking(parts, ordered(command, secrets.token_hex(16), parts.now()))
    _tell(parts, command)


def _tell(parts: Parts, command: Command) -> None:
    """Everybody who wants to know, also where telling one of them fails: that is raised once all were told."""
    with ExitStack() as telling:
        for callback in reversed(parts.on_order):
            telling.callback(callback, command)


def record(parts: Parts, entry: Entry, *, alone: bool = False) -> Awaitable[Position] | None:
    """Into the ledger, and from there into the state. At once where nothing waits for the disk.

    `alone`: nobody else waits for this loop, so that it may stand still for a quick disk.
    """
    if entry.durable:
        position = parts.ledger.append_at_once(entry) if alone else None
        if position is not None:
            _apply(parts, entry, position)
            return None
        return parts.ledger.append_async(entry, lambda position: _apply(parts, entry, position))
    record_blocking(parts, entry)
    return None


def record_blocking(parts: Parts, entry: Entry) -> None:
    """As `record`, for callers without a loop."""
    entry = _under(parts.rules, entry)
    _apply(parts, entry, parts.ledger.append(entry))


def _under(rules: Rules, entry: Entry) -> Entry:
    """A denial that came before policy was asked says all the same which policy was in force."""
    if entry.kind is not Kind.DENIED or entry.body["policy_digest"]:
        return entry
    return replace(entry, body={**entry.body, "policy_digest": rules.engine.digest})


def runaways_of(settings: Runaway) -> Runaways:
    return Runaways(Pace(settings.calls, settings.denials, settings.same_call, settings.too_deep))


_RENEWING = frozenset({Kind.ORDERED, Kind.APPROVED, Kind.DECLINED})
"""After these, what was refused may be permitted."""


def _apply(parts: Parts, entry: Entry, position: Position) -> None:
    if entry.stream is Stream.PERMITS or entry.kind is Kind.HELD:
        body = {**entry.body, "kind": entry.kind, "id": entry.id, "at": entry.at}
        if entry.binding:
            body["binding"] = entry.binding
        parts.state.apply(Written(position, body))
        if entry.kind is Kind.CLOSED:
            for callback in parts.on_close:
                callback()
        if entry.kind is Kind.REVOKED:
            parts.lending.ending.written(entry.id)
        if entry.kind is Kind.ORDERED:
            parts.lending.ending.condemn_suspended()
        if entry.kind in _RENEWING:
            parts.runaways.renew()


def gather(parts: Parts, ask: Gather, directory: str, known: Label = CLEAN) -> Facts:
    """`known`: what whoever asks has seen outside of the task."""
    if ask.tool.server == SERVER:
        return _about_a_task(parts, ask, known)
    labels = parts.state.labels(ask.action.task).join(known)
    depth = ask.grant.depth if ask.grant is not None else 0
    repute = parts.risks.read(ask.grant, ask.action.at)
    facts = parts.facts.gather(ask.tool, ask.action.arguments, labels, depth, directory, repute)
    return with_references(facts, ask.tool, ask.action) if ask.tool.references else facts


def _about_a_task(parts: Parts, ask: Gather, known: Label) -> Facts:
    """What is asked of Forestall itself names no file. A task that is not open yet has seen what its holder has."""
    opening, grant = ask.tool.id == OPEN.id, ask.grant
    instance = grant.instance if grant is not None else ""
    labels = parts.state.seen(instance) if opening else parts.state.labels(ask.action.task)
    depth = grant.depth if grant is not None else 0
    repute = parts.risks.read(grant, ask.action.at)
    return Facts(
        labels.join(known),
        ask.tool.effects,
        ask.tool.confidence,
        reaches_own_files=False,
        depth=depth,
        risk=repute.risk,
        posture=repute.posture,
    )


def _owner(pair: keys.Keys) -> str:
    return owner_of(pair.origin, pair.private.public_key().public_bytes_raw())


def _former(
    home: Home, context: Context, words: Words, state: LogState, classes: Credentials
) -> tuple[CredentialClass, ...]:
    """The classes that made what may be alive, where `credentials.toml` says something else by now."""
    now = {one.digest for one in classes.values()}
    return reopen(home, context, words, sorted({lease.words for _, lease in state.leases()} - now - {""}))


def _timeout_s(config: Config) -> float:
    return config.serve.credential_timeout_ms / 1000


def _context(home: Home, config: Config, owner: str, now: Callable[[], int]) -> Context:
    return Context(owner, now, secrets.token_bytes, _timeout_s(config), home.root)


def _attestor(interpreters: Interpreters) -> Attestor:
    """Raises Unavailable where the system cannot show it."""
    digests = Digests(max_bytes=Limits().max_bytes, clock_ms=_steady_ms, wall_ns=time.time_ns)
    return Attestor(this_machine(), digests, interpreters, clock_ms=_steady_ms)


def _steady_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _files(home: Home, config: Config, uids: tuple[int, ...]) -> Files:
    homes = home_directories(uids)
    told = [str(risk_path(home, one.path)) for one in config.risk if one.path]
    own = (str(home.root), str(socket_path(home, config)), *config.protect.paths, *told)
    known = ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "USER", "LOGNAME", "TMPDIR")
    variables = {name: value for name in known if (value := os.environ.get(name))}
    user = homes[0] if homes else "/"
    return Files(OwnFiles.of(own, homes), user, {**variables, "HOME": user, VARIABLE: str(home.root)})
