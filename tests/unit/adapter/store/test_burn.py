"""A burn happens once, is kept until it expires, and gives way to nothing: no flood, no clock, no broken disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forestall.adapter.store.burn import BATCH, MAX_TEXT, Burn, Burns, Limits, _key
from forestall.core.errors import ForestallError, InvalidInput, Unavailable
from forestall.proof.fault import Fault, InvalidProof

NOW = 1_800_000_000_000
ROOT = Path(__file__).parents[4]
BURN = Burn("https://pdp.example", "jti-1", "agent", NOW + 60_000)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "burns.sqlite"


@pytest.fixture
def burns(path: Path) -> Iterator[Burns]:
    with closing(Burns(path, now=NOW)) as made:
        yield made


def fault(burns: Burns, burn: Burn, now: int = NOW) -> Fault | None:
    """None where it was burned."""
    try:
        burns.burn(burn, now)
    except InvalidProof as refusal:
        return refusal.fault
    return None


def rows(path: Path) -> int:
    """As they are, and as the triggers counted them."""
    with closing(sqlite3.connect(path)) as reader:
        found = reader.execute("SELECT count(*) FROM burn").fetchone()[0]
        assert reader.execute("SELECT burns FROM record").fetchone()[0] == found
        assert reader.execute("SELECT coalesce(sum(burns), 0) FROM issuer").fetchone()[0] == found
        return int(found)


def fill(burns: Burns, count: int, *, issuer: str = "agent", expires_at: int = NOW + 10) -> None:
    for number in range(count):
        burns.burn(Burn("a", f"{issuer} {expires_at} {number}", issuer, expires_at), NOW)


# -- once


def test_it_burns_once(burns: Burns) -> None:
    assert [fault(burns, BURN) for _ in range(3)] == [None, Fault.REPLAYED, Fault.REPLAYED]


@pytest.mark.parametrize("change", [{"issuer": "another"}, {"expires_at": NOW + 70_000}])
def test_neither_another_issuer_nor_another_expiry_makes_it_another(burns: Burns, change: dict[str, object]) -> None:
    burns.burn(BURN, NOW)
    assert fault(burns, replace(BURN, **change)) is Fault.REPLAYED  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"id": "jti-2"}, {"id": "JTI-1"}, {"audience": "https://pdp.example/"}])
def test_another_id_or_audience_is_another_burn(burns: Burns, change: dict[str, str]) -> None:
    burns.burn(BURN, NOW)
    assert fault(burns, replace(BURN, **change)) is None  # type: ignore[arg-type]


names = st.text(min_size=1)


@given(one=st.tuples(names, names), other=st.tuples(names, names))
def test_names_never_run_together(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Moving the border between audience and id makes another key; lone surrogates are names like any other."""
    key = _key(Burn(*one, "agent", NOW))
    assert (key == _key(Burn(*other, "another", NOW + 1))) is (one == other)
    assert key != _key(Burn(one[0] + one[1][:1], one[1][1:], "agent", NOW))


def test_of_many_threads_one_wins(burns: Burns) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: fault(burns, BURN), range(32)))
    assert sorted(found, key=str) == [None, *[Fault.REPLAYED] * 31]


def test_two_that_have_it_open_share_it(path: Path, burns: Burns) -> None:
    with closing(Burns(path, now=NOW)) as second:
        second.burn(BURN, NOW)
        assert fault(burns, BURN) is Fault.REPLAYED


def test_a_restart_keeps_it_and_says_since_when(path: Path) -> None:
    with closing(Burns(path, now=NOW)) as first:
        first.burn(BURN, NOW)
    with closing(Burns(path, now=NOW + 5)) as second:
        assert second.made_at == NOW
        assert fault(second, BURN) is Fault.REPLAYED


def test_nothing_is_on_disk_beside_the_record_and_only_its_owner_reads_it(path: Path, burns: Burns) -> None:
    burns.burn(BURN, NOW)
    assert {one.name for one in path.parent.iterdir()} == {path.name, f"{path.name}-wal", f"{path.name}-shm"}
    assert {one.stat().st_mode & 0o777 for one in path.parent.iterdir()} == {0o600}


