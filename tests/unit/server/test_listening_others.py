"""Who may connect to the socket: its owner, and others only where the owner lets users in."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.server.listening import Lock, listen


@pytest.mark.parametrize(("for_others", "mode"), [(False, 0o600), (True, 0o666)])
def test_others_may_connect_only_where_they_are_let_in(tmp_path: Path, mode: int, *, for_others: bool) -> None:
    lock = Lock.acquire(tmp_path / "lock")
    with listen(tmp_path / "socket", lock, for_others=for_others):
        assert (tmp_path / "socket").stat().st_mode & 0o777 == mode
    lock.release()
