"""Whatever a token endpoint answers is a token within its bounds, or is refused in one way."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forestall.adapter.credential.oauth import OAuthBroker, _Unfit
from forestall.core.canonical import canonical
from forestall.core.model import Lease
from forestall.credentials.oauth import open_broker
from tests.backends.leases import READ, action, context, grant, lease, permit, table
from tests.backends.upstream import write_files, written

NOW, LATEST = 1_000_000, 61_000

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
ANSWERS = st.fixed_dictionaries(
    {},
    optional={
        "access_token": st.just("a-token") | VALUES,
        "token_type": st.sampled_from(["Bearer", "bearer", "DPoP"]) | VALUES,
        "expires_in": st.integers(-5, 120) | VALUES,
        "scope": st.sampled_from(["crm.read", "crm.write", "crm.read crm.write", "", " "]) | VALUES,
        "refresh_token": VALUES,
        "authorization_details": VALUES,
    },
)


def made() -> tuple[OAuthBroker, Lease]:
    with tempfile.TemporaryDirectory() as folder:
        write_files(Path(folder))
        text = written(issuer='"https://login.example"')
        broker = open_broker(table(Path(folder), text), context(Path(folder)))
    return broker, lease(broker.plan(permit(READ), action(), grant()))


BROKER, LEASE = made()


@given(ANSWERS)
def test_an_answer_is_a_token_within_its_bounds_or_none(answer: dict[str, Any]) -> None:
    try:
        expires_at = BROKER._fit(answer, LEASE, None, NOW, NOW + LATEST)
    except _Unfit:
        return
    assert isinstance(answer["access_token"], str)
    assert answer["access_token"].isascii()
    assert answer["token_type"].lower() == "bearer"
    assert NOW < expires_at <= NOW + LATEST
    assert answer.get("scope", "crm.read") in {"crm.read", None}
    assert "refresh_token" not in answer
    assert answer.get("authorization_details") is None
    canonical(answer["expires_in"])
