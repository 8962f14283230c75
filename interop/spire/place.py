"""Executables that SPIRE can tell apart, and processes of them that can be asked."""

from __future__ import annotations

import hashlib
import os
import sysconfig
import venv
from pathlib import Path
from typing import Any

from interop.program import ROOT, Program


class Executable:
    """A Python interpreter of its own: another path, and other bytes, than any other's."""

    def __init__(self, folder: Path) -> None:
        builder = venv.EnvBuilder(symlinks=False, with_pip=False)
        builder.create(folder)
        self.path = Path(builder.ensure_directories(folder).env_exe).resolve()
        with self.path.open("ab") as file:  # behind the program's end, where nothing reads it
            file.write(folder.name.encode())

    @property
    def by_path(self) -> str:
        return f"unix:path:{self.path}"

    @property
    def by_digest(self) -> str:
        return f"unix:sha256:{hashlib.sha256(self.path.read_bytes()).hexdigest()}"


PACKAGES = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src"), sysconfig.get_path("purelib")])}
"""For an interpreter of its own, which has none installed."""


class Process(Program):
    """A program in a process of `executable`. Speaks to the agent at `endpoint` for as long as it runs."""

    def __init__(self, executable: Executable, endpoint: str, program: str = "interop.spire.workload") -> None:
        super().__init__([str(executable.path), "-m", program, endpoint], PACKAGES)

    def live(self) -> None:
        """Until it has heard everything.

        Raises:
            AssertionError: it has not in time.
        """
        state = self.ask("state", until={"live": True, "problems": []})
        assert state["live"], state

    def svid(self, **asked: Any) -> dict[str, Any]:
        return self.ask("svid", **asked)

    def token(self, audience: str) -> str:
        answer = self.ask("token", audience=audience)
        assert answer["token"], answer
        return str(answer["token"])
