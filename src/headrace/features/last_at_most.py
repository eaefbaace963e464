"""Searching backwards for a small value, for many places at once."""

from __future__ import annotations

import numpy as np


def last_at_most(
    values: np.ndarray, found: np.ndarray, first: np.ndarray, limits: np.ndarray, *, steps: int = 16
) -> np.ndarray:
    """For each row the last place in [first, found] with values <= limit, -1 for none.

    `steps` places back find most; the rest is searched in a tree of minima.
    """
    if not len(values):
        return np.full(len(found), -1)
    result = np.where(found >= first, found, -1)
    rows = np.flatnonzero(result >= 0)
    for _ in range(steps):
        rows = rows[values[result[rows]] > limits[rows]]
        result[rows] -= 1
        gone = result[rows] < first[rows]
        result[rows[gone]] = -1
        rows = rows[~gone]
    if len(rows):
        result[rows] = _search(values, result[rows], first[rows], limits[rows])
    return result


def _search(values: np.ndarray, found: np.ndarray, first: np.ndarray, limit: np.ndarray) -> np.ndarray:
    size = 1 << max(len(values) - 1, 1).bit_length()
    tree = np.full(2 * size, np.iinfo(np.int64).max)
    tree[size : size + len(values)] = values
    for level in range(size.bit_length() - 1, 0, -1):
        low, high = 1 << (level - 1), 1 << level
        np.minimum(tree[high : 2 * high : 2], tree[high + 1 : 2 * high : 2], out=tree[low:high])
    node = found + size
    climbing = np.flatnonzero(tree[node] > limit)
    while len(climbing):
        up = node[climbing]
        while bool(np.any((up & 1 == 0) & (up > 1))):
            up = np.where((up & 1 == 0) & (up > 1), up >> 1, up)
        up = np.where(up > 1, up - 1, 0)
        node[climbing] = up
        climbing = climbing[(up > 0) & (tree[up] > limit[climbing])]
    while bool(np.any((node > 0) & (node < size))):
        inner = (node > 0) & (node < size)
        right = 2 * node + 1
        node = np.where(inner, np.where(tree[np.where(inner, right, 0)] <= limit, right, right - 1), node)
    return np.where(node - size >= first, node - size, -1)
