"""Calendar features over `datetime64[us]` arrays in UTC."""

from __future__ import annotations

import numpy as np

_DAY, _HOUR, _INTEGER = np.dtype("datetime64[D]"), np.dtype("datetime64[h]"), np.dtype(np.int64)


def weekday(at: np.ndarray) -> np.ndarray:
    """Day of the week, Monday 0 .. Sunday 6, int64 [n]. 1970-01-01 was a Thursday."""
    return (np.asarray(at).astype(_DAY).astype(_INTEGER) + 3) % 7


def hour(at: np.ndarray) -> np.ndarray:
    """Hour of the day, 0 .. 23, int64 [n]."""
    return np.asarray(at).astype(_HOUR).astype(_INTEGER) % 24
