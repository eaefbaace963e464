"""The Merkle tree against the definitions of RFC 6962, written down naively here."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.ledger.merkle import (
    EMPTY_ROOT,
    CompactRange,
    HashedLeaves,
    inclusion_proof,
    leaf_hash,
    root_of_inclusion,
)

SIZES = st.integers(1, 300)


def naive(entries: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while k * 2 < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + naive(entries[:k]) + naive(entries[k:])).digest()


def entries_of(size: int) -> list[bytes]:
    return [f"entry {i}".encode() for i in range(size)]


def tree_of(size: int) -> HashedLeaves:
    return HashedLeaves([leaf_hash(e) for e in entries_of(size)])


def test_known_roots_of_the_certificate_transparency_reference_tree():
    """Inputs and roots of google/certificate-transparency, merkle_tree_test.cc."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    growing = CompactRange()
    assert growing.root() == EMPTY_ROOT
    for number, text in enumerate(inputs, 1):
        growing.append(leaf_hash(bytes.fromhex(text)))
        if number in roots:
            assert growing.root().hex() == roots[number]


@settings(max_examples=40, deadline=None)
@given(SIZES)
def test_compact_range_and_levels_give_the_naive_root(size):
    growing = CompactRange()
    for entry in entries_of(size):
        growing.append(leaf_hash(entry))
    tree = tree_of(size)
    assert growing.root() == tree.root() == naive(entries_of(size))
    assert CompactRange.load(size, tree.node).hashes == growing.hashes


@settings(max_examples=60, deadline=None)
@given(SIZES, st.data())
def test_inclusion_proofs_hold_and_prove_nothing_else(size, data):
    index = data.draw(st.integers(0, size - 1))
    tree, leaf = tree_of(size), leaf_hash(entries_of(size)[index])
    proof = inclusion_proof(index, size, tree.node)
    assert root_of_inclusion(leaf, index, size, proof) == tree.root()
    assert len(proof) <= (size - 1).bit_length()
    other = data.draw(st.integers(0, size))
    if other != index:
        assert root_of_inclusion(leaf, other, size, proof) != tree.root()
    if proof:
        assert root_of_inclusion(leaf, index, size, proof[:-1]) is None
        assert root_of_inclusion(leaf, index, size, [bytes(32), *proof[1:]]) != tree.root()
    assert root_of_inclusion(leaf, index, size, [*proof, bytes(32)]) is None