def test_what_was_burned_is_not_written_down(path: Path, burns: Burns) -> None:
    burns.burn(replace(BURN, id="a-secret-jti"), NOW)
    assert all(b"a-secret-jti" not in one.read_bytes() for one in path.parent.iterdir())


# -- what is no burn


@pytest.mark.parametrize("name", ["audience", "id", "issuer"])
@pytest.mark.parametrize("length", [0, MAX_TEXT + 1])
def test_a_name_that_is_empty_or_too_long_is_refused(burns: Burns, name: str, length: int) -> None:
    with pytest.raises(InvalidInput, match=f"The {name} .* {length} characters"):
        burns.burn(replace(BURN, **{name: "x" * length}), NOW)  # type: ignore[arg-type]
    assert fault(burns, replace(BURN, **{name: "x" * MAX_TEXT})) is None  # type: ignore[arg-type]


def test_what_expired_is_refused_and_what_expires_too_late(burns: Burns) -> None:
    limit = Limits().lifetime_ms
    assert fault(burns, replace(BURN, expires_at=NOW)) is Fault.EXPIRED
    with pytest.raises(InvalidInput, match="expires at most"):
        burns.burn(replace(BURN, expires_at=NOW + limit + 1), NOW)
    assert fault(burns, replace(BURN, expires_at=NOW + limit)) is None


def test_no_error_holds_the_id(burns: Burns) -> None:
    secret = "s" * (MAX_TEXT + 1)
    for burn in (replace(BURN, id=secret), replace(BURN, id=secret[1:], expires_at=NOW)):
        with pytest.raises(ForestallError) as error:
            burns.burn(burn, NOW)
        assert "sss" not in f"{error.value}{error.value!r}"


# -- bounded, and nothing live is lost


def test_expired_burns_go_in_batches(path: Path, burns: Burns) -> None:
    fill(burns, 2 * BATCH + 5)
    left = []
    for number in range(4):
        burns.burn(Burn("a", f"later {number}", "other", NOW + 1000), NOW + 10)
        left.append(rows(path))
    assert left == [BATCH + 5 + 1, 5 + 2, 3, 4]


@pytest.mark.parametrize("issuer", ["agent", "another"])
def test_a_burn_is_kept_to_its_last_millisecond(burns: Burns, issuer: str) -> None:
    burns.burn(BURN, NOW)
    last = BURN.expires_at - 1
    burns.burn(Burn("a", "sweeps", issuer, last + 1000), last)
    assert fault(burns, BURN, last) is Fault.REPLAYED


def test_a_flood_is_refused_at_its_quota_and_evicts_nothing(path: Path) -> None:
    with closing(Burns(path, now=NOW, limits=Limits(per_issuer=3))) as burns:
        burns.burn(replace(BURN, issuer="honest"), NOW)
        fill(burns, 3, issuer="flood")
        for number in range(5):
            with pytest.raises(Unavailable, match="'flood' has 3 used proofs"):
                burns.burn(Burn("a", f"more {number}", "flood", NOW + 10), NOW)
        assert fault(burns, replace(BURN, issuer="honest")) is Fault.REPLAYED
        assert fault(burns, Burn("a", f"flood {NOW + 10} 0", "flood", NOW + 10)) is Fault.REPLAYED
        assert fault(burns, Burn("a", "x", "honest", NOW + 10)) is None
        assert fault(burns, Burn("a", "y", "flood", NOW + 20), NOW + 10) is None, "some have expired"
        assert rows(path) == 2


def test_the_whole_record_has_a_bound(path: Path) -> None:
    with closing(Burns(path, now=NOW, limits=Limits(total=3))) as burns:
        for issuer in ("a", "b", "c"):
            fill(burns, 1, issuer=issuer)
        with pytest.raises(Unavailable, match="holds as many used proofs as it may"):
            fill(burns, 1, issuer="d")
        assert fault(burns, BURN, NOW + 10) is None


