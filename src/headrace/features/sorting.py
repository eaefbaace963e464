"""Stable orders of many integers, several times faster than `numpy.argsort(kind="stable")`."""

from __future__ import annotations

import numpy as np


def stable_argsort(codes: np.ndarray) -> np.ndarray:
    """The stable order of int64 codes >= 0.

    As many low bits of the codes as fit are packed above the row number into one uint64, and these are sorted by value
    (`numpy.sort` is vectorised, and its result says the order); higher bits take further passes.
    """
    number = max(len(codes) - 1, 1).bit_length()
    room = 64 - number
    highest = int(codes.max()) if len(codes) else 0
    places = np.arange(len(codes), dtype=np.uint64)
    index: np.ndarray | None = None
    for shift in range(0, max(highest.bit_length(), 1), room):
        digits = codes.view(np.uint64) if index is None else codes[index].view(np.uint64)
        packed = (digits >> np.uint64(shift)) << np.uint64(number)
        packed |= places
        packed.sort()
        packed &= np.uint64((1 << number) - 1)
        order = packed.view(np.int64)
        index = order if index is None else index[order]
    assert index is not None
    return index
