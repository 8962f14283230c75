"""The sources of risk that the settings name, and what orders say, as one."""

from __future__ import annotations

from pathlib import Path
from threading import Event

import pytest

from forestall.core.model import Risk
from forestall.core.repute import UNKNOWN, Repute
from forestall.home import Home
from forestall.risk_settings import RiskSettings
from forestall.risks import NO_RISKS, open_risks
from forestall.testing.world import GRANT
from tests.unit.adapter.oidc.site import WAIT_S, Site

LATE = 2**52


def now() -> int:
    return LATE


@pytest.fixture
def home(tmp_path: Path) -> Home:
    (tmp_path / "risk.toml").write_text('default = "medium"\n[[users]]\nid = "x"\nposture = { disk = "open" }\n')
    return Home(tmp_path)


FILE = RiskSettings("desk", "file", path="risk.toml", posture=("disk",))


def test_without_a_source_nothing_is_known_but_what_orders_say(home: Home) -> None:
    assert NO_RISKS.read(GRANT, 0) == UNKNOWN
    for risk in Risk:
        risks = open_risks(home, (), now, lambda _, risk=risk: risk)  # type: ignore[misc]  # bound now
        assert risks.read(GRANT, 0) == Repute(risk)
        assert risks.read(None, 0) == UNKNOWN
        risks.close()


@pytest.mark.parametrize(
    ("ordered", "wanted"), [(Risk.LOW, Risk.MEDIUM), (Risk.MEDIUM, Risk.MEDIUM), (Risk.HIGH, Risk.HIGH)]
)
def test_a_file_is_at_hand_for_the_first_call_and_the_highest_counts(home: Home, ordered: Risk, wanted: Risk) -> None:
    at = (home.root / "risk.toml").stat().st_mtime_ns // 1_000_000
    risks = open_risks(home, (FILE,), lambda: at, lambda _: ordered)
    assert risks.read(GRANT, at).risk is wanted
    risks.close()


@pytest.mark.parametrize(("ordered", "wanted"), [(Risk.LOW, None), (Risk.HIGH, Risk.HIGH)])
def test_orders_do_not_stand_in_for_a_source_that_is_silent(home: Home, ordered: Risk, wanted: Risk | None) -> None:
    risks = open_risks(home, (FILE,), now, lambda _: ordered)
    assert risks.read(GRANT, LATE).risk is wanted
    risks.close()


def test_an_address_that_hangs_keeps_no_call_and_no_end_waiting(home: Home) -> None:
    asked, leave = Event(), Event()

    def hang(_: object) -> None:
        asked.set()
        leave.wait(WAIT_S)

    with Site(hang, name=None) as site:
        settings = RiskSettings("edr", "http", url=site.url)
        risks = open_risks(home, (settings,), now)
        assert asked.wait(WAIT_S)
        assert risks.read(GRANT, LATE) == UNKNOWN
        risks.close()
        leave.set()
