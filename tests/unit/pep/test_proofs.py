"""Proofs that a thread waits for: they come, or it hears that none will."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from forestall.frame import HEAD, decode
from forestall.pep.mcp import proofs
from forestall.pep.mcp.proofs import NoProof, Proofs

ASKED = ("forestall-0-1", "POST", "https://a.example/", "n")


def made(act: Callable[[Proofs, dict[str, Any]], None], *, there: bool = True) -> str:
    """What a thread gets when `act` is done with what it asked."""

    async def whole() -> str:
        def send(frame: bytes) -> bool:
            asyncio.get_running_loop().call_soon(act, some, decode(frame[HEAD:]))
            return there

        some = Proofs(asyncio.get_running_loop(), send)
        return await asyncio.to_thread(some.make, *ASKED)

    return asyncio.run(whole())


def test_it_asks_for_one_request_under_a_number_that_no_call_has() -> None:
    seen: list[Mapping[str, Any]] = []

    def act(some: Proofs, frame: dict[str, Any]) -> None:
        seen.append(frame)
        some.answered({"type": "proof", "id": frame["id"] - 1, "proof": "another's"})
        some.answered({"type": "proof", "id": frame["id"], "proof": "a proof"})
        some.answered({"type": "proof", "id": frame["id"], "proof": "a second"})

    assert made(act) == "a proof"
    (frame,) = seen
    assert frame["id"] < 0
    assert frame == {
        "type": "prove",
        "id": frame["id"],
        "credential": ASKED[0],
        "method": "POST",
        "url": ASKED[2],
        "nonce": "n",
    }


@pytest.mark.parametrize("answer", [{}, {"proof": 1}, {"proof": "a\r\nb"}, {"proof": "\u00e4"}], ids=str)
def test_what_is_none_is_none(answer: dict[str, Any]) -> None:
    with pytest.raises(NoProof):
        made(lambda some, frame: some.answered({"type": "proof", "id": frame["id"], **answer}))


def test_nobody_waits_for_a_decision_point_that_is_gone() -> None:
    with pytest.raises(NoProof):
        made(lambda some, _: some.lost())
    with pytest.raises(NoProof):
        made(lambda *_: None, there=False)


def test_one_that_says_nothing_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "WITHIN_S", 0.01)
    with pytest.raises(NoProof):
        made(lambda *_: None)


def test_a_loop_that_was_closed_makes_none() -> None:
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(NoProof):
        Proofs(loop, lambda _: True).make(*ASKED)
