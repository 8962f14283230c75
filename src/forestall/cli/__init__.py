"""The command line. One file per command; a command is imported only when it is called."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, Protocol, cast

from forestall.core.errors import ForestallError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

COMMANDS = {
    "init": "propose a catalogue and a policy for a client's servers, and guard them",
    "status": "show what is guarded, by which policy, and what is not",
    "gateway": "run one MCP server behind the decision point",
    "serve": "run the decision point of this machine",
    "task": "open, hand on, take over and end tasks, as an agent elsewhere does",
    "keys": "show or rotate the keys that grants and permits are signed with",
    "credentials": "print what an administrator runs where credentials are made",
    "tasks": "show the tasks that are open, and the orders that stand",
    "leases": "show the credentials that may be alive, and those that have ended",
    "kill": "end tasks at once",
    "suspend": "give no permits to tasks until they are resumed",
    "resume": "take back a suspension, or what keeps tasks from being opened",
    "risk": "say how far tasks are to be trusted",
    "check": "validate policy, catalogue, mandates, credentials, keys and configuration",
    "test": "run policy tests",
    "approvals": "list held calls that wait for a person",
    "approve": "show a held call in full, and approve exactly it",
    "deny": "decline a held call, for good",
    "log": "read the ledger",
    "explain": "say why a decision was what it was",
    "prove": "export the proof that an entry is in the ledger",
}

EXIT_CODES = """\
exit codes:
  0   done; for check and test: nothing wrong
  1   check found problems, or a test failed
  2   the command line is wrong
  65  input is malformed, too large or ambiguous
  69  the decision point, the ledger or a server cannot be used now
  70  a fault of Forestall's own
  76  the ledger, a key or a checkpoint does not verify
  77  refused: denied, or held for approval
  78  configuration, policy, catalogue, mandate or key is missing or malformed
  126 the command of a server cannot be executed
  127 the command of a server was not found
  130 interrupted
"""


class Command(Protocol):
    """What each module of this package offers."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add arguments, `description` and `epilog` (with examples)."""
        ...

    def run(self, args: argparse.Namespace) -> int:
        """Do it; the exit code."""
        ...


class WrongCommandLine(ForestallError):
    """What was asked for cannot be understood."""

    exit_code = 2


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, and takes no option for the beginning of another."""

    asked_for: str | None = None
    """The command, whose help says more than that of the whole."""

    def error(self, message: str) -> NoReturn:
        about = self.prog if self.asked_for is None else f"{self.prog} {self.asked_for}"
        raise WrongCommandLine(f"{message.removeprefix('argument ')}; see {about} --help.")


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    name = words[0] if words and words[0] in COMMANDS else None
    try:
        if words and name is None:
            _require_command(words[0])
        parser = _parser(name)
        args = parser.parse_args(words)
        if name is None:
            parser.print_help()
            return WrongCommandLine.exit_code
        return _run(_load(name), args)
    except ForestallError as error:
        _say(str(error))
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        return 130
    except Exception as error:  # noqa: BLE001 - the last resort: a bug has a code of its own, and shows no secret
        _say(_fault(error))
        return ForestallError.exit_code


def _say(sentence: str) -> None:
    """Standard error may be a file on a disk that is full; the exit code says it even so."""
    with suppress(OSError):
        print(f"forestall: {sentence}", file=sys.stderr)


def _require_command(word: str) -> None:
    """Raises WrongCommandLine where the first word is neither a command nor an option."""
    if word.startswith("-"):
        return
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, 1)
    hint = f"did you mean {near[0]}?" if near else "see forestall --help."
    raise WrongCommandLine(f"there is no command {word!r:.80}; {hint}")


def _fault(error: Exception) -> str:
    """Where it happened, and no message: that may hold what an agent sent."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" at {os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno}" if trace else ""  # noqa: PTH119 - a name is all that is wanted
    return f"A fault of Forestall's own: {type(error).__name__}{place}; please report it."


def _run(command: Command, args: argparse.Namespace) -> int:
    code = command.run(args)
    sys.stdout.flush()  # here, where a reader that has gone is not an error yet
    return code


def _parser(name: str | None) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="forestall",
        description="Decides every tool call of an AI agent before it happens.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.asked_for = name
    parser.add_argument("--version", action="version", version=_version())
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command, summary in COMMANDS.items():
        sub = commands.add_parser(
            command, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        home = "Forestall's directory (else $FORESTALL_HOME, else ~/.forestall)"
        sub.add_argument("--home", metavar="DIR", help=home)
        if command == name:
            _load(command).configure(sub)
    return parser


def _load(name: str) -> Command:
    return cast("Command", importlib.import_module(f"forestall.cli.{name}"))


def _version() -> str:
    from forestall import __version__

    return f"forestall {__version__}"
