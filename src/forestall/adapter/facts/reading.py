"""Every path that a string could be read as, by a tool server or by a shell that one starts. Pure text, no disk.

Better one reading too many: a reading that leads to Forestall's own files is a denial, one that was missed is a way in.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from posixpath import normpath
from urllib.parse import unquote

MAX_DECODINGS = 3
"""Rounds of percent-decoding that a chain of clients and servers may plausibly do."""

PATH_MAX = 4096
"""Bytes that the kernel takes as a path (limits.h)."""

MAX_TOKENS = 512
"""Different words of one string that are looked at. More is not a command that anyone could have reviewed."""

_WEB = re.compile(r"(?i)(?:https?|wss?)://[^/]")
_AUTHORITY = re.compile(r"(?i)[a-z][a-z0-9+.-]*://[^/]*(?=/)")
_PLAIN = re.compile(r"[A-Za-z0-9_./~][A-Za-z0-9_./-]*")
_PROSE = re.compile(r"[^\s/~.$%\\][^/~$%\\]*?\s")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)\})")
_GLUED = re.compile(r"[-+][^/~\\%]*(?=[/~\\%])|[^/~\\%]+(?=~)")
_QUOTES = str.maketrans("", "", "'\"\\")
_SPLIT = re.compile(r"[\s;|&<>()'\"`]+")
_SUBSPLIT = re.compile(r"[=,:@!#\[\]{}]+")
_PATHLIKE = re.compile(r"[/~\\%]")
_MAYBE_PATH = re.compile(r"[/~\\%]|(?:^|[^\w)])\.")


class Unresolvable(Exception):
    """Nobody can say what the string names."""


def readings(text: str, variables: Mapping[str, str]) -> Iterator[str]:
    """The paths, relative or absolute, that the whole of `text` may name.

    Raises:
        Unresolvable: it is encoded more often than anyone honest encodes.
    """
    if is_plain(text):
        yield text
        return
    seen: set[str] = set()
    fresh = [text]
    for _ in range(MAX_DECODINGS + 2):
        forms = {form for known in fresh for form in _forms(known, variables)} - seen
        seen |= forms
        yield from forms
        fresh = [form for form in forms if "%" in form or "\\" in form or "$" in form or not form.isascii()]
        if not fresh:
            return
    if any(unquote(form) != form for form in fresh):
        raise Unresolvable


def is_plain(text: str) -> bool:
    """Can it be read in one way only, and is it a single word? Most paths are."""
    return _PLAIN.fullmatch(text) is not None


def is_web(text: str) -> bool:
    """Is it an address on the web, and would not be a path even to a server that takes it for one?"""
    return _WEB.match(text) is not None and ".." not in text and "%2e" not in text.lower() and "%25" not in text


def is_prose(text: str) -> bool:
    """Is there a space between words before anything that makes a path?"""
    return _PROSE.match(text) is not None


def _forms(text: str, variables: Mapping[str, str]) -> Iterator[str]:
    if is_web(text):
        return
    yield text
    if (stripped := text.strip(" \t\r\n'\"")) != text:
        yield stripped
    if "\0" in text:
        yield text.partition("\0")[0]
    if "%" in text:
        yield unquote(text)
    if "\\" in text:
        yield text.replace("\\", "/")
    if "$" in text:
        yield expand(text, variables)
    if not text.isascii():
        yield unicodedata.normalize("NFKC", text)
    if ":" in text:
        if authority := _AUTHORITY.match(text):
            yield text[authority.end() :]
        yield text.partition(":")[2]
        yield text.rpartition(":")[2]
    if "?" in text or "#" in text:
        yield re.split(r"[?#]", text, maxsplit=1)[0]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """With the variables that are known put in; the others stay."""
    return _VARIABLE.sub(lambda found: variables.get(found[1] or found[2], found[0]), text)


def tokens(text: str, *, every: bool) -> set[str]:
    """The words of a string that a shell, or code, could take as paths. `every`: also those that do not look like one.

    Raises:
        Unresolvable: there are too many to look at.
    """
    words: set[str] = set()
    if not every and not _MAYBE_PATH.search(text):
        return words
    for variant in {text, text.translate(_QUOTES)}:
        for word in set(_SPLIT.split(variant)):
            _add(word, words, every=every)
            if len(words) > MAX_TOKENS:
                raise Unresolvable
    return words


def _add(word: str, words: set[str], *, every: bool) -> None:
    if is_web(word):
        return
    if not every and not _PATHLIKE.search(word) and not word.startswith("."):
        return
    for part in {word, *_SUBSPLIT.split(word)}:
        if part:
            words.add(part)
            if glued := _GLUED.match(part):
                words.add(part[glued.end() :])


def unknown_to_a_shell(text: str, variables: Mapping[str, str]) -> bool:
    """Would a shell put something into the string that cannot be known from here?"""
    return "`" in text or "$" in expand(text, variables)


def absolute(path: str, directory: str, home: str) -> set[str]:
    """The absolute forms of a path: as the kernel walks it, and as a server that normalises it first would see it.

    Raises:
        Unresolvable: it is relative, looks like a path, and nobody said where it starts.
    """
    if path == "~" or path.startswith("~/"):
        path = home + path[1:]
    if not path.startswith("/"):
        if not directory:
            if "/" in path or path.startswith("."):
                raise Unresolvable
            return set()
        path = f"{directory}/{path}"
    plain = normpath(path)
    plain = plain[1:] if plain.startswith("//") else plain
    forms = {path, plain} if ".." in path else {plain}
    return {form for form in forms if len(form.encode(errors="surrogatepass")) <= PATH_MAX}
