"""Settings and mandates: what is wrong is named with its file, its line and what was probably meant."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forestall.config import Config, Serve, load, load_mandates, socket_path
from forestall.core.effects import Effect
from forestall.core.errors import SetupError
from forestall.home import Home
from forestall.permit_settings import PermitSettings
from forestall.risk_settings import RiskSettings

TABLES = {"risk", "permits"}
"""Of settings that there may be many of."""

MANDATE = """\
purpose = "Mend the build."
tools = ["git/*", "files/read_file"]
effects = ["read", "write"]
lifetime_minutes = 30

[budget]
write = 20
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def write(home: Home, text: str) -> None:
    home.config.write_text(text)


def mandate(home: Home, text: str, name: str = "default") -> Path:
    home.mandates.mkdir(parents=True, exist_ok=True)
    file = home.mandates / f"{name}.toml"
    file.write_text(text)
    return file


def test_without_a_file_every_setting_has_its_default(home: Home) -> None:
    assert load(home) == Config()


def test_what_is_set_is_read_and_the_rest_keeps_its_default(home: Home) -> None:
    write(home, '[serve]\nmax_asks = 3\nallowed_uids = [1000]\n[protect]\npaths = ["/srv/x"]\n')
    config = load(home)
    assert config.serve == Serve(max_asks=3, allowed_uids=(1000,))
    assert config.protect.paths == ("/srv/x",)
    assert config.ledger == Config().ledger


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("[serve]\n\nmax_ask = 3\n", 3, "unknown key `max_ask` in [serve]; did you mean `max_asks`?"),
        ("\n[serv]\nmax_asks = 3\n", 2, "unknown section `serv`; did you mean `serve`?"),
        ("serve = 3\n", 1, "write [serve] on a line of its own"),
        ("[serve]\nmax_asks = 0\n", 2, "`max_asks` is a whole number from 1 to 4096."),
        ("[serve]\nmax_asks = true\n", 2, "`max_asks` is a whole number"),
        ("[serve]\nmax_asks = 1.5\n", 2, "`max_asks` is a whole number"),
        ("[serve]\nsocket = 3\n", 2, "`socket` is a text."),
        ('[serve]\nallowed_uids = ["root"]\n', 2, "`allowed_uids` is a list of numbers."),
        ("[serve]\nallowed_uids = [true]\n", 2, "`allowed_uids` is a list of numbers."),
        ("[protect]\npaths = [1]\n", 2, "`paths` is a list of texts."),
        ("[ledger]\norigin = 1\n", 2, "`origin` is a text."),
        ("[protect]\nzzz = 1\n", 2, "known are paths."),
    ],
)
def test_a_wrong_setting_names_file_and_line(home: Home, text: str, line: int, says: str) -> None:
    write(home, text)
    with pytest.raises(SetupError) as caught:
        load(home)
    assert str(caught.value).startswith(f"{home.config}:{line}: ")
    assert says in str(caught.value)


def test_what_is_not_toml_names_the_line(home: Home) -> None:
    write(home, "[serve]\nmax_asks = = 3\n")
    with pytest.raises(SetupError, match=r"forestall.toml:2:\d+: This is not TOML: "):
        load(home)


def test_what_is_not_utf8_says_so(home: Home) -> None:
    home.config.write_bytes(b"\xff\xfe")
    with pytest.raises(SetupError, match="not UTF-8"):
        load(home)


def test_a_huge_file_is_refused_unparsed(home: Home) -> None:
    home.config.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(SetupError, match="the limit is"):
        load(home)


def test_a_directory_in_its_place_is_one_sentence(home: Home) -> None:
    home.config.mkdir()
    with pytest.raises(SetupError, match="cannot be read"):
        load(home)


def test_a_deep_home_needs_a_socket_elsewhere_and_the_error_says_how(tmp_path: Path) -> None:
    home = Home(tmp_path / ("d" * 100))
    with pytest.raises(SetupError, match=r"put `socket = .* under \[serve\] in "):
        socket_path(home, Config())
    assert socket_path(home, Config(serve=Serve(socket="/tmp/f.sock"))) == Path("/tmp/f.sock")


def test_a_relative_socket_is_in_the_home(tmp_path: Path) -> None:
    assert socket_path(Home(Path("/h")), Config(serve=Serve(socket="s"))) == Path("/h/s")


def test_a_mandate_is_read(home: Home) -> None:
    mandate(home, MANDATE)
    found = load_mandates(home)["default"]
    assert found.name == "default"
    assert found.tools == ("git/*", "files/read_file")
    assert found.effects == {Effect.READ, Effect.WRITE}
    assert found.lifetime_ms == 30 * 60_000
    assert found.budget == {Effect.WRITE: 20}


