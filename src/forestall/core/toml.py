"""TOML that people write: a table, or where it is wrong."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from forestall.core.errors import SetupError

_PLACE = re.compile(r" \(at line (\d+), column (\d+)\)$")


def parse_toml(text: str, file: object) -> dict[str, Any]:
    """What `text` holds; `file` is what an error calls it.

    Raises:
        SetupError: it is not TOML; says line and column where they are known.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = _PLACE.search(str(error))
        where = f":{place[1]}:{place[2]}" if place else ""
        raise SetupError(f"{file}{where}: This is not TOML: {_PLACE.sub('', str(error)).rstrip('.')}.") from None
    except RecursionError:
        raise SetupError(f"{file}: This is not TOML: it nests too deep.") from None
