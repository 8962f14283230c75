"""What every store of burns has to keep, as tests to inherit. Needs pytest.

class TestMine(BurnsContract):
    @pytest.fixture
    def open_store(self, tmp_path): ...
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256

import pytest

from forestall_edge.burns import Burns
from forestall_edge.refusal import Reason, Refused

AT = 1_800_000_000
"""When these tests take place."""

Open = Callable[[int], Burns]


def key(name: str) -> bytes:
    return sha256(name.encode()).digest()


class BurnsContract:
    """`open_store` opens it at a time, anew: each time for another verifier, of the same audience if it is shared."""

    @pytest.fixture
    def open_store(self) -> Open:
        raise NotImplementedError

    def test_one_caller_wins(self, open_store: Open) -> None:
        store = open_store(AT)
        store.burn(key("a"), AT + 10, AT)
        store.burn(key("b"), AT + 10, AT)
        with pytest.raises(Refused) as refused:
            store.burn(key("a"), AT + 10, AT)
        assert refused.value.reason is Reason.BURNED

    def test_of_many_at_once_one_wins(self, open_store: Open) -> None:
        first = open_store(AT)
        stores = [first, open_store(AT)] if first.shared else [first]

        def wins(number: int) -> bool:
            try:
                stores[number % len(stores)].burn(key("a"), AT + 10, AT)
            except Refused as refused:
                assert refused.reason is Reason.BURNED  # noqa: PT017 - in a thread of a pool
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(wins, range(32))) == 1

    def test_what_ended_is_forgotten_and_never_good_again(self, open_store: Open) -> None:
        store = open_store(AT)
        store.burn(key("a"), AT + 10, AT)
        store.burn(key("b"), AT + 30, AT + 10)
        for until, reason in ((AT + 10, Reason.EXPIRED), (AT + 30, Reason.BURNED)):
            with pytest.raises(Refused) as refused:
                store.burn(key("a" if until == AT + 10 else "b"), until, AT + 9)
            assert refused.value.reason is reason

    def test_what_was_burnt_by_another_verifier_is_burnt(self, open_store: Open) -> None:
        store = open_store(AT)
        if not store.shared:
            return
        store.burn(key("a"), AT + 10, AT)
        with pytest.raises(Refused) as refused:
            open_store(AT + 1).burn(key("a"), AT + 10, AT + 1)
        assert refused.value.reason is Reason.BURNED

    def test_it_says_since_when_it_knows(self, open_store: Open) -> None:
        assert open_store(AT).since == AT
        later = open_store(AT + 5)
        assert later.since == (AT if later.shared else AT + 5)
