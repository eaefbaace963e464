"""Building the index of ids again after the online store was lost."""

from __future__ import annotations

import polars as pl

from headrace.data.history import history
from headrace.data.identities import IdentityIndex
from headrace.data.positions import position
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.log import LOG
from headrace.kernel.partitions import base_of


def rebuild_lost(ctx: Context, spec: StreamSpec) -> None:
    """Enter the history of every partition of which the index knows less than was applied: after the online store was
    lost, and of all partitions, since an id of one is refused in the others."""
    lost = {}
    for partition in range(spec.partitions):
        end = base_of(partition) + position(ctx, spec.name, partition).next_offset
        index = IdentityIndex(ctx, spec, partition)
        if index.next_offset() < end:
            LOG.info("stream.rebuilding_ids", stream=spec.name, partition=partition, upto=end)
            lost[end] = index
    if lost:
        known = history(ctx, spec.name)
        for end, index in lost.items():
            own = pl.col("_offset").is_between(index.base, end, "left")
            index.rebuild(known.filter(own), end)
