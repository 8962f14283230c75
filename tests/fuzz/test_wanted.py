"""Whatever a delegation says, it is understood, and then narrower or refused; or it is `InvalidInput`."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from forestall.core.attenuate import attenuate, narrower
from forestall.core.effects import Effect
from forestall.core.errors import InvalidInput
from forestall.core.label import Confidentiality
from forestall.core.model import Grant
from forestall.core.quantity import Quantity
from forestall.core.reason import Objection
from forestall.core.wanted import DELEGATE, parse_wanted
from forestall.testing.world import NOW
from tests.unit.core.test_attenuate import HELPER, PARENT

words = st.sampled_from(["*", "files/*", "files/read", "shop/read", "path", "out/", "out/a", "", "to", "a*"])
names = st.sampled_from([*(each.value for each in (*Effect, *Quantity, *Confidentiality)), "odd"])
scalars = st.none() | st.booleans() | st.floats() | st.text(max_size=4) | words | names
numbers = st.integers(-2, 12) | st.integers(NOW - 2, NOW + 70_000)
resources = st.fixed_dictionaries(
    {"tool": words, "argument": st.just("path") | words, "value": st.lists(words, max_size=3)}
)
values = st.recursive(
    scalars | numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names | words, inner, max_size=3),
    max_leaves=8,
)
likely = {
    "to": words,
    "tools": st.lists(words, max_size=3),
    "effects": st.lists(names, max_size=3),
    "resources": st.lists(resources, max_size=3),
    "confidentiality": names,
    "expires_at": numbers,
    "budget": st.dictionaries(names, numbers, max_size=3),
    "per_call": st.dictionaries(names, numbers, max_size=2),
    "max_depth": numbers,
}
requests = st.fixed_dictionaries(
    {}, optional={name: values | likely[name] | likely[name] for name in DELEGATE.input_schema["properties"]}
) | st.dictionaries(names | words, values, max_size=4)


@given(requests)
def test_a_request_is_narrower_or_refused(arguments: dict[str, Any]) -> None:
    try:
        wanted = parse_wanted(arguments)
    except InvalidInput:
        return
    grant = attenuate(PARENT, wanted, task="t2", holder=HELPER, at=NOW)
    if isinstance(grant, Grant):
        assert narrower(grant, PARENT)
        assert grant.expires_at > NOW
        assert grant.tools
        assert grant.effects
    else:
        assert isinstance(grant, Objection)
