"""Whatever a server of OpenBao or Vault answers: what was asked for, or the one error, and never that it is over."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from forestall.core.ask import CannotDo
from forestall.core.model import Secret
from tests.unit.adapter.credential.vault import ACCESSOR, CREATED, DRAWN, GONE, LEASE, NO_LEASE, NOW, Desk, desk

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
scalars = st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=5
)
statuses = st.sampled_from([200, 200, 200, 201, 204, 307, 400, 403, 404, 500, 503])
EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@st.composite
def spoilt(draw: st.DrawFn, document: Mapping[str, Any]) -> tuple[int, Any]:
    """A status, and the document with another value, or none, at one place in it; or something else altogether."""
    if draw(st.booleans()):
        return draw(statuses), draw(values)
    found: Any = deepcopy(dict(document))
    at = found
    while True:
        name = draw(st.sampled_from(sorted(at)))
        if isinstance(at[name], dict) and at[name] and draw(st.booleans()):
            at = at[name]
            continue
        if draw(st.booleans()):
            at[name] = draw(values)
        else:
            del at[name]
        return draw(statuses), found


@EXAMPLES
@given(created=spoilt(CREATED), drawn=spoilt(DRAWN), good=st.booleans())
def test_an_issue_is_a_secret_in_its_bounds_or_the_one_error(
    tmp_path: Path, created: tuple[int, Any], drawn: tuple[int, Any], good: bool
) -> None:
    with desk(tmp_path) as at:
        at.says["GET database/creds/shop-ro"] = drawn
        if not good:
            at.says["POST auth/token/create/forestall"] = created
        with suppress(CannotDo):
            _require_sound(at.broker.issue(at.lease()))


def _require_sound(secret: Secret) -> None:
    assert NOW < secret.expires_at <= NOW + 60_000
    assert secret.fields
    assert all(isinstance(value, str) for value in secret.fields.values())
    accessor, lease_id = secret.handle.split(" ")
    assert accessor
    assert lease_id.startswith("database/creds/shop-ro/")


@EXAMPLES
@given(token=spoilt(GONE), secret=spoilt(NO_LEASE))
def test_only_the_words_that_say_so_are_an_end(tmp_path: Path, token: tuple[int, Any], secret: tuple[int, Any]) -> None:
    with desk(tmp_path) as at:
        at.says["POST auth/token/lookup-accessor"] = token
        at.says["POST sys/leases/lookup"] = secret
        lease = replace(at.lease(), secret=Secret({}, f"{ACCESSOR} {LEASE}"))
        with suppress(CannotDo):
            at.broker.revoke(lease)
            assert '"invalid' in json.dumps(token[1])
            assert '"invalid' in json.dumps(secret[1])


@EXAMPLES
@given(tokens=spoilt({"data": {"keys": [ACCESSOR]}}), found=spoilt({"data": {"path": "p", "meta": {"a": "b"}}}))
def test_a_search_finds_names_that_are_ours_or_is_the_one_error(
    tmp_path: Path, tokens: tuple[int, Any], found: tuple[int, Any]
) -> None:
    with desk(tmp_path) as at:
        at.says["LIST auth/token/accessors"] = tokens
        at.says["POST auth/token/lookup-accessor"] = found
        _search(at)


def _search(at: Desk) -> None:
    with suppress(CannotDo):
        assert all(name.startswith("forestall-0a1b2c3d-") for name in at.broker.list_orphans(()))
