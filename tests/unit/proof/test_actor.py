"""A chain names who acts, and before them who acted; nobody twice, and no more than a chain may have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.proof.actor import MAX_ACTORS, Actor, ActorChain, parse_act
from forestall.proof.fault import Fault
from tests.tokens import refused

ISSUER = "spiffe://example.org"
actors = st.builds(
    Actor, st.sampled_from(["a", "b"]), st.text(min_size=1, max_size=3), st.none() | st.sampled_from(["ai_agent"])
)


def nested(*pairs: tuple[str, str]) -> dict[str, Any]:
    """The first is outermost."""
    act: dict[str, Any] = {}
    for issuer, subject in reversed(pairs):
        act = {"iss": issuer, "sub": subject, **({"act": act} if act else {})}
    return act


def test_the_outermost_actor_is_the_one_that_acts() -> None:
    chain = parse_act(nested((ISSUER, "child"), (ISSUER, "parent"), (ISSUER, "root")))
    assert chain.current == Actor(ISSUER, "child")
    assert [actor.subject for actor in chain.history] == ["parent", "root"]


def test_a_hop_puts_its_actor_outermost() -> None:
    root = ActorChain.start(Actor(ISSUER, "root", "ai_agent"))
    child = root.extend(Actor(ISSUER, "child", "ai_agent"))
    assert child.current.subject == "child"
    assert child.history == root.actors
    assert child.to_json() == {
        "iss": ISSUER,
        "sub": "child",
        "sub_profile": "ai_agent",
        "act": {"iss": ISSUER, "sub": "root", "sub_profile": "ai_agent"},
    }


@given(st.lists(actors, min_size=1, max_size=MAX_ACTORS, unique_by=lambda actor: actor.pair))
def test_a_chain_is_read_back_as_it_was_written(chain: list[Actor]) -> None:
    assert parse_act(ActorChain(tuple(chain)).to_json()) == ActorChain(tuple(chain))


def test_an_actor_is_its_issuer_and_its_subject() -> None:
    chain = ActorChain.start(Actor("a", "agent")).extend(Actor("b", "agent"))
    assert len({actor.pair for actor in chain.actors}) == 2


@pytest.mark.parametrize("again", [Actor("a", "1"), Actor("a", "2"), Actor("a", "1", "service")])
def test_a_cycle_is_refused_whatever_the_actor_calls_itself(again: Actor) -> None:
    chain = ActorChain.start(Actor("a", "1")).extend(Actor("a", "2"))
    with refused(Fault.CYCLE):
        chain.extend(again)
    with refused(Fault.CYCLE):
        parse_act(nested(again.pair, ("a", "2"), ("a", "1")))


def test_a_chain_has_an_end() -> None:
    pairs = [("a", str(number)) for number in range(MAX_ACTORS + 1)]
    longest = parse_act(nested(*pairs[1:]))
    assert len(longest.actors) == MAX_ACTORS
    with refused(Fault.TOO_DEEP):
        longest.extend(Actor(*pairs[0]))
    with refused(Fault.TOO_DEEP):
        parse_act(nested(*pairs))


@pytest.mark.parametrize(
    "act",
    [
        None,
        {},
        [],
        "agent",
        {"sub": "agent"},
        {"iss": "a"},
        {"iss": "", "sub": "agent"},
        {"iss": "a", "sub": ""},
        {"iss": "a", "sub": ["agent"]},
        {"iss": "a", "sub": "agent", "act": None},
        {"iss": "a", "sub": "agent", "act": {}},
        {"iss": "a", "sub": "agent", "act": {"sub": "agent"}},
        {"iss": "a", "sub": "agent", "sub_profile": None},
        {"iss": "a", "sub": "agent", "may_act": {"iss": "a", "sub": "b"}},
        {"iss": "a", "sub": "agent", "exp": 1},
    ],
)
def test_an_actor_that_is_none_is_malformed(act: Any) -> None:
    with refused(Fault.MALFORMED):
        parse_act(act)


def test_there_is_no_chain_without_an_actor() -> None:
    with refused(Fault.MALFORMED):
        ActorChain(())
