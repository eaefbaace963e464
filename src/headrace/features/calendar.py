"""Calendar features over `datetime64[us]` arrays in UTC."""

from __future__ import annotations

import numpy as np


def weekday(at: np.ndarray) -> np.ndarray:
    """Day of the week, Monday 0 .. Sunday 6, int64 [n]. 1970-01-01 was a Thursday."""
    return (np.asarray(at).astype("datetime64[D]").astype(np.int64) + 3) % 7


def hour(at: np.ndarray) -> np.ndarray:
    """Hour of the day, 0 .. 23, int64 [n]."""
    return np.asarray(at).astype("datetime64[h]").astype(np.int64) % 24
