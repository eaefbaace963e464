"""The reports that wait in one partition of a re-keyed topic, which has all reports, for events that may never come there.

Where a join is on the id of the stream, an event that is accepted and applied settles its reports: it is here, or it is under
another `by`, or no window reaches it any more; another one with its id will never be accepted. So a report does not begin to
wait for such an event, and those that began before are looked at again, some at a time. Not so for a view that adds the asking
event: a request may name any `by`, or none, and the report of its event is looked up there. What waits is listed under
`{system}/view/{hash}~w/{value}`, with the key of the id in the stream's index.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

import polars as pl

from headrace.data.fencing import Fence
from headrace.data.identities import IdentityIndex
from headrace.engines.context import Context
from headrace.features.report_index import Changes, Entry, ReportIndex
from headrace.features.state import StateLayout
from headrace.kernel.partitions import partition_of

AT_ONCE = 1000
"""Waiting reports that are looked at again at once, beside twice those that came."""


class WaitingReports:
    """Of a view that is joined on the id of its stream and does not add the asking event."""

    def __init__(self, ctx: Context, layout: StateLayout, partition: int) -> None:
        assert layout.view.join is not None
        self._online = ctx.online
        self._index = ReportIndex(layout, layout.view.join.on, partition)
        self._ids = IdentityIndex(ctx, layout.stream)
        self._prefix = self._seen = layout.applied_key_of(partition) + b"~w/"
        self._entries = self._index.prefix
        self._came = 0

    def unsettled(self, reports: pl.DataFrame, applied: Sequence[int]) -> pl.DataFrame:
        """The reports that have an event here or may have one yet; `applied`: the last position of each partition."""
        reports = reports.filter(pl.col(self._index.on).is_not_null())
        entries = self._index.find(self._online, self._index.keys(reports))
        positions = self._ids.positions(self._ids.keys(reports[self._index.on]))
        pairs = zip(entries, positions, strict=True)
        return reports.filter(pl.Series([e is not None or not _settled(p, applied) for e, p in pairs], dtype=pl.Boolean))

    def listed(self, reports: pl.DataFrame, changes: Changes) -> Changes:
        """The entries of those of the `reports` that begin to wait with `changes`."""
        keys = zip(self._index.keys(reports), self._ids.keys(reports[self._index.on]), strict=True)
        found = {self._place(key): id_key for key, id_key in keys if _waits(changes.get(key))}
        self._came += len(found)
        return dict(found)

    def _place(self, key: bytes) -> bytes:
        return self._prefix + key[len(self._entries) :]

    def settle(self, applied: Sequence[int], fence: Fence) -> None:
        """Look at some of those that wait, in turn, and forget whose events are elsewhere."""
        most = AT_ONCE + 2 * self._came
        self._came = 0
        listed = dict(islice(self._online.scan(self._prefix, start=self._seen), most))
        self._seen = max(listed) + b"\0" if len(listed) == most else self._prefix
        keys = [self._entries + place[len(self._prefix) :] for place in listed]
        entries, positions = self._online.get_many(keys), self._ids.positions(list(listed.values()))
        changes: Changes = {}
        for place, key, entry, position in zip(listed, keys, entries, positions, strict=True):
            if not _waits(entry):
                changes[place] = None
            elif _settled(position, applied):
                changes[place] = changes[key] = None
        if changes:
            fence.write(changes)


def _waits(entry: bytes | None) -> bool:
    return entry is not None and Entry.unpack(entry).offset < 0


def _settled(position: int | None, applied: Sequence[int]) -> bool:
    return position is not None and position <= applied[partition_of(position)]
