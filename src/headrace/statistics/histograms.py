"""Histograms on the quantiles of a reference: exact on their bins, merged by `+`, slid by `-`.

`edges` float64 [k], ascending and distinct, cut the line into k + 1 bins; bin i holds edges[i-1] <= value < edges[i].
`counts` int64 [k + 2] are those bins and, last, the values that are NaN (nulls).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


def quantile_edges(values: npt.ArrayLike, bins: int = 128) -> Floats:
    """At most about `bins` cuts of equal mass; NaN is left out; no cut when all values are equal or none is there.

    At most `bins` distinct values get a bin each. A value that fills whole bins by itself (a frequent 0) gets its own.
    """
    sample = np.asarray(values, dtype=np.float64).ravel()
    sample = np.sort(sample[~np.isnan(sample)])
    if sample.size == 0:
        return np.empty(0)
    first = np.flatnonzero(np.concatenate([[True], sample[1:] != sample[:-1]]))
    if first.size <= bins:
        return sample[first[1:]]
    at_quantile = sample[(np.arange(1, bins) * sample.size) // bins]
    repeated = at_quantile[1:][at_quantile[1:] == at_quantile[:-1]]
    after = np.searchsorted(sample, repeated, side="right")
    cuts: Floats = np.unique(np.concatenate([at_quantile, sample[after[after < sample.size]]]))
    return np.extract(cuts > sample[0], cuts)


def bin_counts(values: npt.ArrayLike, edges: Floats) -> Counts:
    """int64 [len(edges) + 2]: how many of `values` lie in each bin, and last how many are NaN."""
    sample = np.asarray(values, dtype=np.float64).ravel()
    missing = np.isnan(sample)
    cells = np.searchsorted(edges, sample, side="right")
    cells[missing] = len(edges) + 1
    return np.bincount(cells, minlength=len(edges) + 2).astype(np.int64)


def coarse_cells(reference: Counts, groups: int = 10) -> Counts:
    """int64 [len(reference)]: the group of each cell when neighbouring bins are merged into at most `groups` of about
    equal mass of the reference. The NaN cell stays a group of its own; an empty reference is one group and NaN."""
    bins = reference[:-1]
    total = int(bins.sum())
    if total == 0:
        return np.append(np.zeros(len(bins), np.int64), 1)
    middle = np.cumsum(bins) - bins / 2
    raw = np.minimum((groups * middle / total).astype(np.int64), groups - 1)
    group = np.unique(raw, return_inverse=True)[1].astype(np.int64)
    return np.append(group, group[-1] + 1)


def merge_cells(counts: Counts, cells: Counts) -> Counts:
    """The counts of the groups that `coarse_cells` gave."""
    return np.bincount(cells, weights=counts, minlength=int(cells[-1]) + 1).astype(np.int64)
