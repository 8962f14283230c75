"""`forestall-verify`: what it accepts, and each thing that it must refuse."""

from __future__ import annotations

import ast
import base64
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

import forestall_verify
from forestall.adapter.ledger.frames import CHECKPOINT, ENTRY, PAYLOAD, ROOM, SECTOR, Frame, encode
from forestall.adapter.ledger.proof import prove
from forestall.adapter.ledger.reader import LogReader
from forestall.core.canonical import canonical
from forestall.core.entry import Entry, Kind, Stream
from forestall.core.errors import Unavailable
from forestall.core.merkle import Tree, leaf_hash
from tests.ledgers import Place, denied, join, overwrite, permitted, settled, signed, split

pytestmark = [pytest.mark.tampers, pytest.mark.usefixtures("unhurried")]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    """CEPCEPCEEPC and CEEC."""
    place = Place(tmp_path / "place")
    with place.open() as ledger:
        signed(ledger, permitted("a"), permitted("b"))
        ledger.append(settled("a"))
        signed(ledger, permitted("c"))
        ledger.append(denied("d"))
        ledger.append(denied("e"))
    return place


def refused(place: Place, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The sentence with which a ledger is refused."""
    assert place.verify(*arguments) == 76
    captured = capsys.readouterr()
    assert "verifies" not in captured.out
    assert captured.err.startswith("forestall-verify: REFUSED. ")
    return captured.err


def resign(place: Place, bodies: list[bytes]) -> None:
    """Write the permits anew over these leaves, as only who has the key can."""
    signer, tree = place.keys.signer(Stream.PERMITS), Tree()
    head, _ = split(place.permits)
    content = head + encode(CHECKPOINT, signer.sign(0, tree.root()))
    for body in bodies:
        tree.append(leaf_hash(body))
        content += encode(ENTRY, body)
    overwrite(place.permits, content + encode(CHECKPOINT, signer.sign(tree.size, tree.root())))


def leaf(name: str, kind: Kind = Kind.PERMITTED, stream: Stream = Stream.PERMITS) -> bytes:
    return Entry(stream, kind, name, 1, {}).leaf()


def test_it_says_in_clear_sentences_what_it_verified(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.verify() == 0
    out = capsys.readouterr().out
    assert "permits: 4 entries, 4 checkpoints; all verify." in out
    assert "denials: 2 entries, 2 checkpoints; all verify." in out
    assert f"key id  {place.keys.verifier(Stream.PERMITS).key_id.hex()}" in out
    assert "detected only with --remembered" in out
    assert "whoever can replace one can replace both" in out
    assert out.endswith("The ledger verifies.\n")


def test_as_json(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    assert place.verify("--json") == 0
    said = json.loads(capsys.readouterr().out)
    tree = Tree()
    for part in split(place.permits)[1]:
        if part.kind == ENTRY:
            tree.append(leaf_hash(part.body))
    assert (said["verified"], said["rollback_checked"]) == (True, False)
    assert said["streams"]["permits"]["root"] == base64.b64encode(tree.root()).decode()
    assert said["streams"]["permits"]["entries"] == 4


def test_it_runs_alone_and_imports_nothing_of_forestall(place: Place) -> None:
    path = Path(forestall_verify.__file__)
    imported = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported - set(sys.stdlib_module_names) == {"cryptography"}
    done = subprocess.run([sys.executable, path, place.ledger], check=False, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "The ledger verifies.")


@pytest.mark.parametrize("path", ["permits", "denials"])
def test_every_changed_byte_is_refused(place: Place, path: str) -> None:
    file = place.ledger / f"{path}.log"
    whole = file.read_bytes()
    for byte in range(len(whole)):
        changed = bytearray(whole)
        changed[byte] ^= 1 << (byte % 8)
        overwrite(file, changed)
        assert place.verify() in ((76,) if byte > 60 else (76, 78)), byte


@pytest.mark.parametrize("path", ["permits", "denials"])
def test_every_truncation_that_leaves_unsigned_bytes_is_refused(place: Place, path: str) -> None:
    """Where a checkpoint happens to be last it is an older signed state: see --remembered."""
    file = place.ledger / f"{path}.log"
    whole = file.read_bytes()
    older = {part.end for part in split(file)[1] if part.kind == CHECKPOINT}
    for end in range(len(whole)):
        overwrite(file, whole[:end])
        assert (place.verify() == 0) == (end in older), end


Mutation = Callable[[list[Frame]], object]


def drop(index: int) -> Mutation:
    return lambda parts: parts.pop(index)


def twice(index: int) -> Mutation:
    return lambda parts: parts.insert(index, parts[index])


def swap(one: int, other: int) -> Mutation:
    def mutate(parts: list[Frame]) -> None:
        parts[one], parts[other] = parts[other], parts[one]

    return mutate


@pytest.mark.parametrize(
    ("mutate", "sentence"),
    [
        pytest.param(drop(1), "payload without its entry", id="entry removed, payload left"),
        pytest.param(drop(2), "payload of the entry before is missing", id="payload removed"),
        pytest.param(drop(7), "not those that the checkpoint signs", id="entry removed"),
        pytest.param(drop(-1), "the last 2 entries are not signed", id="last checkpoint removed"),
        pytest.param(twice(1), "payload of the entry before is missing", id="entry doubled"),
        pytest.param(twice(2), "a payload without its entry", id="payload doubled"),
        pytest.param(twice(3), "does not extend the one before", id="checkpoint doubled"),
        pytest.param(twice(7), "not those that the checkpoint signs", id="settlement doubled"),
        pytest.param(swap(1, 4), "not those that the checkpoint signs", id="entries swapped"),
        pytest.param(swap(3, 6), "not those that the checkpoint signs", id="checkpoints swapped"),
        pytest.param(lambda parts: parts.clear(), "there is no checkpoint", id="everything removed"),
    ],
)
def test_removed_added_and_swapped_frames_are_refused(
    place: Place, capsys: pytest.CaptureFixture[str], mutate: Mutation, sentence: str
) -> None:
    head, parts = split(place.permits)
    assert b"".join(part.kind for part in parts) == b"CEPCEPCEEPC"
    mutate(parts)
    join(place.permits, head, parts)
    assert sentence in refused(place, capsys)


def test_an_added_entry_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    head, parts = split(place.permits)
    parts.insert(1, Frame(ENTRY, leaf("x"), 0, 0))
    join(place.permits, head, parts)
    assert "not those that the checkpoint signs" in refused(place, capsys)
    join(place.permits, head, [*parts[:1], *parts[2:], parts[1]])
    assert "the last 1 entries are not signed" in refused(place, capsys)


def test_a_forged_checkpoint_is_refused(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = Place(tmp_path / "other").keys.signer(Stream.PERMITS)
    tree, bodies = Tree(), [leaf("x"), leaf("y")]
    head, _ = split(place.permits)
    for body in bodies:
        tree.append(leaf_hash(body))
    note = other.sign(2, tree.root())
    key_id = base64.b64encode(place.keys.verifier(Stream.PERMITS).key_id + note[-88:])[:6]
    for forged in (note, note.replace(note.split(b" ")[-1][:6], key_id)):
        overwrite(place.permits, head + b"".join(encode(ENTRY, body) for body in bodies) + encode(CHECKPOINT, forged))
        assert "checkpoint" in refused(place, capsys)


def test_a_checkpoint_of_the_other_stream_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    head, parts = split(place.permits)
    parts[0] = split(place.denials)[1][0]
    join(place.permits, head, parts)
    assert "the checkpoint is of another log" in refused(place, capsys)


def test_one_log_in_place_of_the_other_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(place.denials, place.permits)
    assert "this is not a log of permits" in refused(place, capsys)


def test_a_rollback_is_seen_only_with_a_remembered_checkpoint(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = str(tmp_path / "seen")
    assert place.verify("--write-remembered", seen) == 0
    assert place.verify("--remembered", seen) == 0
    assert "The ledger extends what was remembered." in capsys.readouterr().out
    head, parts = split(place.permits)
    join(place.permits, head, parts[:4])
    assert place.verify() == 0
    capsys.readouterr()
    assert "4 entries are remembered and 1 are here: the ledger was rolled back" in refused(
        place, capsys, "--remembered", seen
    )


def test_a_ledger_that_grew_extends_what_was_remembered(place: Place, tmp_path: Path) -> None:
    seen = str(tmp_path / "seen")
    assert place.verify("--write-remembered", seen) == 0
    with place.open() as ledger:
        ledger.append(permitted("f"))
    assert place.verify("--remembered", seen, "--write-remembered", seen) == 0
    assert place.verify("--remembered", seen) == 0


def test_a_forked_history_is_refused_although_it_is_signed(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = str(tmp_path / "seen")
    assert place.verify("--write-remembered", seen) == 0
    resign(place, [leaf(name) for name in "uvwxyz"])
    assert place.verify() == 0
    capsys.readouterr()
    assert "the first 4 entries are not those remembered: the history was forked" in refused(
        place, capsys, "--remembered", seen
    )


def test_two_histories_in_one_file_are_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    """A fork by who has the key: the second checkpoint does not extend the first."""
    signer, tree = place.keys.signer(Stream.PERMITS), Tree()
    for name in "xy":
        tree.append(leaf_hash(leaf(name)))
    with place.permits.open("ab") as file:
        file.write(encode(ENTRY, leaf("x")) + encode(CHECKPOINT, signer.sign(5, tree.root())))
    assert "not those that the checkpoint signs" in refused(place, capsys)


def test_nothing_is_remembered_of_what_does_not_verify(place: Place, tmp_path: Path) -> None:
    head, parts = split(place.denials)
    join(place.denials, head, parts[:-1])
    assert place.verify("--write-remembered", str(tmp_path / "seen")) == 76
    assert not (tmp_path / "seen").exists()


@pytest.mark.parametrize("content", [b"", b"x", b"a\n\nb\n", b"a\n\nb\n\nc\n"])
def test_what_was_never_remembered_is_no_memory(place: Place, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "seen").write_bytes(content)
    assert place.verify("--remembered", str(tmp_path / "seen")) in (76, 78)


def test_a_memory_without_one_of_the_streams_is_none(place: Place, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    place.verify("--write-remembered", str(seen))
    notes = seen.read_bytes().split(b"\n\n")
    seen.write_bytes(b"\n\n".join(notes[:2]) + b"\n")
    assert place.verify("--remembered", str(seen)) == 78


def test_a_ledger_that_is_being_written_verifies_live_alone(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    whole = place.permits.read_bytes()
    parts = split(place.permits)[1]
    for end in range(parts[6].end + 1, len(whole)):
        overwrite(place.permits, whole[:end])
        assert place.verify() == 76
        assert place.verify("--live") == 0
    capsys.readouterr()
    overwrite(place.permits, whole[: parts[8].end + 3])
    assert place.verify("--live") == 0
    assert "2 entries not yet signed, 1 bytes unfinished." in capsys.readouterr().out  # of three, two are still room


def room(place: Place, count: int) -> None:
    with place.permits.open("ab") as file:
        file.write(bytes(count))


def test_room_behind_the_last_frame_is_nothing(place: Place) -> None:
    for count in (1, 8, 9, 511, 70_000):
        room(place, count)
        assert place.verify() == 0
        assert place.verify("--live") == 0


def test_a_group_that_a_crash_tore_by_sectors_verifies_live_alone(place: Place) -> None:
    room(place, 70_000)
    whole = place.permits.read_bytes()
    notes = [part for part in split(place.permits)[1] if part.kind == CHECKPOINT]
    start, end = notes[-2].end, notes[-1].end
    for sector in range(start - start % SECTOR, end, SECTOR):
        torn = bytearray(whole)
        low, high = max(start, sector), min(end, sector + SECTOR)
        torn[low:high] = bytes(high - low)
        overwrite(place.permits, torn)
        lost_first = sector <= start
        assert place.verify() == (0 if lost_first and end <= sector + SECTOR else 76)
        assert place.verify("--live") == 0


def test_what_is_left_of_a_torn_checkpoint_is_none_that_stands_behind_the_tear(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    """One whole checkpoint may stand there; two are one too many."""
    with place.open() as ledger:
        signed(ledger, *(permitted(f"more{number}") for number in range(60)))
    whole = place.permits.read_bytes()
    _, parts = split(place.permits)
    notes = [at for at, part in enumerate(parts) if part.kind == CHECKPOINT]
    torn = 0
    for at, following in pairwise(notes[3:]):
        start, edge = parts[at].start, -(-parts[at].start // SECTOR) * SECTOR
        if not 9 < edge - start < 80:  # its signature is in the next sector
            continue
        torn += 1
        content = whole[:start] + bytes(edge - start) + whole[edge : parts[following].end]
        overwrite(place.permits, content)
        assert place.verify("--live") == 0
        capsys.readouterr()
        if following != notes[-1]:
            overwrite(place.permits, content + whole[parts[following].end :])
            assert "a checkpoint follows it" in refused(place, capsys, "--live")
    assert torn


def test_a_changed_byte_is_no_crash(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    room(place, 70_000)
    whole = place.permits.read_bytes()
    start, end = split(place.permits)[1][-1].start, len(whole.rstrip(ROOM))
    for at in range(start, end - 1):
        changed = bytearray(whole)
        changed[at] ^= 0x20
        overwrite(place.permits, changed)
        assert refused(place, capsys, "--live")


def test_what_stands_behind_room_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    room(place, 3)
    with place.permits.open("ab") as file:
        file.write(b"more")
    assert "no frame begins here" in refused(place, capsys, "--live")


def test_a_length_that_swallows_signed_entries_is_refused_live_too(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = bytearray(place.permits.read_bytes())
    changed[split(place.permits)[1][1].start + 3] = 0xF0
    overwrite(place.permits, changed)
    assert "a checkpoint follows it" in refused(place, capsys, "--live")


@pytest.mark.parametrize(
    ("bodies", "sentence"),
    [
        ([leaf("a"), leaf("a")], "the permit 'a' was used before"),
        ([leaf("a", Kind.SETTLED)], "'a' is settled, and was never permitted"),
        ([leaf("a", Kind.SETTLED), leaf("a")], "'a' is settled, and was never permitted"),
        ([leaf("a")[:-1] + b',"at":2}'], "two members of one name"),
        ([leaf("a")[:-1] + b',"x":{"y":1,"y":2}}'], "two members of one name"),
        ([b"[]"], "not a JSON object"),
        ([b"not JSON"], "not JSON"),
        ([b"\xff"], "not JSON"),
        ([b"[" * 60_000], "not JSON"),
        ([leaf("a").replace(b'"at":1', b'"at":' + b"9" * 5000)], "not JSON"),
        ([leaf("a").replace(b'"at":1', b'"at":NaN')], "not JSON"),
        ([leaf("a").replace(b'"at":1', b'"at":true')], "not one of this stream's"),
        ([leaf("a").replace(b'"format":1', b'"format":2')], "not one of this stream's"),
        ([leaf("a").replace(b'"id":"a"', b'"id":""')], "not one of this stream's"),
        ([leaf("a").replace(b'"id":"a"', b'"id":7')], "not one of this stream's"),
        ([leaf("a", stream=Stream.DENIALS)], "not one of this stream's"),
    ],
)
def test_signed_nonsense_is_refused(
    place: Place, capsys: pytest.CaptureFixture[str], bodies: list[bytes], sentence: str
) -> None:
    """Also from who has the key: a ledger that contradicts itself proves nothing."""
    resign(place, bodies)
    assert sentence in refused(place, capsys)


def test_a_permit_among_the_denials_is_refused(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with place.open() as ledger:
        ledger.append(Entry(Stream.DENIALS, Kind.PERMITTED, "x", 1, {}))
    assert "a permit stands among the denials" in refused(place, capsys)


def test_payloads_are_opened_with_the_payload_key(
    place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = str(place.root / "keys" / "payload.key")
    assert place.verify("--payload-key", key) == 0
    assert "3 payloads, 3 opened and matched, 0 erased." in capsys.readouterr().out
    head, parts = split(place.permits)
    parts[2], parts[5] = parts[5], parts[2]
    join(place.permits, head, parts)
    assert "does not open with this key beside this entry" in refused(place, capsys, "--payload-key", key)


SEALED = {
    "arguments": {"a": 1, "text": '","paths":{}'},
    "paths": {"a": [{"inside": None, "real": "/a"}]},
    "salt": base64.b64encode(b"salt").decode(),
}


@pytest.mark.parametrize(
    ("was", "becomes", "sentence"),
    [
        (b'"a":1', b'"a":2', "the sealed arguments are not those that the entry commits to"),
        (b'"/a"', b'"/b"', "the sealed paths are not those that the entry commits to"),
        (b',"paths":{"a":[{"inside":null,"real":"/a"}]}', b"", "the sealed paths are not those"),
        (b'"paths"', b'"other"', "the sealed paths are not those"),
        (b'"salt":"c2FsdA=="', b'"salt":7', "the sealed arguments are not those"),
        (b'"arguments":', b'"arguments": ', "the payload is not a JSON object in canonical form"),
        (b',"salt"', b', "salt"', "the payload is not a JSON object in canonical form"),
        (b"{", b"[", "the payload is not a JSON object in canonical form"),
    ],
)
def test_what_is_sealed_has_to_be_what_was_committed(
    place: Place, capsys: pytest.CaptureFixture[str], was: bytes, becomes: bytes, sentence: str
) -> None:
    true = canonical(SEALED)
    body = {
        name: "sha256:" + hashlib.sha256(b"salt" + canonical(SEALED[name])).hexdigest()
        for name in ("arguments", "paths")
    }
    key = str(place.root / "keys" / "payload.key")
    assert was in true
    with place.open() as ledger:
        signed(ledger, Entry(Stream.PERMITS, Kind.PERMITTED, "x", 1, body, True, true))
        assert place.verify("--payload-key", key) == 0
        capsys.readouterr()
        ledger.append(Entry(Stream.PERMITS, Kind.PERMITTED, "y", 1, body, True, true.replace(was, becomes, 1)))
    assert sentence in refused(place, capsys, "--payload-key", key)


def test_an_erased_payload_is_counted(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    head, parts = split(place.permits)
    parts[2] = parts[2]._replace(body=parts[2].body[:12] + bytes(len(parts[2].body) - 12))
    join(place.permits, head, parts)
    assert place.verify() == 0
    assert "1 erased" in capsys.readouterr().out


# -- proofs of one entry


@pytest.fixture
def proof(place: Place, tmp_path: Path) -> Path:
    reader = LogReader(place.ledger)
    (written,) = reader.find("b")
    verifiers = [place.keys.verifier(stream) for stream in Stream]
    path = tmp_path / "b.tlog-proof"
    path.write_bytes(prove(reader, written.position, verifiers))
    return path


def check(place: Place, proof: Path, *arguments: str) -> int:
    return forestall_verify.main(["--proof", str(proof), "--key", str(place.root / "keys" / "log.pub"), *arguments])


def test_a_proof_verifies_alone(place: Place, proof: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check(place, proof) == 0
    assert capsys.readouterr().out == ("Entry 1 (permitted b) is in example.org/test/permits, signed at 4 entries.\n")
    key = str(place.keys.verifier(Stream.PERMITS))
    assert forestall_verify.main(["--proof", str(proof), "--key", key, "--json"]) == 0


def test_a_proof_without_its_entry_needs_it(place: Place, proof: Path, tmp_path: Path) -> None:
    lines = proof.read_bytes().split(b"\n")
    entry = tmp_path / "entry.json"
    entry.write_bytes(base64.b64decode(lines[1].removeprefix(b"extra ")))
    assert check(place, proof, "--leaf", str(entry)) == 0
    overwrite(proof, b"\n".join([lines[0], *lines[2:]]))
    assert check(place, proof) == 78
    assert check(place, proof, "--leaf", str(entry)) == 0
    entry.write_bytes(entry.read_bytes().replace(b'"b"', b'"x"'))
    assert check(place, proof, "--leaf", str(entry)) == 76


def test_every_changed_character_of_a_proof_is_refused(place: Place, proof: Path) -> None:
    whole = proof.read_bytes()
    for byte in range(len(whole)):
        changed = bytearray(whole)
        changed[byte] ^= 0x04
        overwrite(proof, changed)
        assert check(place, proof) in (76, 78), byte


def test_a_proof_for_another_index_or_with_more_steps_is_refused(place: Place, proof: Path) -> None:
    whole = proof.read_bytes()
    step = base64.b64encode(bytes(32))
    for old, new in (
        (b"index 1\n", b"index 0\n"),
        (b"index 1\n", b"index 01\n"),
        (b"index 1\n", b"index 4\n"),
        (b"index 1\n", b"index 1\n" + step + b"\n"),
        (b"index 1\n", b"index 1\n" + (step + b"\n") * 70),
        (b"\n\nexample", b"\n" + step + b"\n\nexample"),
    ):
        overwrite(proof, whole.replace(old, new, 1))
        assert check(place, proof) == 76


def test_every_entry_of_every_size_can_be_proved(tmp_path: Path) -> None:
    place = Place(tmp_path)
    verifiers = [place.keys.verifier(stream) for stream in Stream]
    path = tmp_path / "proof"
    with place.open() as ledger:
        reader = LogReader(place.ledger)
        for size in range(1, 10):
            signed(ledger, permitted(f"p{size}"))
            for written in reader.read(Stream.PERMITS):
                path.write_bytes(prove(reader, written.position, verifiers))
                assert check(place, path) == 0
        with pytest.raises(Unavailable, match="not signed yet"):
            prove(reader, ledger.append(settled("p1")), verifiers)


# -- the command line


def test_a_key_can_be_given(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keys = [str(place.keys.verifier(stream)) for stream in Stream]
    assert place.verify("--key", keys[0], "--key", keys[1]) == 0
    assert "whoever can replace" not in capsys.readouterr().out
    assert place.verify("--key", keys[0]) == 78
    other = Place(tmp_path / "other")
    other.keys  # noqa: B018 - makes them
    assert place.verify("--key", str(other.root / "keys" / "log.pub")) == 76


@pytest.mark.parametrize("text", [b"", b"nonsense\n", b"a+00000000+AAAA\n", b"\xff\n", b"x" * (1 << 21)])
def test_a_malformed_key_is_unusable(place: Place, tmp_path: Path, text: bytes) -> None:
    (tmp_path / "key").write_bytes(text)
    assert place.verify("--key", str(tmp_path / "key")) == 78


def test_what_is_missing_is_unusable(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place.denials.unlink()
    assert place.verify() == 78
    assert "denials.log cannot be read: No such file" in capsys.readouterr().err
    assert forestall_verify.main([str(tmp_path / "nowhere")]) == 78
    assert forestall_verify.main([str(tmp_path / "nowhere"), "--json"]) == 78
    assert json.loads(capsys.readouterr().out)["verified"] is False


@pytest.mark.parametrize("arguments", [[], ["dir", "--proof", "x"], ["--proof", "x"]])
def test_a_wrong_command_line_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        forestall_verify.main(arguments)
    assert caught.value.code == 2


def test_what_an_entry_says_cannot_rewrite_a_terminal(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    resign(place, [leaf("\x1b[2J", Kind.SETTLED)])
    assert "\x1b" not in refused(place, capsys)


def test_payload_frames_are_bounded(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    with place.permits.open("ab") as file:
        file.write(PAYLOAD + (1 << 30).to_bytes(4, "big") + b"0000")
    assert "no frame begins here" in refused(place, capsys, "--live")
