from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from headrace.statistics.histograms import bin_counts, coarse_cells, merge_cells, quantile_edges

VALUES = arrays(
    np.float64, st.integers(0, 400), elements=st.one_of(st.floats(allow_nan=True, width=64), st.integers(0, 4).map(float))
)


@given(VALUES, st.integers(2, 40))
@settings(deadline=None, max_examples=80)
def test_each_value_lies_in_exactly_one_bin(values: np.ndarray, bins: int) -> None:
    edges = quantile_edges(values, bins)
    counts = bin_counts(values, edges)
    assert np.all(np.diff(edges) > 0)
    assert counts.sum() == len(values)
    assert counts[-1] == np.isnan(values).sum()
    brute = [0] * (len(edges) + 1)
    for v in values[~np.isnan(values)]:
        brute[sum(1 for e in edges if e <= v)] += 1
    assert counts[:-1].tolist() == brute
    if (~np.isnan(values)).any():
        assert np.all(counts[:-1] > 0), "the reference leaves no bin empty"


@given(VALUES, VALUES)
@settings(deadline=None, max_examples=30)
def test_histograms_merge_by_addition(left: np.ndarray, right: np.ndarray) -> None:
    edges = quantile_edges(left, 16)
    both = bin_counts(np.concatenate([left, right]), edges)
    assert np.array_equal(both, bin_counts(left, edges) + bin_counts(right, edges))


def test_continuous_values_get_bins_of_equal_mass() -> None:
    values = np.random.default_rng(1).normal(size=12_800)
    edges = quantile_edges(values)
    assert len(edges) == 127
    assert set(bin_counts(values, edges)[:-1]) == {100}


def test_few_values_and_a_frequent_value_get_bins_of_their_own() -> None:
    assert quantile_edges([0, 1, 0, 0, 1, np.nan]).tolist() == [1.0]
    rare = np.zeros(10_000)
    rare[:3] = 1
    assert bin_counts(rare, quantile_edges(rare)).tolist() == [9_997, 3, 0]
    mostly_zero = np.concatenate([np.zeros(5_000), np.random.default_rng(2).uniform(0.001, 1, 5_000)])
    assert bin_counts(mostly_zero, quantile_edges(mostly_zero))[0] == 5_000
    assert quantile_edges([7.0] * 9).tolist() == []
    assert quantile_edges([np.nan]).tolist() == []


@given(arrays(np.int64, st.integers(2, 130), elements=st.integers(0, 1000)), st.integers(1, 12))
@settings(deadline=None, max_examples=80)
def test_coarse_cells_are_neighbours_and_keep_the_mass(counts: np.ndarray, groups: int) -> None:
    cells = coarse_cells(counts, groups)
    assert set(np.diff(cells)) <= {0, 1}
    assert cells[-1] == cells[-2] + 1
    assert cells[-1] <= groups
    merged = merge_cells(counts, cells)
    assert merged.sum() == counts.sum()
    assert merged[-1] == counts[-1]


def test_coarse_cells_of_equal_bins_are_deciles() -> None:
    counts = np.append(np.full(120, 5), 0)
    assert merge_cells(counts, coarse_cells(counts)).tolist() == [60] * 10 + [0]
