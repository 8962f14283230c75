"""A password that is made ahead: taken once, by one process, and made anew wherever there is none."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from forestall.adapter.credential.postgresql_password import Password, Passwords, make_password
from forestall.adapter.credential.postgresql_scram import verifier
from forestall.core.ask import CannotDo
from forestall.core.reason import Reason

WAIT_S = 60

FORKED = """\
import os
from forestall.adapter.credential.postgresql_password import Passwords, make_password

def later(work):
    print(os.getpid())
    work()

passwords, others = (Passwords(lambda: make_password(os.urandom, 1), later) for _ in range(2))
passwords.prepare()
child = os.fork()
if child:
    os.waitpid(child, 0)
print(passwords.take().text, flush=True)
others.prepare()
"""


class World:
    """Counts what is made, and does in the background what it is told to, when it is told to."""

    def __init__(self) -> None:
        self.numbers = count(1)
        self.jobs: list[Callable[[], None]] = []
        self.passwords = Passwords(self.make, self.jobs.append)

    def make(self) -> Password:
        number = next(self.numbers)
        return Password(f"password {number}", f"verifier {number}")

    def prepare(self) -> None:
        self.passwords.prepare()
        self.work()

    def work(self) -> None:
        while self.jobs:
            self.jobs.pop()()

    def made(self) -> int:
        return next(self.numbers) - 1


def test_the_verifier_is_of_the_password_and_both_are_random() -> None:
    first, second = (make_password(os.urandom, 1) for _ in range(2))
    assert first.text != second.text
    assert len(first.text) == 43
    assert make_password(lambda size: b"\x07" * size, 3).verifier == verifier("Bw" + "cHBw" * 10 + "c", b"\x07" * 16, 3)


def test_nothing_of_it_is_shown() -> None:
    assert repr(Password("the password", "the verifier")) == "Password()"


def test_nothing_is_made_before_it_is_asked_for() -> None:
    world = World()
    assert world.jobs == []
    assert world.made() == 0


def test_without_one_that_is_ready_it_is_made_at_once() -> None:
    world = World()
    world.passwords.prepare()
    assert world.passwords.take().text == "password 1"
    world.work()
    assert world.passwords.take().text == "password 2"


def test_one_that_is_ready_is_taken_once() -> None:
    world = World()
    world.prepare()
    assert world.passwords.take() == Password("password 1", "verifier 1")
    assert world.passwords.take() == Password("password 2", "verifier 2")
    assert world.made() == 2


def test_one_is_made_ahead_and_no_more() -> None:
    world = World()
    world.prepare()
    world.prepare()
    assert world.made() == 1


def test_two_that_were_made_ahead_at_once_are_one() -> None:
    world = World()
    world.passwords.prepare()
    world.passwords.prepare()
    world.work()
    assert [world.passwords.take().text for _ in range(2)] == ["password 1", "password 2"]


def test_many_threads_take_each_another() -> None:
    passwords = Passwords(lambda: make_password(os.urandom, 1))

    def take(_: int) -> str:
        passwords.prepare()
        return passwords.take().text

    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(take, range(400)))
    assert len(set(taken)) == 400


def test_two_sides_of_a_fork_take_each_another_and_the_child_makes_none_ahead() -> None:
    process = subprocess.Popen([sys.executable, "-u", "-c", FORKED], stdout=subprocess.PIPE, text=True)
    said, _ = process.communicate(timeout=WAIT_S)
    ahead, childs, parents, again = said.split()
    assert childs != parents
    assert ahead == again == str(process.pid)


def test_closing_drops_it() -> None:
    world = World()
    world.prepare()
    world.passwords.close()
    assert world.passwords.take().text == "password 2"


def test_what_is_ready_after_closing_is_dropped() -> None:
    world = World()
    world.passwords.prepare()
    world.passwords.close()
    world.work()
    assert world.passwords.take().text == "password 2"


@pytest.mark.parametrize("error", [RuntimeError("can't start new thread"), CannotDo(Reason.UNAVAILABLE, "too many")])
def test_where_none_can_be_made_ahead_it_is_made_when_it_is_asked_for(error: Exception) -> None:
    def later(_: Callable[[], None]) -> None:
        raise error

    world = World()
    passwords = Passwords(world.make, later)
    passwords.prepare()
    assert passwords.take().text == "password 1"


def test_who_takes_one_is_told_what_went_wrong() -> None:
    def make() -> Password:
        raise OSError("no random numbers")

    passwords = Passwords(make)
    passwords.prepare()
    with pytest.raises(OSError, match="no random numbers"):
        passwords.take()
