"""Mandates with parameters, resources, amounts and depth: what is read, and how a mistake is told."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forestall.core.effects import Effect
from forestall.core.errors import SetupError
from forestall.core.label import Confidentiality
from forestall.core.mandate import Wish, from_mandate
from forestall.core.model import Grant, Mandate, Parameter, Resource
from forestall.core.quantity import Quantity
from forestall.home import Home
from forestall.mandates import load_mandates
from forestall.testing.world import AGENT, NOW

PAGE = Path(__file__).parents[2] / "docs" / "adr" / "0009-tasks.md"
(FULL,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(), re.DOTALL)
PLAIN = """\
purpose = "Mend the build."
tools = ["git/*"]
effects = ["read"]
lifetime_minutes = 30
"""


def load(folder: Path, text: str) -> Mandate:
    home = Home(folder)
    home.mandates.mkdir(parents=True, exist_ok=True)
    (home.mandates / "refund.toml").write_text(text)
    return load_mandates(home)["refund"]


def test_everything_that_a_mandate_can_say_is_read(tmp_path: Path) -> None:
    assert load(tmp_path, FULL) == Mandate(
        name="refund",
        purpose="Refund one order.",
        tools=("shop/*",),
        effects=frozenset({Effect.READ, Effect.WRITE}),
        lifetime_ms=30 * 60_000,
        budget={Effect.WRITE: 20, Quantity.FAN_OUT: 4, Quantity.ROWS: 10_000},
        per_call={Quantity.ROWS: 500},
        parameters={"order": Parameter("[0-9]{6}"), "region": Parameter(values=("eu", "us"))},
        resources=(
            Resource("shop/*", "order", ("{order}",)),
            Resource("shop/read_file", "path", ("orders/{region}/{order}/", "")),
        ),
        ceiling=Confidentiality.CONFIDENTIAL,
        depth=2,
    )


def test_it_binds_what_a_task_is_opened_with(tmp_path: Path) -> None:
    grant = from_mandate(load(tmp_path, FULL), "t", AGENT, NOW, Wish({"order": "123456", "region": "eu"}))
    assert isinstance(grant, Grant)
    assert [resource.value for resource in grant.resources] == [("123456",), ("orders/eu/123456/", "")]


def test_a_plain_mandate_has_nothing_of_it(tmp_path: Path) -> None:
    assert load(tmp_path, PLAIN) == Mandate(
        "refund", "Mend the build.", ("git/*",), frozenset({Effect.READ}), 1_800_000
    )


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("depth = 2", "depht = 2", ":6: unknown key `depht`; did you mean `depth`?"),
        ("depth = 2", "depth = 9", ":6: `depth` is a whole number from 0 to 8."),
        ("fan_out = 4\n", "", ":6: `depth` wants to know how often; put `fan_out = 4` under [budget]."),
        ('"confidential"', '"confidental"', ":5: unknown level `confidental`; did you mean `confidential`?"),
        ('"confidential"', "3", ":5: `confidentiality` is a text."),
        ("[parameters.order]", "[parameters.Order]", ":8: a parameter is named in small letters"),
        ("pattern =", "patern =", ":9: unknown key `patern` in [parameters.order]; did you mean `pattern`?"),
        ('"[0-9]{6}"', '"(a+)+"', ":9: `pattern` is not of the kind that is taken; write letters and classes"),
        ('"[0-9]{6}"', '"a*b*c*"', ":9: `pattern` is not of the kind that is taken; at most 2 parts"),
        ('pattern = "[0-9]{6}"\n', "", ":8: the parameter `order` has either a `pattern` or a list of `values`"),
        ('["eu", "us"]', "[]", ":12: `values` are printable texts"),
        ('["eu", "us"]', '["e\\u0000"]', ":12: `values` are printable texts"),
        ('["eu", "us"]', '["eu"]\nmax_length = 1', ":12: `values` are printable texts of 1 to 1 characters"),
        ('["eu", "us"]', '["eu"]\nmax_length = 2000', ":13: `max_length` is a whole number from 1 to 1024."),
        ('["eu", "us"]', '["eu"]\npattern = "a"', ":11: the parameter `region` has either a `pattern` or a list"),
        ('"{order}"', '"{ordr}"', ":15: `order` speaks of `ordr`; write [parameters.ordr]."),
        ('"{order}"', '"{Order}"', ":15: the braces in `order` name no parameter; write `{name}`."),
        ('"{order}"', "17", ":15: `order` is a text."),
        ('[resources."shop/*"]', '[resources."shpo/*"]', ":14: `shpo/*` is none of this mandate's `tools`"),
        ("write = 20", "wrote = 20", ":21: unknown effect `wrote`; did you mean `write`?"),
        ("write = 20", "row = 20", ":21: unknown effect `row`; did you mean `rows`?"),
        ("{ total = 10000, call = 500 }", "500", ":23: `rows` says how much in all and for one call: rows = { total"),
        ("{ total = 10000, call = 500 }", "{ total = 5 }", ":23: `rows` says how much in all and for one call"),
        ("call = 500", "call = 10001", ": `call` is a whole number from 0 to 10000."),
        ("total = 10000", "total = -1", ": `total` is a whole number from 0"),
        ("fan_out = 4", "fan_out = { total = 4, call = 1 }", ":22: `fan_out` is a whole number"),
    ],
)
def test_a_mistake_is_told_with_its_place_and_what_to_write(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert FULL.count(old) == 1
    with pytest.raises(SetupError) as caught:
        load(tmp_path, FULL.replace(old, new))
    file = Home(tmp_path).mandates / "refund.toml"
    assert str(caught.value).startswith(f"{file}{says}")


@pytest.mark.parametrize("section", ["parameters", "resources", "budget", "parameters.order", 'resources."shop/*"'])
def test_what_has_to_be_a_section_is_one(tmp_path: Path, section: str) -> None:
    name, _, part = section.partition(".")
    text = f"{name} = 3\n{PLAIN}" if not part else f"{PLAIN}[{name}]\n{part} = 3\n"
    with pytest.raises(SetupError, match="is a section: "):
        load(tmp_path, text.replace("git/*", "shop/*"))


def test_more_bounds_than_a_grant_holds_are_refused(tmp_path: Path) -> None:
    many = "\n".join(f'a{number} = "x"' for number in range(257))
    with pytest.raises(SetupError, match="divide the mandate"):
        load(tmp_path, f'{PLAIN}[resources."git/*"]\n{many}\n')


def test_a_word_that_has_a_line_break_is_told_on_one_line(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"unknown effect `re\\nad`; did you mean `read`\?"):
        load(tmp_path, FULL.replace('"read"', r'"re\nad"', 1))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=150, deadline=None
)
@given(st.data())
def test_whatever_becomes_of_a_mandate_it_is_read_or_refused_in_one_sentence(
    tmp_path: Path, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(FULL)))
    cut = data.draw(st.integers(0, 12))
    text = FULL[:at] + data.draw(st.text('{}[]"=*.\\n01abé', max_size=6)) + FULL[at + cut :]
    said = ""
    try:
        load(tmp_path, text)
    except SetupError as error:
        said = str(error)
    assert not said or ("refund.toml" in said and "\n" not in said)
