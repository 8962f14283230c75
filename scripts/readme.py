"""Keep the documents equal to the program: what a document shows of it, it did print.

    <!-- output: forestall gateway --help -->        what this command prints, in the fenced block below
    <!-- table: bench/results.json -->               the measurements in this file, in the table below

`--check` says where they differ; `--write` puts them right.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COLUMNS = 80
SECONDS = 60
PROGRAMS = ("forestall", "forestall-verify", "forestall-edge")
"""Found beside this Python. Nothing else is run, because a document is not a script."""
MAKE_TARGETS = "make help"

OUTPUT = re.compile(
    r"^(<!-- output: (?P<command>.+?) -->\n```\w*\n)(?P<shown>.*?)(?P<end>^```$)", re.MULTILINE | re.DOTALL
)
TABLE = re.compile(r"^(<!-- table: (?P<file>.+?) -->\n\n)(?P<shown>(?:\|.*\n)*)(?P<end>)", re.MULTILINE)
MARKER = re.compile(r"^<!-- (?:output|table): .*$", re.MULTILINE)

Render = Callable[[str], str]


class Wrong(Exception):
    """A document asks for what cannot be made."""


def documents(root: Path = ROOT) -> Iterator[Path]:
    yield from sorted(root.glob("*.md"))
    yield from sorted((root / "docs").rglob("*.md"))


def output(command: str) -> str:
    """What a command prints, eighty columns wide.

    Raises:
        Wrong: it is not one of ours, or it failed.
    """
    words = shlex.split(command)
    if command == MAKE_TARGETS:
        words = ["make", "--silent", "--no-print-directory", "help"]
    elif words and words[0] in PROGRAMS:
        words[0] = str(Path(sys.executable).parent / words[0])
    else:
        raise Wrong(f"`{command}` is not run; only {', '.join(PROGRAMS)} and `{MAKE_TARGETS}` are.")
    # Plain text, whoever asks: no colour, no terminal, and not the settings of a make that runs us.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "FORESTALL"))}
    kept |= {"COLUMNS": str(COLUMNS), "NO_COLOR": "1", "PYTHON_COLORS": "0", "TERM": "dumb", "HOME": "/home/you"}
    try:
        done = subprocess.run(words, cwd=ROOT, env=kept, capture_output=True, text=True, timeout=SECONDS, check=False)  # noqa: S603  # ours alone, see above
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Wrong(f"`{command}` could not be run: {error}.") from None
    if done.returncode != 0:
        raise Wrong(f"`{command}` ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.strip("\n").splitlines())


def table(file: str) -> str:
    """The measurements in `file` as bench/run.py shows them."""
    spec = importlib.util.spec_from_file_location("bench_run", ROOT / "bench" / "run.py")
    if spec is None or spec.loader is None:
        raise Wrong("bench/run.py cannot be read.")
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_run"] = module
    spec.loader.exec_module(module)
    try:
        return str(module.markdown(json.loads((ROOT / file).read_text())))
    except (OSError, ValueError, KeyError) as error:
        raise Wrong(f"{file} holds no measurements: {error!r}; make it with `make bench-keep`.") from None


def renew(text: str, render_output: Render = output, render_table: Render = table) -> str:
    """`text`, with every marked block as it should be.

    Raises:
        Wrong: a marker without a block below it, or a block that cannot be made.
    """
    marked = len(OUTPUT.findall(text)) + len(TABLE.findall(text))
    if marked != len(MARKER.findall(text)):
        raise Wrong("a marker has no block right below it, or no end.")
    text = OUTPUT.sub(lambda found: found[1] + render_output(found["command"]) + found["end"], text)
    return TABLE.sub(lambda found: found[1] + render_table(found["file"]) + found["end"], text)


def same(shown: str, real: str) -> bool:
    """Equal word for word. Python versions break the lines of a usage, and write short options, in different ways."""
    return _plain(shown) == _plain(real)


def _plain(text: str) -> str:
    text = re.sub(r"(?<!\S)(-\w) (\S+), (--[\w-]+) \2", r"\1, \3 \2", text)
    return " ".join(text.split())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--check", action="store_true", help="say where a document differs from the program")
    what.add_argument("--write", action="store_true", help="put the documents right")
    args = parser.parse_args()
    problems = 0
    for file in documents():
        text = file.read_text()
        try:
            real = renew(text)
        except Wrong as error:
            real, problems = text, problems + 1
            print(f"{file.relative_to(ROOT)}: {error}", file=sys.stderr)
        if args.write and real != text:
            file.write_text(real)
        elif not same(text, real):
            problems += 1
            print(f"{file.relative_to(ROOT)}: differs from the program; run `make format`.", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
