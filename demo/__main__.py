"""`make demo`: an agent is taken over by a file that it reads. First without Forestall, then with it."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
import tempfile
from pathlib import Path

from demo import guard
from demo.judge import Verdict, judge
from demo.play import play, require_tools
from demo.scene import Play
from demo.shop import lent
from demo.shop.database import missing, opened
from demo.show import Paint, Progress, report
from demo.sink import INTRANET_PAGE, site
from demo.world import World, build


def main() -> int:
    args = _arguments()
    if lacks := require_tools():
        print(f"demo: {lacks}", file=sys.stderr)
        return 69
    logging.getLogger("client").setLevel(logging.ERROR)  # it would remark on the calls that no honest client makes
    if lacks := missing():
        print(f"demo: the part at PostgreSQL is left out: {lacks}.", file=sys.stderr)
    root = Path(args.scratch).absolute() if args.scratch else Path(tempfile.mkdtemp(prefix="forestall-demo-"))
    try:
        verdict = asyncio.run(_both(root, quiet=args.json, shop=not lacks))
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001  # whatever it was, the reader wants a sentence and the log
        print(f"demo: it did not run to its end ({_cause(error)}); see {root}/*/servers.log", file=sys.stderr)
        return 70
    print(json.dumps(verdict.data, indent=2) if args.json else "\n".join(report(verdict, Paint.find(plain=args.plain))))
    return 0 if verdict.proved else 1


def _cause(error: BaseException) -> str:
    """The first error that is not just a group of others."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print data instead of a table")
    parser.add_argument("--plain", action="store_true", help="no colour")
    parser.add_argument("--scratch", metavar="DIR", help="a folder that does not exist yet (else a new temporary one)")
    args = parser.parse_args()
    if args.scratch and Path(args.scratch).exists():
        parser.error(f"{args.scratch} exists; name a folder that does not, and it will be made.")
    return args


async def _both(root: Path, *, quiet: bool, shop: bool) -> Verdict:
    _, without = await _one(root / "without", "1/2 without Forestall", quiet=quiet, shop=shop)
    world, guarded = await _one(root / "with", "2/2 with Forestall", quiet=quiet, shop=shop)
    return judge(world, without, guarded, guard.verify(world))


async def _one(root: Path, label: str, *, quiet: bool, shop: bool) -> tuple[World, Play]:
    """Both runs begin with the same world, Forestall's directory included; they differ in what starts the servers."""
    progress = Progress(label, quiet=quiet)
    with (
        site(INTRANET_PAGE) as intranet,
        site("Thank you.\n") as collector,
        opened(root, wanted=shop) as database,
    ):
        world = build(root, intranet, collector, database)
        guard.furnish(world)
        if world.shop:
            lent.furnish(world)
        try:
            return world, await play(world, progress, guarded=root.name == "with")
        finally:
            guard.stop(world)
            progress.end()


if __name__ == "__main__":
    sys.exit(main())
