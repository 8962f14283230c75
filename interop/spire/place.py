"""Executables that SPIRE can tell apart, and processes of them that can be asked."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sysconfig
import venv
from pathlib import Path
from typing import Any

from interop.daemon import WITH_US

ROOT = Path(__file__).resolve().parents[2]
END_S = 30.0
"""Seconds that a workload has to end once nobody asks any more."""


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


class Process:
    """A program in a process of `executable`. Speaks to the agent at `endpoint` for as long as it runs."""

    def __init__(self, executable: Executable, endpoint: str, program: str = "interop.spire.workload") -> None:
        self._process = subprocess.Popen(
            [*WITH_US, str(executable.path), "-m", program, endpoint],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **PACKAGES},
            start_new_session=True,
        )

    def ask(self, name: str, **asked: Any) -> dict[str, Any]:
        assert self._process.stdin is not None, "asked for above"
        assert self._process.stdout is not None, "asked for above"
        self._process.stdin.write(json.dumps({"ask": name, **asked}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("The workload ended; its complaint is above.")
        answer: dict[str, Any] = json.loads(line)
        return answer

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

    def stop(self) -> None:
        assert self._process.stdin is not None, "asked for above"
        assert self._process.stdout is not None, "asked for above"
        self._process.stdin.close()
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
