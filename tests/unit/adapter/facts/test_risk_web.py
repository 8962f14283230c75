"""An address that tells of risk: asked beside the calls, believed for as long as its bound says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from forestall.adapter.facts.risk_web import LEAST_S, MOST_S, RiskWeb
from forestall.core.model import Risk
from forestall.core.repute import UNKNOWN
from forestall.testing.world import GRANT, NOW
from tests.unit.adapter.oidc.site import Asked, Site, roots

BOUND_MS = 20_000


class Desk:
    """Answers, and the time."""

    def __init__(self, *, secure: bool = False) -> None:
        self.now = NOW
        self.answer = json.dumps({"default": "low"}).encode()
        self.status = 200
        self.late_ms = 0
        """How long an answer takes, on our clock."""
        self.site = Site(self._say, name="127.0.0.1" if secure else None)

    def source(self, **more: Path) -> RiskWeb:
        return RiskWeb("desk", f"{self.site.url}/risk?all", bound_ms=BOUND_MS, posture=(), now=lambda: self.now, **more)

    def _say(self, asked: Asked) -> None:
        self.now += self.late_ms
        asked.say(self.answer, self.status)


def test_what_it_answers_counts_until_its_bound_from_when_it_was_asked() -> None:
    desk = Desk()
    desk.late_ms = 1_000
    source = desk.source()
    assert source.read(GRANT, NOW) == UNKNOWN
    with desk.site:
        source.refresh()
    assert (source.read(GRANT, desk.now).risk, source.problem) == (Risk.LOW, "")
    assert source.read(GRANT, NOW + BOUND_MS - 1).risk is Risk.LOW
    assert source.read(GRANT, NOW + BOUND_MS) == UNKNOWN
    ((method, path, _, _),) = desk.site.asked
    assert (method, path) == ("GET", "/risk?all")


def test_its_own_certificate_authority_and_a_token_that_is_read_each_time(tmp_path: Path) -> None:
    desk = Desk(secure=True)
    ca, token = tmp_path / "ca.pem", tmp_path / "token"
    ca.write_text(roots() or "")
    token.write_text("first\n")
    source = desk.source(ca_file=ca, token_file=token)
    with desk.site:
        source.refresh()
        token.write_text("second")
        source.refresh()
    assert source.read(GRANT, NOW).risk is Risk.LOW
    assert [headers["Authorization"] for _, _, headers, _ in desk.site.asked] == ["Bearer first", "Bearer second"]


@pytest.mark.parametrize("trouble", ["status", "gone", "token", "certificate"])
def test_one_that_is_not_reached_counts_until_its_bound_and_is_missing_then(tmp_path: Path, trouble: str) -> None:
    desk = Desk()
    token = tmp_path / "token"
    token.write_text("ours")
    source = desk.source(token_file=token)
    with desk.site:
        source.refresh()
        if trouble == "status":
            desk.status = 503
        elif trouble == "token":
            token.unlink()
        elif trouble == "certificate":
            source._ca_file = tmp_path / "no-ca"
        if trouble != "gone":
            source.refresh()
    source.refresh()
    assert source.problem
    assert "ours" not in source.problem
    assert source.read(GRANT, NOW + BOUND_MS - 1).risk is Risk.LOW
    assert source.read(GRANT, NOW + BOUND_MS) == UNKNOWN


@pytest.mark.parametrize("answer", [b"", b"low", b'{"default": "lwo"}', b'{"default": "low", "default": "low"}', b"[]"])
def test_an_answer_that_is_not_understood_takes_back_what_was_said_before(answer: bytes) -> None:
    desk = Desk()
    source = desk.source()
    with desk.site:
        source.refresh()
        desk.answer = answer
        source.refresh()
    assert source.read(GRANT, NOW) == UNKNOWN
    assert "not understood" in source.problem


def test_an_answer_that_says_it_is_old_is_old() -> None:
    desk = Desk()
    desk.answer = json.dumps({"at": NOW - BOUND_MS, "default": "low"}).encode()
    source = desk.source()
    with desk.site:
        source.refresh()
    assert source.read(GRANT, NOW) == UNKNOWN


def test_once_it_is_closed_it_is_not_asked_any_more() -> None:
    desk = Desk()
    source = desk.source()
    with desk.site:
        source.close()
        source.refresh()
    assert desk.site.asked == []
    assert source.read(GRANT, NOW) == UNKNOWN


@pytest.mark.parametrize(("bound_s", "period_s"), [(1, LEAST_S), (20, 5.0), (86_400, MOST_S)])
def test_it_is_asked_often_enough_that_one_loss_is_no_harm(bound_s: int, period_s: float) -> None:
    source = RiskWeb("a", "https://a.example/", bound_ms=bound_s * 1000, posture=(), now=lambda: NOW)
    assert source.period_s == period_s
    assert source.period_s < bound_s
