"""Cedar's own integration tests, through the parts of the adapter that every decision goes through.

Data: cedar-policy/cedar-integration-tests (Apache-2.0), read from `../shared/data/cedar` beside the checkout.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cedarpy
import pytest

from forestall.policy import bundle
from forestall.policy.bundle import Policy
from forestall.policy.slice import ask, policy_set

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "cedar"
FILES = sorted((DATA / "tests").glob("*/*.json"))

if not FILES:
    pytest.skip(
        "the Cedar integration tests are not beside this checkout (../shared/data/cedar)", allow_module_level=True
    )


def load(file: Path) -> tuple[dict[str, Any], list[Policy]]:
    """A test and its policies, cut and named as ours are: `file:N` is Cedar's `policy(N-1)`."""
    test = json.loads(file.read_text())
    path = DATA / test["policies"]
    policies = bundle.from_texts({path.name: path.read_text()}).policies
    return test, [policy for policy in policies if not policy.id.startswith(bundle.OWN_PREFIX)]


def name(file: Path) -> str:
    return f"{file.parent.name}/{file.stem}"


@pytest.mark.parametrize("file", FILES, ids=name)
def test_every_request_is_answered_as_cedar_says(file: Path) -> None:
    test, policies = load(file)
    schema = cedarpy.Schema.from_str((DATA / test["schema"]).read_text())
    entities = cedarpy.Entities.from_json_str((DATA / test["entities"]).read_text(), schema)
    handle = policy_set({policy.id: policy.tree for policy in policies})
    ids = [policy.id for policy in policies]
    assert test["requests"]
    for request in test["requests"]:
        asked = {key: request[key] for key in ("principal", "action", "resource")}
        asked["context"] = json.dumps(request["context"])
        verdict = ask(asked, handle, entities, schema, ids)
        assert (verdict.error is not None) is bool(request["errors"]), request["description"]
        expected = sorted(ids[int(reason.removeprefix("policy"))] for reason in request["reason"])
        if verdict.error is None:
            assert ("allow" if verdict.allowed else "deny") == request["decision"], request["description"]
            assert list(verdict.policies) == expected, request["description"]
        else:
            assert not verdict.allowed  # where Cedar may answer allow beside an error, we never do


@pytest.mark.parametrize("file", FILES, ids=name)
def test_the_strict_validator_agrees(file: Path) -> None:
    test, policies = load(file)
    schema = cedarpy.Schema.from_str((DATA / test["schema"]).read_text())
    valid = all(cedarpy.validate_policies(policy.text, schema).validation_passed for policy in policies)
    assert valid is test["shouldValidate"]


def test_all_of_the_data_is_there() -> None:
    assert len(FILES) == 22