def test_a_quota_that_was_lowered_is_reached_although_each_attempt_is_refused(path: Path) -> None:
    with closing(Burns(path, now=NOW)) as burns:
        fill(burns, 3 * BATCH)
    with closing(Burns(path, now=NOW, limits=Limits(per_issuer=1))) as burns:
        for _ in range(2):
            with pytest.raises(Unavailable, match="as many as an issuer may"):
                burns.burn(BURN, NOW + 10)
        assert fault(burns, BURN, NOW + 10) is None
        assert rows(path) == 1


def test_a_clock_that_is_set_back_revives_nothing(burns: Burns) -> None:
    burns.burn(BURN, NOW)
    assert fault(burns, replace(BURN, id="x", expires_at=NOW + 90_000), NOW + 60_000) is None, "and sweeps"
    assert fault(burns, BURN, NOW) is Fault.EXPIRED


lives = st.lists(st.integers(1, 40), min_size=3, max_size=3)
steps = st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab"), st.integers(-15, 20)), max_size=30)


@settings(max_examples=25)  # each syncs a disk some dozens of times
@given(lives=lives, steps=steps)
def test_whatever_the_clock_does_no_proof_is_burned_twice(lives: list[int], steps: list[tuple[int, str, int]]) -> None:
    now, accepted = NOW, set[int]()
    with tempfile.TemporaryDirectory() as name:
        for begin in range(0, len(steps), 8):
            with closing(Burns(Path(name) / "b", now=now, limits=Limits(per_issuer=2))) as burns:
                for number, issuer, step in steps[begin : begin + 8]:
                    now += step
                    burn = Burn("a", str(number), issuer, NOW + lives[number])
                    with suppress(Unavailable):
                        found = fault(burns, burn, now)
                        assert (found is None) <= (number not in accepted and burn.expires_at > now)
                        assert (found is Fault.REPLAYED) <= (number in accepted)
                        accepted |= {number} if found is None else set()


# -- what goes wrong with the file


def test_a_locked_record_refuses_in_one_sentence_and_recovers(path: Path) -> None:
    with closing(Burns(path, now=NOW, limits=Limits(busy_ms=0))) as burns:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(Unavailable) as error:
                burns.burn(BURN, NOW)
        assert str(error.value) == (
            f"{path} does not take what is used once: another process keeps it locked; end that process."
        )
        assert fault(burns, BURN) is None


def test_a_replay_is_told_although_the_record_is_locked(path: Path) -> None:
    with closing(Burns(path, now=NOW, limits=Limits(busy_ms=0))) as burns:
        burns.burn(BURN, NOW)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            assert fault(burns, BURN) is Fault.REPLAYED


def fill_up(burns: Burns) -> tuple[int, Unavailable]:
    for number in range(100_000):
        try:
            burns.burn(Burn("a", str(number), "i" * 500, NOW + 10), NOW)
        except Unavailable as error:
            return number, error
    raise AssertionError("it never filled up")


def test_a_record_at_its_size_refuses_and_keeps_what_it_has(path: Path) -> None:
    with closing(Burns(path, now=NOW, limits=Limits(pages=24))) as burns:
        count, error = fill_up(burns)
        assert str(error).endswith("there is no space left; make room on the disk.")
        assert count > 10
        assert all(fault(burns, Burn("a", str(number), "x", NOW + 10)) for number in range(count))
        assert rows(path) == count


FULL = """
import resource, signal, sys
from pathlib import Path
from tests.unit.adapter.store.test_burn import NOW, Burn, Burns, fault, fill_up
path = Path(sys.argv[1])
burns = Burns(path, now=NOW)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
count, error = fill_up(burns)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert all(fault(burns, Burn("a", str(number), "x", NOW + 10)) for number in range(count))
burns.burn(Burn("a", "room again", "agent", NOW + 10), NOW)
print(count, error)
"""


