from __future__ import annotations

from dataclasses import replace

from forestall.core.budget import returned, uses
from forestall.core.effects import Effect
from forestall.core.quantity import Quantity
from forestall.testing.world import GRANT

WRITE = frozenset({Effect.WRITE})
ROOT = replace(GRANT, budget={Effect.WRITE: 3, Quantity.ROWS: 100, Quantity.FAN_OUT: 2}, per_call={Quantity.ROWS: 10})


def test_a_call_is_one_of_each_effect_and_the_most_that_it_may_use_of_the_rest() -> None:
    assert uses([ROOT], {Effect.WRITE, Effect.READ}) == {Effect.WRITE: 1, Effect.READ: 1, Quantity.ROWS: 10}
    assert uses([GRANT], WRITE) == {Effect.WRITE: 1}


def test_an_amount_that_nobody_bounds_is_all_there_is() -> None:
    assert uses([replace(ROOT, per_call={})], WRITE)[Quantity.ROWS] == 100
    assert uses([replace(ROOT, per_call={}), replace(ROOT, budget={Quantity.ROWS: 7}, per_call={})], WRITE) == {
        Effect.WRITE: 1,
        Quantity.ROWS: 7,
    }


def test_a_call_that_may_use_more_than_there_is_reserves_more_than_there_is() -> None:
    assert uses([replace(ROOT, budget={Quantity.ROWS: 5})], WRITE)[Quantity.ROWS] == 10
    assert uses([replace(ROOT, budget={Quantity.ROWS: 0}, per_call={})], WRITE)[Quantity.ROWS] == 1
    assert uses([replace(ROOT, budget={Quantity.ROWS: 0}, per_call={Quantity.ROWS: 0})], WRITE)[Quantity.ROWS] == 0


def test_the_tightest_of_the_chain_counts_wherever_it_stands() -> None:
    child = replace(ROOT, per_call={Quantity.ROWS: 4})
    assert uses([child, ROOT], WRITE)[Quantity.ROWS] == uses([ROOT, child], WRITE)[Quantity.ROWS] == 4
    assert uses([GRANT, ROOT], WRITE)[Quantity.ROWS] == 10


def test_a_delegation_is_no_call() -> None:
    assert uses([ROOT], {Quantity.FAN_OUT}) == {Quantity.FAN_OUT: 1}


def test_what_was_not_used_comes_back_and_what_was_used_beyond_is_taken() -> None:
    reserved = {Effect.WRITE: 1, Quantity.ROWS: 10, Quantity.BYTES: 5}
    assert returned(reserved, {Quantity.ROWS: 3}) == {Quantity.ROWS: 7}
    assert returned(reserved, {Quantity.ROWS: 12}) == {Quantity.ROWS: -2}
    assert returned(reserved, {Quantity.ROWS: 10, Quantity.SECONDS: 4}) == {}
