"""Project Wycheproof's JSON Web Signatures: none of the invalid ones is accepted, whatever is allowed.

Data: C2SP/wycheproof (Apache-2.0), read from `../shared/data/wycheproof` beside the checkout.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from forestall.core.canonical import canonical
from forestall.proof.algorithm import Algorithm
from forestall.proof.encoding import encode
from forestall.proof.fault import Fault, InvalidProof
from forestall.proof.jwk import KeySet, parse_set
from forestall.proof.jws import verify

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "wycheproof" / "json_web_signature_test.json"

if not DATA.is_file():
    pytest.skip("Wycheproof is not beside this checkout (../shared/data/wycheproof)", allow_module_level=True)

GROUPS: list[dict[str, Any]] = json.loads(DATA.read_text())["testGroups"]
CASES = [(group, case) for group in GROUPS for case in group["tests"]]
INVALID = [(group, case) for group, case in CASES if case["result"] == "invalid"]
VALID = [(group, case) for group, case in CASES if case["result"] != "invalid"]

STRICTER = {
    346: Fault.ALGORITHM,  # signed with PS384 under a key whose `alg` is PS256
    347: Fault.UNKNOWN_KEY,  # under a key whose `alg` is ES521, which does not exist
    350: Fault.ALGORITHM,
    351: Fault.UNKNOWN_KEY,
    372: Fault.MALFORMED,  # a character in the header that base64url does not have
}
"""Called valid, and refused here: by number, for what. All others are refused only for being HMACs."""

ALL = frozenset(Algorithm)
TYPES: frozenset[str | None] = frozenset({None, "jwt"})


def accept(group: dict[str, Any], case: dict[str, Any]) -> bytes:
    """The payload, with the group's own key and everything allowed."""
    keys = parse_set(canonical({"keys": [group["public"]]})) if "public" in group else KeySet(())
    token = case["jws"] if isinstance(case["jws"], str) else json.dumps(case["jws"])
    return verify(token, keys, algorithms=ALL, types=TYPES).payload


def name(value: Any) -> str:
    return f"{value['tcId']}-{value['comment']}" if "tcId" in value else str(value["comment"])


def test_there_are_as_many_as_there_should_be() -> None:
    assert len(INVALID) == 355
    assert len(VALID) == 46


@pytest.mark.parametrize(("group", "case"), INVALID, ids=name)
def test_an_invalid_signature_is_refused(group: dict[str, Any], case: dict[str, Any]) -> None:
    with pytest.raises(InvalidProof):
        accept(group, case)


@pytest.mark.parametrize(("group", "case"), VALID, ids=name)
def test_a_valid_signature_is_accepted_unless_it_is_an_hmac_or_we_are_stricter(
    group: dict[str, Any], case: dict[str, Any]
) -> None:
    if "public" in group and case["tcId"] not in STRICTER:
        assert encode(accept(group, case)) == case["jws"].split(".")[1]
        return
    with pytest.raises(InvalidProof) as caught:
        accept(group, case)
    assert caught.value.fault is STRICTER.get(case["tcId"], Fault.ALGORITHM)


@pytest.mark.parametrize("group", [group for group in GROUPS if "public" not in group], ids=name)
def test_a_symmetric_key_is_not_even_read(group: dict[str, Any]) -> None:
    with pytest.raises(InvalidProof) as caught:
        parse_set(canonical({"keys": [group["private"]]}))
    assert caught.value.fault is Fault.NOT_PUBLIC
