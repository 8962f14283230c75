"""What is seen in the terminal. Colour only where there is one; nothing here decides anything."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from demo.guard import program
from demo.judge import Verdict
from demo.play import scenes_of
from demo.scene import Play, Scene, Took

RED, GREEN, YELLOW, DIM, BOLD = "31", "32", "33", "2", "1"
TITLE, CELL = 44, 12


@dataclass(frozen=True, slots=True)
class Paint:
    on: bool

    @classmethod
    def find(cls, *, plain: bool) -> Paint:
        return cls(not plain and "NO_COLOR" not in os.environ and sys.stdout.isatty())

    def __call__(self, text: str, colour: str) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.on else text


class Progress:
    """On standard error: one line that is rewritten on a terminal, one line a run elsewhere."""

    def __init__(self, label: str, *, quiet: bool) -> None:
        self._label = label
        self._live = sys.stderr.isatty() and not quiet
        if not quiet and not self._live:
            print(f"{label} ...", file=sys.stderr, flush=True)

    def __call__(self, doing: str) -> None:
        if self._live:
            print(f"\r\x1b[K{self._label}: {doing}", end="", file=sys.stderr, flush=True)

    def end(self) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def report(verdict: Verdict, paint: Paint) -> Iterable[str]:
    home = verdict.world.forestall_home
    yield ""
    yield from _table(scenes_of(verdict.world), verdict.without, verdict.guarded, paint)
    yield ""
    yield from _summary(verdict.without, verdict.guarded)
    yield ""
    if verdict.guarded.shown:
        yield paint("The credential at PostgreSQL", BOLD)
        yield from _credential(verdict.guarded)
        yield ""
    yield paint("The policy", BOLD)
    for file in sorted((home / "policy").glob("*.cedar")):
        yield textwrap.indent(file.read_text().rstrip(), "  ")
        yield ""
    yield paint("Where to look next", BOLD)
    yield from _next(verdict)
    yield ""
    yield f"The ledger: {verdict.ledger.said}"
    if verdict.world.shop is None:
        yield paint("Left out: the part at PostgreSQL, which this machine lacks.", YELLOW)
    yield from (paint(f"! {problem}", RED) for problem in verdict.problems)
    if verdict.proved:
        yield paint(
            "Proved: every harm happened without Forestall, none with it, and the honest task was done both times.",
            GREEN,
        )
    else:
        yield paint("NOT proved.", RED)


def _credential(guarded: Play) -> Iterable[str]:
    yield "  While the agent worked, forestall leases:"
    for line in guarded.shown.splitlines():
        yield textwrap.fill(line, 110, initial_indent=" " * 4, subsequent_indent=" " * 14, break_on_hyphens=False)
    yield "  The ledger:"
    for story in guarded.stories:
        yield f"    why        {story.subject}, {story.purpose!r}: permit {story.permit} of {story.tool}"
        if story.seconds is not None:
            yield f"    how long   {story.seconds:.1f} s"
            yield f"    gone       yes: {story.why}"
    alive = ", ".join(guarded.left)
    yield (
        f"  Still alive: {alive}"
        if alive
        else "  Still alive: nothing, say Forestall and PostgreSQL's own list of roles."
    )


def _next(verdict: Verdict) -> Iterable[str]:
    forestall, home = _short_path(program("forestall")), verdict.world.forestall_home
    yield f"  {forestall} log --home {home}"
    if verdict.denial:
        yield f"  {forestall} explain --home {home} {verdict.denial.answer.decision_id}   # {verdict.denial.step.title}"
    if verdict.guarded.stories:
        yield f"  {forestall} leases --ended --home {home}   # the credential at PostgreSQL"
    yield f"  {forestall} test --home {home}   # the policy's own tests"
    yield f"  {_short_path(verdict.ledger.command)}"
    yield f"  {verdict.world.root.parent} holds both worlds; delete it when you have seen enough."


def _short_path(text: str) -> str:
    """Relative to where the reader is, if it is below."""
    return text.replace(f"{Path.cwd()}{os.sep}", "")


def _table(scenes: Iterable[Scene], without: Play, guarded: Play, paint: Paint) -> Iterable[str]:
    yield paint(f"  {'what the agent does':{TITLE}} {'without':{CELL}} with Forestall", BOLD)
    for scene in scenes:
        if scene.title:
            yield paint(f"  -- {scene.title}", DIM)
        for step in scene.steps:
            yield _row(without.find(step.name), guarded.find(step.name), step.title, paint)


def _row(without: Took | None, guarded: Took | None, title: str, paint: Paint) -> str:
    mark = "!" if without and without.step.attack else " "
    cells = f"{_cell(without, paint, CELL)} {_cell(guarded, paint, CELL)}"
    return f"{mark} {title:{TITLE}} {cells} {_reason(guarded, paint)}".rstrip()


def _cell(took: Took | None, paint: Paint, width: int) -> str:
    if took is None:
        return paint(f"{'not reached':{width}}", YELLOW)
    if took.step.attack:
        text, colour = ("HARM DONE", RED) if took.happened else ("prevented", GREEN)
    else:
        text, colour = ("done", GREEN) if took.happened else ("LOST", RED)
    return paint(f"{text:{width}}", colour)


def _reason(took: Took | None, paint: Paint) -> str:
    reason = (took.answer.reason or took.answer.database) if took else ""
    return paint(reason, DIM) if reason else ""


def _summary(without: Play, guarded: Play) -> Iterable[str]:
    for label, play in (("Without Forestall", without), ("With Forestall", guarded)):
        attacks = [took for took in play.took if took.step.attack]
        honest = [took for took in play.took if not took.step.attack]
        yield (
            f"{label + ':':19}{sum(t.happened for t in honest)} of {len(honest)} honest steps done, "
            f"{sum(t.happened for t in attacks)} of {len(attacks)} attacks did harm"
        )
        what = ", ".join([*(_short(name) for name in play.changed), *play.leaked]) or "nothing"
        yield textwrap.fill(
            f"changed or leaked: {what}",
            100,
            initial_indent=" " * 19,
            subsequent_indent=" " * 21,
            break_on_hyphens=False,
        )


def _short(name: str) -> str:
    return name.removeprefix("file ").removeprefix("project/").replace("refs/heads/", "")