def test_without_mandates_there_are_none(home: Home) -> None:
    assert load_mandates(home) == {}


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"read", "write"', '"read", "wrote"', ":3: unknown effect `wrote`; did you mean `write`?"),
        ("write = 20", "wirte = 20", ":7: unknown effect `wirte`; did you mean `write`?"),
        ("write = 20", "write = -1", ":7: `write` is a whole number from 0"),
        ("lifetime_minutes = 30", "lifetime_minutes = 0", ":4: `lifetime_minutes` is a whole number from 1"),
        ("purpose =", "purpos =", ":1: unknown key `purpos`; did you mean `purpose`?"),
        ('purpose = "Mend the build."\n', "", ": `purpose` is missing"),
        ('tools = ["git/*", "files/read_file"]', 'tools = "git/*"', ":2: `tools` is a list of texts."),
        ("[budget]\nwrite = 20", "budget = 3", ": `budget` is "),
    ],
)
def test_a_wrong_mandate_names_file_and_line(home: Home, old: str, new: str, says: str) -> None:
    assert old in MANDATE
    file = mandate(home, MANDATE.replace(old, new))
    with pytest.raises(SetupError) as caught:
        load_mandates(home)
    assert f"{file}{says}" in str(caught.value) or (str(file) in str(caught.value) and says in str(caught.value))


def test_a_mandate_with_an_odd_file_name_is_refused(home: Home) -> None:
    mandate(home, MANDATE, "Two Words")
    with pytest.raises(SetupError, match="rename it"):
        load_mandates(home)


def test_every_setting_is_documented_with_its_default(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    kinds = {f"[{section.name}]": section.default_factory for section in fields(Config) if section.name not in TABLES}
    for name, kind in {**kinds, "[[risk]]": RiskSettings, "[permits.SERVER]": PermitSettings}.items():
        part = page.split(f"**`{name}`**")[1].split("**`[")[0].split("\n\n")[0]
        for setting in fields(kind):  # type: ignore[arg-type]  # a dataclass, by use
            (row,) = [line for line in part.splitlines() if f"`{setting.name}`" in line.split("|")[:2][-1]]
            assert isinstance(setting.default, str | tuple) or f"| {setting.default} |" in row


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[risk]\nname = 'a'\n", "in two brackets"),
        ("[[risk]]\nkind = 'file'\npath = 'a'\n", "has a `name`"),
        ("[[risk]]\nname = 'A b'\nkind = 'file'\npath = 'a'\n", "has a `name`"),
        ("[[risk]]\nname = 'a'\nkind = 'db'\npath = 'a'\n", "`file` or `http`"),
        ("[[risk]]\nname = 'a'\nkind = 'file'\n", "has a `path` if it is a file"),
        ("[[risk]]\nname = 'a'\nkind = 'file'\npath = 'a'\nurl = 'https://a/'\n", "has a `path` if it is a file"),
        ("[[risk]]\nname = 'a'\nkind = 'http'\nurl = 'http://a/'\n", "an https address"),
        ("[[risk]]\nname = 'a'\nkind = 'http'\nurl = 'file:///a'\n", "an https address"),
        ("[[risk]]\nname = 'a'\nkind = 'file'\npath = 'a'\nca_file = 'b'\n", "no certificate"),
        ("[[risk]]\nname = 'a'\nkind = 'file'\npath = 'a'\nbound_s = 0\n", "from 1 to"),
        ("[[risk]]\nname = 'a'\nkind = 'file'\npath = 'a'\nposture = ['Disk']\n", "part of a posture"),
        ("[[risk]]\nname = 'a'\nkind = 'file'\npath = 'a'\nbond_s = 3\n", "did you mean `bound_s`?"),
        ("[[risk]]\nname = 'a'\nkind = 'file'\npath = 'a'\n" * 2, "two sources of risk are called `a`"),
        (
            (
                "[[risk]]\nname = 'a'\nkind = 'file'\npath = 'a'\nposture = ['x']\n"
                "[[risk]]\nname = 'b'\nkind = 'file'\npath = 'b'\nposture = ['x']\n"
            ),
            "`x` is told twice",
        ),
    ],
)
def test_a_source_of_risk_that_cannot_be_one_is_refused_with_its_place(home: Home, text: str, says: str) -> None:
    write(home, text)
    with pytest.raises(SetupError, match=re.escape(says)) as caught:
        load(home)
    assert str(caught.value).startswith(f"{home.config}:")


def test_sources_of_risk_and_what_they_tell_of_a_posture(home: Home) -> None:
    write(
        home,
        "[[risk]]\nname = 'desk'\nkind = 'file'\npath = 'risk.toml'\nposture = ['disk']\n"
        "[[risk]]\nname = 'edr'\nkind = 'http'\nurl = 'http://127.0.0.1:9/risk'\nbound_s = 20\nposture = ['os']\n",
    )
    config = load(home)
    assert [(one.name, one.kind, one.bound_s) for one in config.risk] == [("desk", "file", 300), ("edr", "http", 20)]
    assert config.posture == {"disk", "os"}


def test_what_the_document_shows_is_accepted(home: Home) -> None:
    page = (Path(__file__).parents[2] / "docs" / "settings.md").read_text()
    example, wanted = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    write(home, example)
    mandate(home, wanted)
    assert load(home).protect.paths == ("/srv/signing",)
    assert load_mandates(home)["default"].budget == {Effect.WRITE: 50}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=200)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_stands_in_the_file_it_is_read_or_refused_in_one_sentence(home: Home, data: bytes) -> None:
    home.config.write_bytes(data)
    said = ""
    try:
        load(home)
    except SetupError as error:
        said = str(error)
    assert not said or str(home.config) in said
