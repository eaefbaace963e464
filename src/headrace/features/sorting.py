"""Stable orders of many integers, several times faster than `numpy.argsort(kind="stable")`."""

from __future__ import annotations

import numpy as np


def stable_argsort(codes: np.ndarray) -> np.ndarray:
    """The stable order of int64 codes >= 0.

    As many high bits of the codes as fit are packed above the row number into one uint64, and these are sorted by value
    (`numpy.sort` is vectorised, and its result says the order). Only rows that are equal in those bits, mostly few, are
    then sorted by the lower ones.
    """
    number = np.uint64(max(len(codes) - 1, 1).bit_length())
    bits = (int(codes.max()) if len(codes) else 0).bit_length()
    shift = np.uint64(max(bits + int(number) - 64, 0))
    packed = codes.view(np.uint64) >> shift
    packed <<= number
    packed |= np.arange(len(codes), dtype=np.uint64)
    packed.sort()
    if not shift:
        packed &= np.uint64((1 << int(number)) - 1)
        return packed.view(np.int64)
    rows, group = runs((packed[1:] ^ packed[:-1]) >> number == 0)
    packed &= np.uint64((1 << int(number)) - 1)
    index = packed.view(np.int64)
    if len(rows):
        places = index[rows]
        lower = codes[places] & ((1 << int(shift)) - 1)
        lower |= group << int(shift)
        index[rows] = places[stable_argsort(lower)]
    return index


def runs(same: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of n rows, those in runs of more than one, and the number of the run of each; `same` bool [n - 1] tells which rows
    belong together with the one before."""
    inner = np.zeros(len(same) + 2, bool)
    inner[1:-1] = same
    rows = np.flatnonzero(inner[1:] | inner[:-1])
    return rows, np.cumsum(~inner[rows], dtype=np.int64) - 1
