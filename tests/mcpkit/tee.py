"""Stand between a client and a command, change nothing, and write down every line: `tee.py LOG COMMAND...`."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path


def copy(source: int, sink: int, log: str) -> None:
    """Byte for byte and unbuffered, and the end as well."""
    with Path(log).open("wb", buffering=0) as record:
        while chunk := os.read(source, 65536):
            record.write(chunk)
            view = memoryview(chunk)
            while view:
                view = view[os.write(sink, view) :]
    os.close(sink)


def main() -> int:
    log, *command = sys.argv[1:]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    feed = threading.Thread(target=copy, args=(0, os.dup(child.stdin.fileno()), log + ".in"), daemon=True)
    child.stdin.close()
    feed.start()
    copy(child.stdout.fileno(), os.dup(1), log + ".out")
    return child.wait()


sys.exit(main())
