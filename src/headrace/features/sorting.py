"""Stable orders of many integers, several times faster than `numpy.argsort(kind="stable")`."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import polars as pl

BLOCK = 1 << 16
"""Elements that are worked on at once: intermediate arrays stay in the processor's cache."""

FEW = 1024
"""So many values NumPy sorts before Polars has begun."""


def blocks(length: int) -> Iterator[slice]:
    """Slices of BLOCK elements, the last one shorter, that cover `length`."""
    return (slice(start, min(start + BLOCK, length)) for start in range(0, length, BLOCK))


def stable_argsort(codes: np.ndarray) -> np.ndarray:
    """The stable order of int64 codes >= 0.

    As many high bits of the codes as fit are packed above the row number into one uint64, and these are sorted by value:
    the result says the order. Only rows that are equal in those bits, mostly few, are then sorted by the lower ones.
    """
    number = max(len(codes) - 1, 1).bit_length()
    bits = (int(codes.max()) if len(codes) else 0).bit_length()
    shift = max(bits + number - 64, 0)
    packed = np.empty(len(codes), np.uint64)
    for block in blocks(len(codes)):
        part = packed[block]
        np.right_shift(codes[block].view(np.uint64), np.uint64(shift), out=part)
        part <<= np.uint64(number)
        part |= np.arange(block.start, block.stop, dtype=np.uint64)
    ordered = _sorted(packed)
    index: np.ndarray = np.bitwise_and(ordered, np.uint64((1 << number) - 1), out=packed).view(np.int64)
    if not shift:
        return index
    same = np.zeros(max(len(codes) - 1, 0), bool)
    for block in blocks(len(same)):
        same[block] = (ordered[block] ^ ordered[block.start + 1 : block.stop + 1]) < np.uint64(1 << number)
    rows, group = runs(same)
    if len(rows):
        places = index[rows]
        lower = codes[places] & ((1 << shift) - 1)
        lower |= group << shift
        index[rows] = places[stable_argsort(lower)]
    return index


def _sorted(values: np.ndarray) -> np.ndarray:
    """A sorted copy, which may be read only. NumPy's own sort takes 3.5 times as long on an AMD processor with AVX-512."""
    if len(values) <= FEW:
        return np.sort(values)
    ordered: np.ndarray = pl.Series(values).sort(multithreaded=False).to_numpy()
    return ordered


def runs(same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of n rows, those in runs of more than one, and the number of the run of each; `same` bool [n - 1] tells which rows
    belong together with the one before."""
    inner = np.zeros(len(same) + 2, bool)
    inner[1:-1] = same
    rows = np.flatnonzero(inner[1:] | inner[:-1])
    return rows, np.cumsum(~inner[rows], dtype=np.int64) - 1
