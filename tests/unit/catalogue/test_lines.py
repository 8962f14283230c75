from __future__ import annotations

import pytest

from forestall.catalogue.lines import find_line

TEXT = """\
format = 1
[tools.send]  # a remark
effects = ["x"]
output.integrity = "y"
[tools."a b"]
"c d" = [
  "effects = 1",
]
[tools.send.from]
effects = "z"
[[list]]
[broken
"""


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("format",), 1),
        (("tools", "send"), 2),
        (("tools", "send", "effects"), 3),
        (("tools", "send", "output", "integrity"), 4),
        (("tools", "a b"), 5),
        (("tools", "a b", "c d"), 6),
        (("tools", "send", "from", "effects"), 10),
        (("list",), 11),
        (("tools", "send", "missing"), 2),
        (("nowhere",), 1),
        ((), 1),
    ],
)
def test_the_line_of_a_key_or_of_what_is_around_it(path: tuple[str, ...], line: int) -> None:
    assert find_line(TEXT, *path) == line
