"""Cedar text: its tokens and where they are, and a file cut into its policies.

Cedar's own errors name neither line nor column. Each policy is therefore parsed by itself, and the place of an error
found again in its tokens. Cutting decides nothing: what a piece means is always what Cedar's parser makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_TOKEN = re.compile(
    r"""
    (?P<skip> [^\S\x1c-\x1f]+ | //[^\n]* )
  | (?P<token> "(?:[^"\\]|\\.)*" | [A-Za-z_][A-Za-z0-9_]* | [0-9]+ | :: | && | \|\| | == | != | <= | >= | \?[a-z]+ | . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    start: int
    """Offset in characters from where the piece of text begins."""

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(frozen=True, slots=True)
class Piece:
    """The text of one policy, and where in its file it begins."""

    text: str
    line: int
    column: int

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, from 1, in the file."""
        before = self.text[:offset]
        breaks = before.count("\n")
        return self.line + breaks, len(before) - before.rfind("\n") if breaks else self.column + len(before)


def tokens(text: str) -> Iterator[Token]:
    for match in _TOKEN.finditer(text):
        if match.lastgroup == "token":
            yield Token(match.group(), match.start())


def cut(text: str) -> list[Piece]:
    """One piece a policy, its `;` included; what follows the last `;` is a piece as well, so that nothing is
    dropped.
    """
    whole, pieces = Piece(text, 1, 1), []
    start: int | None = None
    end = 0
    for token in tokens(text):
        start = token.start if start is None else start
        end = token.end
        if token.text == ";":
            pieces.append(Piece(text[start:end], *whole.place(start)))
            start = None
    if start is not None:
        pieces.append(Piece(text[start:end], *whole.place(start)))
    return pieces


def find(text: str, wanted: str) -> int | None:
    """Offset of the first token that is `wanted`, bare or as a string literal."""
    for token in tokens(text):
        if token.text in (wanted, f'"{wanted}"'):
            return token.start
    return None
