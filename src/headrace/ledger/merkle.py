"""Merkle tree hashing and proofs of RFC 6962 section 2.1 and RFC 9162 section 2.1, with SHA-256.

A *node* (level, index) is the hash of the perfect subtree over leaves `index << level` to `(index + 1) << level`.
Proofs are built from a function that looks nodes up, wherever they are kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

Node = Callable[[int, int], bytes]
EMPTY_ROOT = hashlib.sha256(b"").digest()


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\0" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\1" + left + right).digest()


class CompactRange:
    """The perfect subtrees of a growing tree, largest first: all that is needed to append and to know the root."""

    def __init__(self, size: int = 0, hashes: Sequence[bytes] = ()) -> None:
        self.size = size
        self.hashes = list(hashes)

    @classmethod
    def load(cls, size: int, node: Node) -> CompactRange:
        """The range of the first `size` leaves, its hashes looked up."""
        return cls(size, [node(level, index) for level, index in _perfect(0, size)])

    def append(self, leaf: bytes) -> None:
        """Add the next leaf by its hash."""
        self.hashes.append(leaf)
        merges = self.size
        while merges & 1:
            right = self.hashes.pop()
            self.hashes.append(node_hash(self.hashes.pop(), right))
            merges >>= 1
        self.size += 1

    def root(self) -> bytes:
        return _folded(self.hashes)


def root_of(leaves: Iterable[bytes]) -> bytes:
    """The root of the tree of these leaf hashes."""
    growing = CompactRange()
    for leaf in leaves:
        growing.append(leaf)
    return growing.root()


class HashedLeaves:
    """A tree held in memory, by its leaf hashes: a lookup of nodes for small trees, such as a batch of predictions."""

    def __init__(self, hashes: Sequence[bytes]) -> None:
        self.size = len(hashes)
        self._levels = [list(hashes)]
        while len(self._levels[-1]) > 1:
            below = self._levels[-1]
            self._levels.append([node_hash(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])

    def node(self, level: int, index: int) -> bytes:
        return self._levels[level][index]

    def root(self) -> bytes:
        return range_root(0, self.size, self.node)


def range_root(low: int, high: int, node: Node) -> bytes:
    """The Merkle tree hash of leaves `low` to `high`, where a tree would hold them as one subtree."""
    return _folded([node(level, index) for level, index in _perfect(low, high)])


def inclusion_proof(index: int, size: int, node: Node) -> list[bytes]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1, from the leaf's sibling up."""
    low, high = 0, size
    path: list[bytes] = []
    while high - low > 1:
        split = low + _largest_power_below(high - low)
        if index < split:
            path.append(range_root(split, high, node))
            high = split
        else:
            path.append(range_root(low, split, node))
            low = split
    return path[::-1]


def root_of_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """The root that the proof leads to (RFC 9162 section 2.1.3.2); None when its form fits no such tree."""
    if not 0 <= index < size:
        return None
    position, last, root = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            return None
        if position & 1 or position == last:
            root = node_hash(sibling, root)
            while position and not position & 1:
                position, last = position >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        position, last = position >> 1, last >> 1
    return root if last == 0 else None


def _perfect(low: int, high: int) -> list[tuple[int, int]]:
    """The nodes (level, index) of the perfect subtrees that cover leaves `low` to `high`, from the left."""
    nodes = []
    while low < high:
        level = (high - low).bit_length() - 1
        nodes.append((level, low >> level))
        low += 1 << level
    return nodes


def _folded(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY_ROOT
    root = hashes[-1]
    for left in reversed(hashes[:-1]):
        root = node_hash(left, root)
    return root


def _largest_power_below(number: int) -> int:
    """The largest power of two smaller than `number` (> 1)."""
    return 1 << ((number - 1).bit_length() - 1)
