"""How much memory a backfill may take, and how much it would take."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterable
from pathlib import Path

import polars as pl

from headrace.data.files import format_of
from headrace.data.types import StreamSpec
from headrace.features.types import FeatureSet, StoredView
from headrace.kernel.errors import InvalidInput

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)i?B?", re.IGNORECASE)
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}
_CGROUP = Path("/sys/fs/cgroup/memory.max")
SHARE = 0.5
"""Of the machine's memory, or of what the container may use, that a backfill takes when nobody says how much."""
PROCESS_BYTES = 350 << 20
"""What the process takes before the first event: Python, Polars, their buffers and threads."""
_MMAP_THRESHOLD, _ARENA_MAX = -3, -8
"""M_MMAP_THRESHOLD and M_ARENA_MAX of glibc's malloc.h."""
TEXT_FACTOR = 8
"""Bytes in memory for each byte of a CSV or NDJSON file, whose rows are decoded one by one."""


def memory_bytes(text: str | None) -> int:
    """The bytes of such as `4GB` or `512MB` (powers of 1024); of None the default share. InvalidInput for anything else."""
    if text is None:
        return int(SHARE * _machine_bytes())
    match = _SIZE.fullmatch(text.strip())
    size = 0 if match is None else int(float(match[1]) * (1 << _UNITS[match[2].upper()]))
    if size <= 0:
        raise InvalidInput(f"`{text}` is no amount of memory", hint="write for example 4GB or 512MB", field="memory")
    return size


def check_memory(text: str | None) -> None:
    """InvalidInput for no amount, or for less than the process takes by itself."""
    least = PROCESS_BYTES >> 20
    if text is not None and memory_bytes(text) < PROCESS_BYTES:
        raise InvalidInput(
            f"`--memory {text}` is too little; allowed: {least}MB or more, which the process takes before the first event",
            hint=f"give --memory {least}MB or more: with more, fewer events go through files", field="memory",
        )  # fmt: skip


def _machine_bytes() -> int:
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = _CGROUP.read_text().strip() if _CGROUP.is_file() else "max"
    return min(physical, int(limit)) if limit.isdigit() else physical


def give_freed_memory_back() -> None:
    """Let the C library return what is freed: by default glibc learns to keep blocks of up to 32 MiB, in an arena a thread,
    which here is three times what the arrays need. Does nothing where there is no glibc."""
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    set_option(_MMAP_THRESHOLD, 1 << 20)
    set_option(_ARENA_MAX, 1)


def row_bytes(views: Iterable[StoredView]) -> int:
    """About how many bytes the evaluation of views takes at most for each event: measured, rounded up."""
    views = list(views)
    read = sum(len(view.source_columns) + len(view.by) + 2 for view in views)
    return 160 + 24 * read + 20 * sum(len(view.columns) for view in views)


def fits(streams: Iterable[tuple[StreamSpec, Path]], features: FeatureSet, budget: int) -> bool:
    """Whether a backfill of the files is expected to stay within the budget when all is in memory."""
    needed = PROCESS_BYTES
    for stream, path in streams:
        kind = format_of(path)
        if kind == "parquet" and path.suffix != ".gz":
            try:
                rows = pl.scan_parquet(path).select(pl.len()).collect().item()
            except (pl.exceptions.PolarsError, OSError):
                return True  # what cannot be read is told by whoever reads it
            needed += rows * (row_bytes(features.views) + 16 * len(stream.fields))
        else:
            needed += path.stat().st_size * TEXT_FACTOR * (4 if path.suffix == ".gz" else 1)
    return needed <= budget
