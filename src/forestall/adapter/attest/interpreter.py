"""Which executables run whatever they are given. Their digest says which language, and not which program.

By name, and by a declared list. A copy under another name is not recognised unless its digest is declared, and neither
is a program that carries its runtime and can be told by its environment to run something else (NODE_OPTIONS,
BUN_BE_BUN): that matters only to an owner who takes such a digest for somebody's identity, and who has to declare it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from forestall.core.errors import SetupError

MAX_SCRIPT = 1024
"""Characters of a script's path that are recorded."""

_SHELLS = "sh bash rbash dash ash zsh ksh mksh pdksh fish csh tcsh nu elvish xonsh pwsh busybox toybox"
_LANGUAGES = (
    "python pypy perl ruby jruby node nodejs deno bun php php-cgi php-fpm lua luajit tclsh wish expect r rscript julia "
    "octave guile racket sbcl clisp gjs awk gawk mawk nawk groovy elixir erl erlexec escript runghc ocaml swipl jshell"
)
_EDITORS = "code code-insiders code-oss codium cursor windsurf electron"
"""With ELECTRON_RUN_AS_NODE set, each of them is Node."""
_MACHINES = "java javaw dotnet mono mono-sgen wasmtime wasmer beam.smp wine wine64 box64 fexinterpreter"
_TOOLS = "emacs vim nvim gdb lldb"

_NAMES = "|".join(map(re.escape, f"{_SHELLS} {_LANGUAGES} {_EDITORS} {_MACHINES} {_TOOLS}".split()))
_VERSIONED = re.compile(f"(?:{_NAMES})(?:[-.]?[0-9][0-9a-z._]*)?(?:-(?:c|dbg|debug|static|preloader|cgi|fpm))?")
_LOADERS = re.compile(r"ld(?:-[0-9a-z_.-]+)?\.so(?:\.[0-9]+)?|qemu-.+")
"""The dynamic loader runs the program that it is named; so does an emulator."""

_INLINE = re.compile("-|--eval|--print|-[A-Za-z]*[ceEpr]")
"""What follows is the program itself, or comes from standard input. Nothing of it is recorded: it may hold a secret."""
_PATH = re.compile(r"[\w./@+~ -]+")
"""What is no such thing may be the program too, as awk takes it."""
_VALUED = frozenset({"-W", "-X", "-cp", "-classpath", "--class-path", "--require", "--import", "--loader"})
"""Options of Python, Java and Node that take the next argument."""


@dataclass(frozen=True, slots=True)
class Interpreters:
    """`declared`: further ones, each a name (`*` and `?` as in a shell), an absolute path, or `sha256:` and its digest.

    Raises:
        SetupError: an entry is none of these.
    """

    declared: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for entry in self.declared:
            digest = re.fullmatch("sha256:[0-9a-f]{64}", entry)
            if not entry or (("/" in entry or ":" in entry) and not (entry.startswith("/") or digest)):
                raise SetupError(f"{entry!r} is no interpreter's name, absolute path, or sha256: digest.")

    def includes(self, path: str, digest: str) -> bool:
        """Is this one? `path` as the kernel tells it; without a name, it counts as one."""
        name = path.rpartition("/")[2]
        folded = name.lower()
        if not name or _VERSIONED.fullmatch(folded) or _LOADERS.fullmatch(folded):
            return True
        return any(entry in {path, digest} or fnmatchcase(name, entry) for entry in self.declared)


def script_of(arguments: Sequence[str]) -> str:
    """The script that a command line names; empty where it names none, or the program stands in the line itself."""
    rest = iter(arguments[1:])
    for argument in rest:
        if argument in _VALUED:
            next(rest, None)
        elif argument in {"-m", "-jar"}:
            return _shown(next(rest, ""))
        elif _INLINE.fullmatch(argument):
            return ""
        elif not argument.startswith("-"):
            return _shown(argument)
    return ""


def _shown(text: str) -> str:
    return text if len(text) <= MAX_SCRIPT and _PATH.fullmatch(text) else ""
