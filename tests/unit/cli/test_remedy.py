"""What is said of a refusal that was not policy's."""

from __future__ import annotations

import pytest

from forestall.cli.remedy import POLICY, SHARED, remedy
from forestall.core.reason import Reason

TASK = {"mandate": "default"}
POLICYS = POLICY | SHARED


def body(reason: Reason, **facts: object) -> dict[str, object]:
    return {"reason": reason.value, "policy_digest": "sha256:1", "tool": "fs/write_file", **facts}


@pytest.mark.parametrize("reason", sorted(Reason))
def test_of_every_refusal_it_is_known_who_says_what_would_have_changed_it(reason: Reason) -> None:
    """Policy, where it was asked and that is its answer; else a whole sentence."""
    said = remedy(body(reason, effects=["write"]), TASK)
    if reason in POLICYS:
        assert said is None
    else:
        assert said is not None
        assert said.endswith(".")
        assert "{" not in said


@pytest.mark.parametrize("reason", sorted(SHARED))
def test_what_was_refused_before_policy_was_asked_is_not_policys(reason: Reason) -> None:
    assert remedy(body(reason), TASK)


def test_a_permit_was_not_refused() -> None:
    assert remedy({"tool": "fs/write_file", "policy_digest": "sha256:1"}, TASK) is None


def test_server_tool_and_mandate_are_named() -> None:
    assert "catalogue/fs.toml" in str(remedy(body(Reason.UNKNOWN_TOOL), TASK))
    assert "--accept-change fs/write_file`" in str(remedy(body(Reason.TOOL_CHANGED), TASK))
    pasted = {**body(Reason.TOOL_CHANGED), "tool": "fs/a; b"}
    assert "--accept-change 'fs/a; b'`" in str(remedy(pasted, TASK))
    assert "policy/mandates/default.toml" in str(remedy(body(Reason.BUDGET), TASK))
    assert "policy/mandates/NAME.toml" in str(remedy(body(Reason.BUDGET), {}))