def run(script: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_disk_that_takes_no_more_refuses_and_recovers(path: Path) -> None:
    """A real limit of the system, in a process of its own, as any user."""
    count, _, error = run(FULL, path).partition(" ")
    assert int(count) > 10
    assert error.strip() in {
        f"{path} does not take what is used once: {why}."
        for why in ("there is no space left; make room on the disk", "it cannot be read or written; mend the disk")
    }


READ_ONLY = """
import os, sys
from contextlib import suppress
from pathlib import Path
from tests.unit.adapter.store.test_burn import NOW, BURN, Burns, Unavailable
directory = Path(sys.argv[1])
with suppress(PermissionError):  # whoever may not change it is bound already
    os.setuid(65534)
path = directory / "burns"
Burns(path, now=NOW).close()
path.chmod(0o400)
directory.chmod(0o500)
try:
    Burns(path, now=NOW).burn(BURN, NOW)
except Unavailable as error:
    print(error)
"""


def test_a_record_that_cannot_be_written_refuses() -> None:
    """As a user whom permissions bind."""
    with tempfile.TemporaryDirectory() as name:
        if os.geteuid() == 0:
            with suppress(PermissionError):
                os.chown(name, 65534, 65534)
        said = run(READ_ONLY, name)
        Path(name).chmod(0o700)
    assert said.startswith(f"{name}/burns does not take what is used once: it ")
    assert "mend" in said
    assert said.count("\n") == 1


FORKED = """
import os, sys
from pathlib import Path
from tests.unit.adapter.store.test_burn import NOW, BURN, Burns, Unavailable
burns = Burns(Path(sys.argv[1]), now=NOW)
burns._lock.acquire()
child = os.fork()
if not child:
    try:
        burns.burn(BURN, NOW)
    except Unavailable as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_fork_opens_its_own(path: Path) -> None:
    assert run(FORKED, path) == f"{path} was opened by another process; each opens it for itself.\n"


def test_a_record_that_is_not_there_any_more_refuses(path: Path, burns: Burns, tmp_path: Path) -> None:
    path.rename(tmp_path / "moved")
    with pytest.raises(Unavailable, match="No such file or directory"):
        burns.burn(BURN, NOW)
    with closing(Burns(path, now=NOW)), pytest.raises(Unavailable, match="was moved or replaced"):
        burns.burn(BURN, NOW)


def test_a_record_that_was_closed_refuses(burns: Burns, path: Path) -> None:
    burns.close()
    with pytest.raises(Unavailable, match="was closed"):
        burns.burn(BURN, NOW)


def test_no_record_is_made_where_there_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="make its directory"):
        Burns(tmp_path / "none" / "burns", now=NOW)


@pytest.mark.parametrize("kind", ["directory", "link", "pipe"])
def test_what_is_no_ordinary_file_is_refused(path: Path, tmp_path: Path, kind: str) -> None:
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        Burns(tmp_path / "elsewhere", now=NOW).close()
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Unavailable, match="It is no ordinary file"):
        Burns(path, now=NOW)


@pytest.mark.parametrize("content", [b"", b"not a database" * 1000])
def test_what_is_no_record_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(Unavailable, match="move it away once every proof that was made so far has expired"):
        Burns(path, now=NOW)
    assert path.read_bytes() == content


def test_a_record_of_another_layout_is_refused(path: Path) -> None:
    Burns(path, now=NOW).close()
    with closing(sqlite3.connect(path)) as other:
        other.execute("PRAGMA user_version=99")
    with pytest.raises(Unavailable, match="of another layout"):
        Burns(path, now=NOW)


def test_opening_one_leaves_the_locks_of_another_alone(path: Path) -> None:
    """POSIX takes a process's locks on a file away when any of its descriptors of that file is closed."""
    Burns(path, now=NOW).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as own:
        own.execute("BEGIN IMMEDIATE")
        Burns(path, now=NOW).close()
        script = (
            "import sqlite3, sys\n"
            "try: sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None).execute('BEGIN IMMEDIATE')\n"
            "except sqlite3.OperationalError as error: print(error)"
        )
        assert run(script, path) == "database is locked\n"
