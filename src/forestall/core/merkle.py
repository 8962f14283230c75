"""The Merkle tree of RFC 6962: hashes, roots, and proofs that an entry is in a tree and that a tree only grew.

A leaf is SHA-256(0x00 || entry), a node SHA-256(0x01 || left || right), the empty tree SHA-256(""). Section numbers
below are those of RFC 9162, which gives the verification algorithms. Verifying is strict: a proof that is too long,
too short, or for an index outside the tree is refused, whatever it hashes to.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

from forestall.core.errors import Tampered

HASH = 32
"""Bytes of a hash."""

EMPTY = sha256(b"").digest()
"""The root of the tree without entries."""


def leaf_hash(entry: bytes) -> bytes:
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


class Tree:
    """A tree that only grows, kept as its frontier: the roots of its complete subtrees, the widest first.

    `append` is O(1) on average, `root` and `copy` O(log n); it holds at most one hash for each bit of its size.
    """

    __slots__ = ("_frontier", "size")

    def __init__(self) -> None:
        self._frontier: list[bytes] = []
        self.size = 0

    def append(self, leaf: bytes) -> int:
        """Add a leaf hash; its index."""
        index = self.size
        node = leaf
        merges = index
        while merges & 1:
            node = sha256(b"\x01" + self._frontier.pop() + node).digest()
            merges >>= 1
        self._frontier.append(node)
        self.size = index + 1
        return index

    def root(self) -> bytes:
        if not self._frontier:
            return EMPTY
        root = self._frontier[-1]
        for left in self._frontier[-2::-1]:
            root = sha256(b"\x01" + left + root).digest()
        return root

    def copy(self) -> Tree:
        """A snapshot that growth of this tree does not change."""
        twin = Tree()
        twin._frontier = self._frontier.copy()
        twin.size = self.size
        return twin


def root(leaves: Sequence[bytes]) -> bytes:
    """The root over these leaf hashes."""
    return _range(leaves, 0, len(leaves))


def inclusion_proof(leaves: Sequence[bytes], index: int, size: int | None = None) -> list[bytes]:
    """The path from leaf `index` to the root of the first `size` leaves (2.1.3.1), the leaf's sibling first. O(size).

    Raises:
        ValueError: there is no such leaf.
    """
    size = len(leaves) if size is None else size
    if not 0 <= index < size <= len(leaves):
        raise ValueError(f"No leaf {index} in a tree of {size}.")
    path: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            path.append(_range(leaves, middle, high))
            high = middle
        else:
            path.append(_range(leaves, low, middle))
            low = middle
    return path[::-1]


def consistency_proof(leaves: Sequence[bytes], first: int, second: int | None = None) -> list[bytes]:
    """That the tree of `second` leaves begins with the tree of `first` (2.1.4.1). O(second).

    Raises:
        ValueError: `first` is 0 or the trees are not both within `leaves`.
    """
    second = len(leaves) if second is None else second
    if not 0 < first <= second <= len(leaves):
        raise ValueError(f"No proof from a tree of {first} to one of {second}.")
    path: list[bytes] = []
    low, high, whole = 0, second, True
    while high != first:
        middle = low + _split(high - low)
        if first <= middle:
            path.append(_range(leaves, middle, high))
            high = middle
        else:
            path.append(_range(leaves, low, middle))
            low, whole = middle, False
    if not whole:
        path.append(_range(leaves, low, high))
    return path[::-1]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """2.1.3.2.

    Raises:
        Tampered: the proof does not lead from `leaf` at `index` to `root` of a tree of `size`.
    """
    if not 0 <= index < size or not _are_hashes(leaf, root, *proof):
        raise Tampered("The inclusion proof is not one: its index is outside the tree, or a hash is not 32 bytes.")
    node, place, last = leaf, index, size - 1
    for sibling in proof:
        if last == 0:
            raise Tampered("The inclusion proof is longer than the tree is deep.")
        if place & 1 or place == last:
            node = node_hash(sibling, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = node_hash(node, sibling)
        place, last = place >> 1, last >> 1
    if last != 0 or node != root:
        raise Tampered("The inclusion proof does not lead to the root.")


def verify_consistency(first: int, second: int, proof: Sequence[bytes], first_root: bytes, second_root: bytes) -> None:
    """2.1.4.2. From a tree to itself the proof is empty. From the empty tree there is none.

    Raises:
        Tampered: the second tree does not begin with the first.
    """
    if not 0 < first <= second:
        raise Tampered("The consistency proof is not one: the tree shrinks, or began empty, which proves nothing.")
    if first == second:
        if proof or first_root != second_root:
            raise Tampered("Two trees of one size are not the same tree, or a proof was given where none is needed.")
        return
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    if not path or not _are_hashes(*path) or _consistent_roots(first, second, path) != (first_root, second_root):
        raise Tampered("The consistency proof does not lead from the first root to the second.")


def _consistent_roots(first: int, second: int, path: list[bytes]) -> tuple[bytes, bytes] | None:
    """The roots of both trees that a proof implies; None where its length is wrong."""
    place, last = first - 1, second - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    old = new = path[0]
    for node in path[1:]:
        if last == 0:
            return None
        if place & 1 or place == last:
            old, new = node_hash(node, old), node_hash(node, new)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            new = node_hash(new, node)
        place, last = place >> 1, last >> 1
    return (old, new) if last == 0 else None


def _range(leaves: Sequence[bytes], low: int, high: int) -> bytes:
    tree = Tree()
    for place in range(low, high):
        tree.append(leaves[place])
    return tree.root()


def _split(count: int) -> int:
    """The largest power of two below `count`."""
    return 1 << (count - 1).bit_length() - 1


def _are_hashes(*values: bytes) -> bool:
    return all(len(value) == HASH for value in values)
