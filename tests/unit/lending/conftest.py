"""A home for each test, with a backend of files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from forestall.home import Home
from tests.backends import Desk, install
from tests.unit.lending.books import Books


@pytest.fixture(autouse=True)
def _backends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(install(tmp_path / "site")))


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.keys.mkdir(parents=True)
    return home


@pytest.fixture
def desk(home: Home) -> Desk:
    return Desk(home.root / "desk")


@pytest.fixture
def books_of(home: Home) -> Iterator[Callable[..., Books]]:
    made: list[Books] = []

    def books(more: str = "", **settings: Any) -> Books:
        made.append(Books(home, more, **settings))
        return made[-1]

    yield books
    for one in made:
        one.lending.close()
