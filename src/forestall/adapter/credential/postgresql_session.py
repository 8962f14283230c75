"""A session at a PostgreSQL server, where everything has a deadline: beginning it, asking, and being answered."""

from __future__ import annotations

import select
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from forestall.core.errors import SetupError

try:
    from psycopg import Error, pq
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
except ImportError as _missing:  # pragma: no cover - the extra is there wherever tests run
    raise SetupError("PostgreSQL needs a client library: pip install 'forestall[postgresql]'.") from _missing

Row = tuple[str | None, ...]

_POLL_MS = 1000
"""A poll is never longer: what counts is the deadline."""


class Lost(Exception):
    """Nobody knows what the server did: it cannot be reached, does not answer in time, or went away."""


class Refused(Exception):
    """The server said no, and did nothing."""

    def __init__(self, state: str, sentence: str) -> None:
        super().__init__(sentence)
        self.state = state
        """SQLSTATE (PostgreSQL, appendix A); of the functions that the setup script makes, `FS` and three digits."""


class Session:
    """One connection, used by one thread at a time. What raised Lost is closed."""

    def __init__(self, parameters: Mapping[str, str], deadline: float) -> None:
        """`parameters` as libpq knows them; `deadline` as `time.monotonic`. Raises Lost, or Refused where the server
        does not let it in.
        """
        try:
            self._connection = pq.PGconn.connect_start(make_conninfo("", **parameters).encode())
        except Error:
            raise Lost("the library cannot begin a connection; look at `dsn`") from None
        with self._closing():
            self._begin(deadline)

    @property
    def usable(self) -> bool:
        """Nothing came from the server while it was idle, neither its end nor a word before it."""
        if self._connection.status != pq.ConnStatus.OK:
            return False
        poll = select.poll()
        poll.register(self._connection.socket, select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)

    def ask(self, statement: str, values: tuple[str | None, ...], deadline: float) -> list[Row]:
        """One statement, a transaction of its own. Raises Lost, Refused."""
        with self._closing():
            encoded = [None if each is None else each.encode() for each in values]
            try:
                self._connection.send_query_params(statement.encode(), encoded)
                while self._connection.flush():
                    self._wait(select.POLLOUT | select.POLLIN, deadline)
                    self._connection.consume_input()
                result = self._answer(deadline)
            except Error:
                raise Lost("the connection was lost") from None
        return _rows(result)

    def close(self) -> None:
        self._connection.finish()

    def _begin(self, deadline: float) -> None:
        connection = self._connection
        if connection.status == pq.ConnStatus.BAD:
            raise Lost("the server cannot be reached")
        waits: dict[int, int] = {pq.PollingStatus.READING: select.POLLIN, pq.PollingStatus.WRITING: select.POLLOUT}
        going: int = pq.PollingStatus.WRITING
        while going != pq.PollingStatus.OK:
            if going not in waits:
                raise Lost(_why_not(connection))
            self._wait(waits[going], deadline)
            going = connection.connect_poll()
        connection.nonblocking = 1

    def _answer(self, deadline: float) -> pq.abc.PGresult:
        """The first result; there is no other, but what follows has to be taken."""
        first: pq.abc.PGresult | None = None
        while True:
            while self._connection.is_busy():
                self._wait(select.POLLIN, deadline)
                self._connection.consume_input()
            result = self._connection.get_result()
            if result is None:
                break
            first = first or result
        if first is None or self._connection.status != pq.ConnStatus.OK:
            raise Lost("the connection was lost")
        return first

    def _wait(self, events: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._connection.socket, events)
        while True:
            left_ms = int((deadline - time.monotonic()) * 1000)
            if left_ms <= 0:
                raise Lost("the server did not answer in time")
            if poll.poll(min(left_ms, _POLL_MS)):
                return

    @contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise


def parse_dsn(text: str) -> dict[str, str]:
    """`key=value ...` or `postgresql://...` (PostgreSQL, 34.1.1). Raises ValueError, which does not quote it."""
    try:
        found = conninfo_to_dict(text)
    except Error:
        raise ValueError("it is no connection string; write `host=... port=... user=...`") from None
    return {key: str(value) for key, value in found.items()}


def _rows(result: pq.abc.PGresult) -> list[Row]:
    if result.status not in {pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK}:
        state = result.error_field(pq.DiagnosticField.SQLSTATE) or b""
        sentence = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        raise Refused(state.decode(errors="replace"), sentence.decode(errors="replace"))
    columns = range(result.nfields)
    return [tuple(_text(result.get_value(row, column)) for column in columns) for row in range(result.ntuples)]


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode(errors="replace")


def _why_not(connection: pq.abc.PGconn) -> str:
    """The server's or the library's first line, which names hosts and roles and holds no password."""
    lines = connection.get_error_message().splitlines()
    return lines[0][:300] if lines else "the server cannot be reached"
