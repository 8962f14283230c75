"""A guard that brings its decision point along, in the same process: for a program, a notebook or a test.

The home is this process's alone for as long as the guard is open: one home, one decision point.
"""

from __future__ import annotations

import atexit
import os
import secrets
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from forestall import wire
from forestall.catalogue.declared import render_declared
from forestall.config import load
from forestall.core.ask import CannotDo, Evaluate, FindTool, Gather, Verify
from forestall.core.control import leaked
from forestall.core.errors import ForestallError, SetupError
from forestall.core.model import Assurance, Mandate, Risk, Subject, Tool
from forestall.core.reason import Reason
from forestall.core.sweep import sweep
from forestall.core.task import close_task
from forestall.home import Home
from forestall.keeper import Keeper
from forestall.pep import guard
from forestall.pep.point import DecisionPoint
from forestall.private_file import write_private_file
from forestall.rules import load_rules, no_rules, require_classes
from forestall.run import run
from forestall.server.listening import Lock, prepare
from forestall.tokens import no_tokens

KEEP_HOUSE_S = 1.0
"""Seconds between writes to the index of what follows from the ledger, and between looks for calls that were dropped:
their credentials have to end.
"""


class Guard(guard.Guard):
    """`forestall.pep.guard.Guard`, with a home of its own."""

    @classmethod
    def open(cls, home: str | os.PathLike[str] | None = None, *, name: str = "python") -> Self:
        """Open the home, or make it: its keys and ledger, but no policy. Without `home`: `$FORESTALL_HOME`, else
        `~/.forestall`. A relative path in a call starts where the program works at that time.

        Raises:
            SetupError: settings, mandates or keys are malformed.
            Unavailable: another process has the home, or its disk does not take the ledger.
            Tampered: its ledger does not verify.
        """
        point = _Embedded(Home.find(os.fspath(home) if home is not None else None), name)
        opened = cls(point.decision_point, name=name)
        atexit.register(opened.close)
        return opened

    def close(self) -> None:
        super().close()
        atexit.unregister(self.close)


class _Embedded:
    """The parts, who may ask them, and a thread that keeps their house."""

    def __init__(self, home: Home, name: str) -> None:
        self._home, self._name = home, name
        prepare(home)
        self._lock = Lock.acquire(home.run / "lock")
        try:
            self._parts = wire.build(home, load(home), no_rules, no_tokens)
        except BaseException:
            self._lock.release()
            raise
        self._subject = Subject(f"embedded/{os.geteuid()}/{name}", Assurance.EMBEDDED, uid=os.geteuid())
        self._proof = object()
        self._handlers = self._table()
        self.decision_point = self._decision_point()
        self._tidy()
        self._closing = threading.Event()
        self._closed = threading.Lock()
        self._keeper = threading.Thread(target=self._keep_house, name="forestall-keeper", daemon=True)
        self._keeper.start()
        self._leases = Keeper(self._parts.lending, self._handlers, self._parts.now, _say)
        self._parts.on_close.append(self._leases.wake)

    def _decision_point(self) -> DecisionPoint:
        return DecisionPoint(
            handlers=self._handlers,
            handlers_async={**self._handlers, **wire.waiting_async(self._parts)},
            subject=self._subject,
            proof=self._proof,
            now=self._parts.now,
            random=secrets.token_bytes,
            mandate=self._mandate,
            declare=self._declare,
            leaked=self._leaked,
            close=self._close,
            timeout_s=self._parts.config.serve.decision_timeout_ms / 1000,
        )

    def _table(self) -> dict[type, Any]:
        """As for a connection, but the rules are those of the moment: tools may be declared while calls run."""
        parts = self._parts
        return {
            **wire.handlers(parts, directory=""),
            Verify: self._verify,
            FindTool: lambda ask: wire.find_tool(parts.rules, ask.tool),
            Gather: lambda ask: wire.gather(parts, ask, str(Path.cwd())),
            Evaluate: lambda ask: parts.rules.engine.evaluate(ask.question),
            **wire.waiting(parts),
        }

    def _verify(self, ask: Verify) -> Subject:
        if ask.proof is not self._proof:
            raise CannotDo(Reason.INVALID_PROOF, "not this program's guard")
        return self._subject

    def _mandate(self, name: str) -> Mandate | None:
        return self._parts.rules.mandates.get(name)

    def _declare(self, tools: Sequence[Tool]) -> None:
        self._keep(tools)
        rules = load_rules(self._home, tools)
        if not rules.policies:
            raise SetupError(f"{self._home.policy} holds no policy, so every call would be denied; write one.")
        require_classes(rules, self._parts.lending.classes)
        self._parts.rules = rules

    def _keep(self, tools: Sequence[Tool]) -> None:
        """For `forestall check`, `test`, `explain` and `status`; before policy is looked at, which they tell about."""
        with suppress(OSError):
            self._home.declared.mkdir(mode=0o700, exist_ok=True)
            write_private_file(self._home.declared / f"{self._name}.json", render_declared(tools))

    def _leaked(self, task: str, where: str) -> None:
        """As the decision point does it (`forestall.server.leak`), for a program that waits."""
        parts, why = self._parts, f"a credential came back in {where}"
        parts.lending.ending.condemn_task(task, "leaked")
        _say(f"Of task {task}: {why}; it was withheld")
        grant = parts.state.find_grant(task)
        if grant is None or parts.state.risk(grant) is Risk.HIGH:
            return
        try:
            wire.order_blocking(parts, leaked(task, grant.tenant, why))
        except (ForestallError, CannotDo) as error:
            _say(f"A task's risk was to be raised ({why}), and that is not recorded: {error}")

    def _tidy(self) -> None:
        """What the last process left: its permits may have acted, and its tasks are over."""
        parts = self._parts
        run(sweep(parts.state.unsettled(), parts.now()), self._handlers)
        for grant in parts.state.open_tasks():
            with suppress(CannotDo):  # tried again at the next start; nobody holds it
                run(close_task(grant.task, "swept", parts.now()), self._handlers)

    def _keep_house(self) -> None:
        was_behind = False
        while not self._closing.wait(KEEP_HOUSE_S):
            self.decision_point.settle_abandoned()
            with suppress(ForestallError):  # the next append of a call meets the same fault, and is refused for it
                behind = self._parts.state.behind
                if behind and was_behind:
                    self._parts.state.catch_up(self._parts.ledger)
                was_behind = behind
                self._parts.state.expire(self._parts.now())
                self._parts.state.flush()

    def _close(self) -> None:
        if not self._closed.acquire(blocking=False):
            return
        self._closing.set()
        self._keeper.join()
        self._leases.close()
        try:
            self._parts.close()
        finally:
            self._lock.release()


def _say(detail: str) -> None:
    """To whoever runs the program: a credential that lives on must not go unnoticed. Where warnings are errors, what
    has to be done about it goes on all the same.
    """
    with suppress(RuntimeWarning):
        warnings.warn(f"forestall: {detail}.", RuntimeWarning, stacklevel=2)
