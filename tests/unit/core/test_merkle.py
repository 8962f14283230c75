"""RFC 6962 trees, against known answers, a second opinion, and the vectors of transparency-dev/merkle."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forestall.core.errors import Tampered
from forestall.core.merkle import (
    EMPTY,
    Tree,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root,
    verify_consistency,
    verify_inclusion,
)

VECTORS = Path(__file__).parents[4] / "shared" / "data" / "merkle"

ENTRIES = [
    bytes.fromhex(text)
    for text in (
        *("", "00", "10", "2021", "3031", "40414243"),
        *("5051525354555657", "606162636465666768696a6b6c6d6e6f"),
    )
]
LEAVES = [leaf_hash(entry) for entry in ENTRIES]
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
INCLUSION_0_OF_8 = [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
]
CONSISTENCY_6_TO_8 = [
    "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
    "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
]

leaf_lists = st.lists(st.binary(max_size=4), min_size=1, max_size=70).map(lambda entries: [*map(leaf_hash, entries)])


def recursive_root(leaves: list[bytes]) -> bytes:
    """The definition of 2.1.1, word for word."""
    if len(leaves) < 2:
        return leaves[0] if leaves else EMPTY
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(recursive_root(leaves[:split]), recursive_root(leaves[split:]))


@pytest.mark.parametrize("size", range(9))
def test_known_roots(size: int) -> None:
    tree = Tree()
    for leaf in LEAVES[:size]:
        tree.append(leaf)
    assert tree.root().hex() == ROOTS[size]
    assert root(LEAVES[:size]).hex() == ROOTS[size]


def test_known_proofs() -> None:
    assert [step.hex() for step in inclusion_proof(LEAVES, 0)] == INCLUSION_0_OF_8
    assert [step.hex() for step in consistency_proof(LEAVES, 6)] == CONSISTENCY_6_TO_8


def vectors() -> list[Any]:
    if not VECTORS.is_dir():
        reason = f"the vectors of transparency-dev/merkle are not in {VECTORS}"
        return [pytest.param(None, marks=pytest.mark.skip(reason=reason))]
    files = sorted(VECTORS.rglob("*.json"))
    assert len(files) == 196
    return [pytest.param(file, id=str(file.relative_to(VECTORS).with_suffix(""))) for file in files]


def decode(text: str | None) -> bytes:
    return base64.b64decode(text or "")


@pytest.mark.parametrize("file", vectors())
def test_published_vectors(file: Path) -> None:
    case = json.loads(file.read_text())
    proof = [decode(step) for step in case["proof"] or []]

    def verify() -> None:
        if "leafIdx" in case:
            verify_inclusion(decode(case["leafHash"]), case["leafIdx"], case["treeSize"], proof, decode(case["root"]))
        else:
            verify_consistency(case["size1"], case["size2"], proof, decode(case["root1"]), decode(case["root2"]))

    if case["wantErr"]:
        with pytest.raises(Tampered):
            verify()
    else:
        verify()


@given(leaf_lists)
def test_the_frontier_agrees_with_the_definition(leaves: list[bytes]) -> None:
    tree = Tree()
    for size, leaf in enumerate(leaves, 1):
        assert tree.append(leaf) == size - 1
        assert tree.root() == recursive_root(leaves[:size])


@given(leaf_lists, st.data())
def test_proofs_verify_and_altered_ones_do_not(leaves: list[bytes], data: st.DataObject) -> None:
    size = data.draw(st.integers(1, len(leaves)))
    index = data.draw(st.integers(0, size - 1))
    proof = inclusion_proof(leaves, index, size)
    known = recursive_root(leaves[:size])
    verify_inclusion(leaves[index], index, size, proof, known)
    with pytest.raises(Tampered):
        verify_inclusion(leaf_hash(b"another entry"), index, size, proof, known)
    with pytest.raises(Tampered):
        verify_inclusion(leaves[index], index, size, [*proof, known], known)
    with pytest.raises(Tampered):
        verify_inclusion(leaves[index], size, size, proof, known)


@given(leaf_lists, st.data())
def test_a_tree_that_grew_is_consistent_and_a_fork_is_not(leaves: list[bytes], data: st.DataObject) -> None:
    second = data.draw(st.integers(1, len(leaves)))
    first = data.draw(st.integers(1, second))
    proof = consistency_proof(leaves, first, second)
    old, new = recursive_root(leaves[:first]), recursive_root(leaves[:second])
    verify_consistency(first, second, proof, old, new)
    fork = recursive_root([leaf_hash(b"another entry"), *leaves[1:first]])
    with pytest.raises(Tampered):
        verify_consistency(first, second, proof, fork, new)
    with pytest.raises(Tampered):
        verify_consistency(first, second, [*proof, new], old, new)


def test_a_copy_does_not_grow_with_its_tree() -> None:
    tree = Tree()
    tree.append(LEAVES[0])
    twin = tree.copy()
    tree.append(LEAVES[1])
    assert (twin.size, twin.root().hex()) == (1, ROOTS[1])


@pytest.mark.parametrize(("index", "size"), [(8, 8), (-1, 8), (0, 9), (0, 0)])
def test_no_proof_of_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="No leaf"):
        inclusion_proof(LEAVES, index, size)


@pytest.mark.parametrize(("first", "second"), [(0, 8), (8, 7), (3, 9)])
def test_no_proof_between_trees_that_are_not_there(first: int, second: int) -> None:
    with pytest.raises(ValueError, match="No proof"):
        consistency_proof(LEAVES, first, second)


def test_an_empty_tree_proves_nothing() -> None:
    with pytest.raises(Tampered):
        verify_consistency(0, 0, [], EMPTY, EMPTY)
    with pytest.raises(Tampered):
        verify_consistency(0, 8, [], EMPTY, bytes.fromhex(ROOTS[8]))
    with pytest.raises(Tampered):
        verify_inclusion(LEAVES[0], 0, 0, [], EMPTY)
