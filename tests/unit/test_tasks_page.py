"""What docs/tasks.md shows is true."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from forestall.config import load
from forestall.core.canonical import MAX_SAFE_INTEGER
from forestall.core.effects import Effect
from forestall.core.errors import Refused
from forestall.core.model import Decision, Risk
from forestall.core.quantity import Quantity
from forestall.core.repute import parse_reputes
from forestall.core.toml import parse_toml
from forestall.embedded import Guard
from forestall.home import Home
from forestall.mandates import load_mandates
from forestall.policy.problem import Severity
from tests.unit.policy.world import STRING, engine, problems, question, schema, tool

PAGE = (Path(__file__).parents[2] / "docs" / "tasks.md").read_text()
BLOCKS = {kind: re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL) for kind in ("cedar", "toml", "python")}
FILES = {found[1]: text for text in BLOCKS["toml"] if (found := re.match(r"# (\S+)\n", text))}
SHOP = (
    tool("read_order", Effect.READ, server="shop", input_schema=schema(["order"], order=STRING)),
    tool("refund", Effect.WRITE, server="shop", input_schema=schema(["order"], order=STRING)),
    tool("send", Effect.EXTERNAL, server="mail", input_schema=schema(to=STRING)),
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    for name in ("policy/mandates/refund.toml", "forestall.toml", "risk.toml"):
        file = home.root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(FILES[name])
    return home


def test_every_file_that_is_shown_has_a_name() -> None:
    assert len(FILES) == len(BLOCKS["toml"]) == 3


@pytest.mark.parametrize("text", BLOCKS["cedar"])
def test_every_policy_that_is_shown_is_sound(text: str) -> None:
    found = problems(text, tools=SHOP, posture=("disk",))
    assert [one for one in found if one.severity is Severity.ERROR] == []


def test_the_mandate_that_is_shown_is_one(home: Home) -> None:
    refund = load_mandates(home)["refund"]
    assert (refund.depth, refund.budget[Quantity.FAN_OUT]) == (1, 2)


def test_the_sources_that_are_shown_are_understood(home: Home) -> None:
    config = load(home)
    assert [one.name for one in config.risk] == ["desk", "edr"]
    told = parse_reputes(parse_toml(FILES["risk.toml"], home.root / "risk.toml"), config.posture)
    assert told.default is Risk.LOW
    assert told.agents["example.org", "spiffe://example.org/helper"].posture == {"disk": "open"}
    assert told.at is not None
    assert told.at <= MAX_SAFE_INTEGER


def test_at_high_risk_and_while_nobody_knows_nothing_is_written() -> None:
    built = engine(*BLOCKS["cedar"], tools=SHOP, posture=("disk",))

    def refund(risk: Risk | None, **posture: str) -> Decision:
        return built.evaluate(question(SHOP[1], {"order": "004711"}, risk=risk, posture=posture)).decision

    assert refund(Risk.LOW, disk="encrypted") is Decision.PERMIT
    assert refund(Risk.HIGH, disk="encrypted") is Decision.DENY
    assert refund(Risk.LOW, disk="open") is Decision.DENY
    assert refund(None, disk="encrypted") is Decision.DENY
    assert refund(Risk.LOW) is Decision.DENY
    read = question(SHOP[0], {"order": "004711"})
    assert built.evaluate(read).decision is Decision.PERMIT


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    home = Home(tmp_path / "program")
    mandates = home.root / "policy" / "mandates"
    mandates.mkdir(parents=True)
    (mandates / "refund.toml").write_text(FILES["policy/mandates/refund.toml"])
    (home.policy / "own.cedar").write_text('@id("all") permit (principal, action in Action::"write", resource);')
    with Guard.open(home.root, name="shop") as opened:
        yield opened


def test_the_program_that_is_shown_refunds_that_order_and_no_other(guard: Guard) -> None:
    done: list[tuple[str, int]] = []

    @guard.tool(effects=["write"], output=("trusted", "internal"))
    def refund(order: str, cents: int) -> None:
        done.append((order, cents))

    (text,) = BLOCKS["python"]
    known: dict[str, Any] = {"guard": guard, "refund": refund}
    exec(text, known)
    assert done == [("004711", 1999)]
    with pytest.raises(Refused, match="out_of_scope"):
        exec(text.replace('order="004711"', 'order="004712"'), known)
    with pytest.raises(Refused, match="invalid_parameters"):
        exec(text.replace('{"order": "004711"}', "{}"), known)
    assert done == [("004711", 1999)]
