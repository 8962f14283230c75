"""`forestall prove`: evidence of one entry, for somebody who does not have the ledger."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from forestall.adapter.ledger.keys import LOG_PUBLIC, load_verifiers
from forestall.adapter.ledger.proof import prove
from forestall.adapter.ledger.reader import LogReader
from forestall.core.entry import Kind
from forestall.core.errors import InvalidInput, Unavailable, cure
from forestall.home import Home

EPILOG = """\
examples:
  forestall prove 7Qd0c2 --out push.tlog-proof
  forestall-verify --proof push.tlog-proof --key log.pub

The proof is a C2SP tlog-proof. It carries the entry, which holds no argument and no secret, in its `extra` line.
Whoever checks it needs the verifier key, keys/log.pub, from a source that they trust.
"""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Export the proof that an entry is in the ledger."
    parser.epilog = EPILOG
    parser.add_argument("id", metavar="ID", help="of a decision or a task, as `forestall log` shows it")
    parser.add_argument("--kind", choices=[kind.value for kind in Kind], help="which entry, where an id has several")
    parser.add_argument("--out", metavar="FILE", type=Path, help="a new file, by custom *.tlog-proof (else: print it)")


def run(args: argparse.Namespace) -> int:
    home = Home.find(args.home)
    reader = LogReader(home.ledger)
    found = [one for one in reader.find(args.id) if args.kind in (None, one.body.get("kind"))]
    if not found:
        what = f" of kind {args.kind}" if args.kind else ""
        raise InvalidInput(f"The ledger has no entry{what} with the id {args.id!r}; `forestall log` lists them.")
    proof = prove(reader, found[0].position, load_verifiers(home.keys / LOG_PUBLIC))
    if args.out is None:
        sys.stdout.write(proof.decode())
        return 0
    _write_new(args.out, proof)
    print(f"Wrote {args.out}. Check it with: forestall-verify --proof {args.out} --key {home.keys / LOG_PUBLIC}")
    return 0


def _write_new(path: Path, content: bytes) -> None:
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError:
        raise InvalidInput(f"{path} exists; choose another name.") from None
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {cure(error)}.") from None
