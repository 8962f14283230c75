"""Make docs/demo.svg, the picture in the README, from what the demo really printed.

python -m demo --plain | python scripts/picture.py
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.sax.saxutils import escape

PICTURE = Path(__file__).resolve().parent.parent / "docs" / "demo.svg"

CHARACTER, LINE, SIZE, EDGE, BAR = 7.8, 18, 13, 18, 32
"""Pixels: a character's width and a line's height at this font size, the margin, the bar with the title."""

COLOURS = (
    (re.compile(r"HARM DONE|\bLOST\b|NOT proved\.|^!"), "bad"),
    (re.compile(r"\bprevented\b|(?<=\s\s)done(?=\s|$)|^Proved:.*"), "good"),
    (re.compile(r"not reached"), "odd"),
    (re.compile(r"(?<=prevented)\s+[a-z_]+$|^\s*-- .*"), "dim"),
    (re.compile(r"^\s*what the agent does.*"), "head"),
)
"""First come, first served, for each part of a line. The colours of the demo itself, which a pipe does not carry."""

STYLE = """\
.ground{fill:#fff}.frame{fill:none;stroke:#d0d7de}.bar{fill:#f6f8fa}.dot{fill:#d0d7de}
text{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#1f2328;white-space:pre}
.bad{fill:#cf222e;font-weight:600}.good{fill:#116329}.odd{fill:#9a6700}.dim{fill:#636c76}.head{font-weight:600}
@media(prefers-color-scheme:dark){.ground{fill:#0d1117}.frame{stroke:#30363d}.bar{fill:#161b22}.dot{fill:#30363d}
text{fill:#e6edf3}.bad{fill:#ff7b72}.good{fill:#56d364}.odd{fill:#e3b341}.dim{fill:#8d96a0}}"""


def shown(printed: str) -> list[str]:
    """The part that fits a picture: the table, the two counts, the verdict. The rest is paths and policy."""
    lines = [line.rstrip() for line in printed.splitlines()]
    starts = [number for number, line in enumerate(lines) if line.strip().startswith("what the agent does")]
    counts = [line for line in lines if re.match(r"With(out)? Forestall: +\d+ of \d+ ", line)]
    verdicts = [line for line in lines if line.startswith(("Proved:", "NOT proved."))]
    if len(starts) != 1 or len(counts) != 2 or len(verdicts) != 1:
        raise ValueError("This is not what the demo prints; run `python -m demo --plain`.")
    rest = lines[starts[0] :]
    table = rest[: rest.index("")]
    return [*table, "", *counts, "", *verdicts]


def parts(line: str) -> Iterator[tuple[int, str, str]]:
    """Column, text and class of each run of a line that has one colour and no gap in it."""
    classes = [""] * len(line)
    for pattern, name in COLOURS:
        for found in pattern.finditer(line):
            if not any(classes[found.start() : found.end()]):
                classes[found.start() : found.end()] = [name] * (found.end() - found.start())
    for run in re.finditer(r"\S+(?: \S+)*", line):
        start = run.start()
        for column in range(start + 1, run.end() + 1):
            if column == run.end() or classes[column] != classes[start]:
                text = line[start:column]
                yield start + len(text) - len(text.lstrip()), text.strip(), classes[start]
                start = column


def picture(lines: list[str], command: str = "make demo") -> str:
    """An SVG of a terminal that shows `lines`. Fonts are the reader's own; dark where the reader's system is."""
    width = round(max(map(len, lines)) * CHARACTER + 2 * EDGE)
    height = BAR + len(lines) * LINE + 2 * EDGE
    size, named = f'width="{width}" height="{height}"', 'aria-labelledby="title desc"'
    counts = " ".join(" ".join(line.split()) + "." for line in lines if line.startswith("With"))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}" role="img" {named}>',
            f'<title id="title">{escape(command)}: what an agent does, without and with Forestall</title>',
            f'<desc id="desc">{escape(counts)} {escape(lines[-1])}</desc>',
            f"<style>{STYLE}</style>",
            f'<rect class="ground" {size} rx="8"/>',
            f'<path class="bar" d="M0 {BAR}V8a8 8 0 0 1 8-8h{width - 16}a8 8 0 0 1 8 8v{BAR - 8}z"/>',
            *(f'<circle class="dot" cx="{EDGE + 18 * n}" cy="{BAR // 2}" r="5"/>' for n in range(3)),
            f'<text class="dim" x="{EDGE + 60}" y="{BAR // 2 + 4}">$ {escape(command)}</text>',
            *_texts(lines),
            f'<rect class="frame" x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="8"/>',
            "</svg>\n",
        ]
    )


def _texts(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        y = BAR + EDGE + number * LINE + SIZE
        for column, text, name in parts(line):
            # Its length is given, so that columns stay columns in whichever font the reader has.
            place = f'x="{EDGE + column * CHARACTER:.1f}" y="{y}" textLength="{len(text) * CHARACTER:.1f}"'
            colour = f'class="{name}" ' if name else ""
            yield f"<text {colour}{place}>{escape(text)}</text>"


def main() -> int:
    try:
        lines = shown(sys.stdin.read())
    except ValueError as error:
        print(f"picture: {error}", file=sys.stderr)
        return 65
    PICTURE.write_text(picture(lines))
    print(f"{PICTURE.name}: {len(lines)} lines")
    return 0


if __name__ == "__main__":
    sys.exit(main())
