"""A decision point that dies when it recorded a yes, before it answers: `python -m tests.flow.dying_approver HOME`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from forestall.cli import main
from forestall.server.connection import Connection

send = Connection.send


def dying(connection: Connection, frame: dict[str, Any]) -> None:
    if frame["type"] == "done":
        os.kill(os.getpid(), signal.SIGKILL)
    send(connection, frame)


if __name__ == "__main__":
    Connection.send = dying  # type: ignore[method-assign]
    sys.exit(main(["serve", "--home", sys.argv[1]]))
