"""What a flow asks of the connection that its call came on, and who answers it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from forestall.core.ask import CannotDo, FindTool, Gather, Perform, Record, Verify
from forestall.core.model import Facts, Subject, Tool
from forestall.core.reason import Reason
from forestall.policy.schema import METHOD_TOOL
from forestall.rules import Rules
from forestall.server.door import seen_by
from forestall.wire import Handler, find_tool, gather, handlers, record

if TYPE_CHECKING:
    from forestall.server.connection import Connection


@dataclass(slots=True)
class _Table:
    """The handlers under one set of rules."""

    rules: Rules
    handlers: Mapping[type, Handler] = field(repr=False)


class Answers:
    """Once it is known who connected."""

    def __init__(self, connection: Connection, perform: Handler) -> None:
        self._connection = connection
        self._perform = perform
        self._point = connection.point
        self._parts = connection.point.parts
        self._table: _Table | None = None

    def handlers(self) -> Mapping[type, Handler]:
        """Under the rules as they are now, made anew only where they changed."""
        rules = self._parts.rules
        if self._table is None or self._table.rules is not rules:
            hello = self._connection.hello
            assert hello is not None
            own: dict[type, Handler] = {
                Verify: self._verify,
                FindTool: lambda ask: self._find_tool(rules, ask.tool),
                Record: lambda ask: record(self._parts, ask.entry, alone=ask.entry.durable and self._alone()),
                Perform: self._perform,
            }
            if self._connection.lineage is not None:
                own[Gather] = self._gather
            self._table = _Table(rules, {**handlers(self._parts, directory=hello.directory), **own})
        return self._table.handlers

    def _alone(self) -> bool:
        """Is one call being decided, on all connections, the first of this turn, and nothing more there on this one?"""
        connection = self._connection
        return self._point.undecided == 1 and not connection.unread and self._point.first_to_stand_still(connection)

    def _verify(self, ask: Verify) -> Subject:
        """Its own peer was verified when it was welcomed."""
        connection = self._connection
        if ask.proof is connection.peer and connection.subject is not None:
            return connection.subject
        return self._parts.identity.verify(ask.proof)

    def _gather(self, ask: Gather) -> Facts:
        """As everywhere, and what this instance brings into the task from its others."""
        hello, lineage = self._connection.hello, self._connection.lineage
        assert hello is not None
        assert lineage is not None
        return gather(self._parts, ask, hello.directory, seen_by(lineage, self._parts.state))

    def _find_tool(self, rules: Rules, name: str) -> Tool | None:
        hello = self._connection.hello
        assert hello is not None
        tool = find_tool(rules, name)
        if tool is None or tool is METHOD_TOOL:
            return tool
        if tool.server != hello.server:
            raise CannotDo(Reason.UNKNOWN_TOOL, f"this connection guards the server {hello.server}")
        if self._connection.quarantine.holds(tool):
            raise CannotDo(Reason.TOOL_CHANGED, "quarantined on this connection")
        if tool.id in rules.catalogue.duplicates():
            raise CannotDo(Reason.DUPLICATE_TOOL)
        return tool
