"""To wait, on a loop, for a thread that asks a backend."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import Any


def shielded(future: Future[Any]) -> asyncio.Future[Any]:
    """To be awaited; who stops waiting does not stop the thread."""
    return asyncio.shield(asyncio.wrap_future(future))
