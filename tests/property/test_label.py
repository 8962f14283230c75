"""Labels are a lattice: what follows from that is what information flow rests on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from forestall.core.label import CLEAN, WORST, Confidentiality, Integrity, Label

LABELS = st.builds(Label, st.sampled_from(Integrity), st.sampled_from(Confidentiality))


@given(LABELS)
def test_joining_a_label_with_itself_changes_nothing(a: Label) -> None:
    assert a.join(a) == a


@given(LABELS, LABELS)
def test_the_order_of_a_join_does_not_matter(a: Label, b: Label) -> None:
    assert a.join(b) == b.join(a)


@given(LABELS, LABELS, LABELS)
def test_the_grouping_of_joins_does_not_matter(a: Label, b: Label, c: Label) -> None:
    assert a.join(b).join(c) == a.join(b.join(c))


@given(LABELS)
def test_clean_is_the_bottom_and_worst_the_top(a: Label) -> None:
    assert a.join(CLEAN) == a
    assert a.join(WORST) == WORST
    assert CLEAN.may_flow(a)
    assert a.may_flow(WORST)


@given(LABELS, LABELS, LABELS)
def test_flow_is_a_partial_order(a: Label, b: Label, c: Label) -> None:
    assert a.may_flow(a)
    assert not (a.may_flow(b) and b.may_flow(a)) or a == b
    assert not (a.may_flow(b) and b.may_flow(c)) or a.may_flow(c)


@given(LABELS, LABELS, LABELS)
def test_the_join_is_the_least_place_that_both_may_reach(a: Label, b: Label, c: Label) -> None:
    assert a.may_flow(a.join(b))
    assert b.may_flow(a.join(b))
    assert (a.may_flow(c) and b.may_flow(c)) == a.join(b).may_flow(c)


@given(LABELS, LABELS, LABELS)
def test_reading_more_never_opens_a_way_out(seen: Label, more: Label, sink: Label) -> None:
    assert not seen.join(more).may_flow(sink) or seen.may_flow(sink)
