"""Standing tokens in a client's configuration: found so that a person can move them, named and never shown."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence

from forestall.setup.client import TOKEN_IN_URL, Server

_NAME = re.compile(
    r"token(?!s|izer)|secret|passw(or)?d|passphrase|credential|(api|access|private)[_-]?key"
    r"|(^|[_-])(key|auth|pat|pwd)$|^authorization$",
    re.IGNORECASE,
)
_PREFIX = re.compile(
    r"gh[opsur]_|github_pat_|glpat-|sk-|[rs]k_(live|test)_|xox[abeprs]-|A(KIA|SIA)[A-Z0-9]|AIza|ya29\.|eyJ[A-Za-z0-9_-]{8}"
    r"|hf_|npm_|pypi-|dop_v1_|shpat_|sq0|AGE-SECRET-KEY-|-----BEGIN|Bearer .|Basic ."
)
_REFERENCE = re.compile(r"\s*\$\{[^}]*\}\s*|")
_RANDOM = re.compile(r"[A-Za-z0-9+=_.-]{20,}")

MIN_BITS = 3.5
"""Bits of entropy a character, above which 20 characters of letters and digits are taken for random."""


def find_tokens(server: Server) -> tuple[str, ...]:
    """Where the configuration of this server seems to hold a secret: the place, never the value."""
    named = (
        f"{kind} {name}"
        for kind, values in (("variable", server.environment), ("header", server.headers))
        for name, value in values.items()
        if _is_secret(name, value)
    )
    in_url = ("its URL",) if server.url and TOKEN_IN_URL.search(server.url) else ()
    return tuple(dict.fromkeys((*named, *in_url, *(place for _, place in _secret_words(server.command)))))


def shown_command(server: Server) -> str:
    """The command as a shell would take it, secrets left out, and nothing in it that a terminal would act on."""
    words = list(server.command)
    for number, _ in _secret_words(server.command):
        name, equals, _value = words[number].partition("=")
        words[number] = f"{name}=***" if words[number].startswith("-") and equals else "***"
    return printable(shlex.join(words))


def shown_url(server: Server) -> str:
    """Where it is, without what seems to be a secret: all of the address that is not its host and path."""
    url = server.url or ""
    if not TOKEN_IN_URL.search(url):
        return printable(url)
    scheme, _, rest = url.partition("://")
    place = rest.partition("?")[0]
    return printable(f"{scheme}://{place.rpartition('@')[2]}{'?***' if '?' in rest else ''}")


def printable(text: str) -> str:
    """The text with everything that does not print as an escape."""
    return "".join(c if c.isprintable() else f"<U+{ord(c):04X}>" for c in text)


def _secret_words(command: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The number of each word that seems to hold a secret, and what a person calls its place."""
    before = ""
    for number, word in enumerate(command[1:], 1):
        name, equals, value = word.partition("=")
        if word.startswith("-") and equals and _is_secret(name, value):
            yield number, f"argument {name}"
        elif before and not word.startswith("-") and _is_secret(before, word):
            yield number, f"argument {before}"
        elif not word.startswith("-") and _is_secret("", word):
            yield number, f"argument {number}"
        before = word if word.startswith("-") and not equals else ""


def _is_secret(name: str, value: str) -> bool:
    """By its name, by how it begins, or because it looks random. A reference to a variable is none."""
    if _REFERENCE.fullmatch(value):
        return False
    named = (
        bool(_NAME.search(name.lstrip("-")))
        and not value.startswith(("/", "~", "./"))
        and value not in ("true", "false")
    )
    return named or bool(_PREFIX.match(value) or TOKEN_IN_URL.search(value)) or _looks_random(value)


def _looks_random(value: str) -> bool:
    if not _RANDOM.fullmatch(value) or not (re.search(r"\d", value) and re.search("[A-Za-z]", value)):
        return False
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares) >= MIN_BITS and not _is_wordy(value)


def _is_wordy(value: str) -> bool:
    """Names of packages, files and versions are words between dots and dashes, not one run."""
    return max(len(part) for part in re.split(r"[._-]", value)) < 16
