"""What a list of a backend may do, and what it may not."""

from __future__ import annotations

from threading import Thread
from typing import Any

from tests.backends import Desk
from tests.unit.lending.books import OWNER, WAIT_S


def test_a_list_of_a_backend_ends_what_is_ours_and_unknown_and_nothing_else(books_of: Any, desk: Desk) -> None:
    books = books_of()
    known, orphan = books.issued(), f"forestall-{OWNER}-{'f' * 32}"
    desk.leave(orphan)
    desk.leave("forestall-00000000-1")
    (found,) = books.lending.recovering.begin_listing(books.lending.classes["desk"]).result(WAIT_S)
    assert (found.name, found.permit, found.credential, found.task) == (orphan, "f" * 32, "desk", "")
    books.lending.ending.revoke(found)
    assert desk.live == {known.name, "forestall-00000000-1"}


def test_what_is_made_while_a_backend_lists_is_no_orphan(books_of: Any, desk: Desk) -> None:
    """It was not known when the list was asked for; it is, when the list is asked for once more."""
    books = books_of(timeout_s=WAIT_S)
    desk.fault(list="slow")
    listing = books.lending.recovering.begin_listing(books.lending.classes["desk"])
    making = Thread(target=books.issued)
    making.start()
    making.join(WAIT_S)
    desk.fault()
    assert listing.result(WAIT_S) == []
    assert len(desk.live) == 1
