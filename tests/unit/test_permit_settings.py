"""`[permits.SERVER]`: what is wrong is named with its file, its line and what to write."""

from __future__ import annotations

from pathlib import Path

import pytest

from forestall.config import load
from forestall.core.errors import SetupError
from forestall.home import Home
from forestall.permit_settings import PermitSettings


def test_a_server_that_demands_permits(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.config.write_text(
        '[permits.files]\naudience = "https://files.example/mcp"\n'
        '[permits."my.db"]\naudience = "urn:x-y:db"\ninstance = "a"\n'
    )
    assert load(home).permits == {
        "files": PermitSettings("https://files.example/mcp"),
        "my.db": PermitSettings("urn:x-y:db", "a"),
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("permits = 3", "write [permits.SERVER]"),
        ("[permits]\nfiles = 3", "is a section"),
        ("[permits.files]", "an http or https URL, or a URN"),
        ('[permits.files]\naudience = "files"', "forestall.toml:2: `audience` is an http"),
        ('[permits.files]\naudience = "https://u@files.example/"', "an http or https URL"),
        ('[permits.files]\naudience = "https://FILES.example:443"', 'write "https://files.example/"'),
        ('[permits.files]\naudience = "https://files.example/?q"', 'write "https://files.example/"'),
        ('[permits.files]\naudience = "urn:x"', "an http or https URL"),
        ('[permits.files]\naudience = "urn:xy:a"\ninstance = "a b"', "forestall.toml:3: `instance` has up to"),
        ('[permits.files]\naudiense = "urn:xy:a"', "did you mean `audience`"),
        ('[permits."a/b"]\naudience = "urn:xy:a"', "as the catalogue does"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, says: str) -> None:
    home = Home(tmp_path)
    home.config.write_text(text)
    with pytest.raises(SetupError) as raised:
        load(home)
    assert says in str(raised.value)
