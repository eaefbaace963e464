"""Which process applies a view: straight from the partitions of its stream, or from a topic that is re-keyed by its `by`."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from headrace.data.types import StreamSpec
from headrace.features.state import entity_keys
from headrace.features.types import StoredView
from headrace.kernel.namespace import Namespace
from headrace.kernel.partitions import base_of, partition_of_key
from headrace.kernel.specs import Specs


@dataclass(frozen=True)
class Route:
    """Where the state of a view lies: in the partition `key_hash(columns) % partitions`. `sources` is empty for a view that is
    applied straight from its stream; else it has the number of partitions of every stream that the view reads: its position
    is a vector, `{"STREAM@PARTITION": last position applied}` of each."""

    columns: tuple[str, ...]
    partitions: int
    sources: Mapping[str, int] = field(default_factory=dict)

    @property
    def rekeyed(self) -> bool:
        return bool(self.sources)

    def partition(self, request: Mapping[str, Any]) -> int:
        """The partition of the state of the request's key."""
        return partition_of_key(tuple([request.get(name) for name in self.columns]), self.partitions)

    def partitions_of(self, frame: pl.DataFrame) -> np.ndarray:
        """The partition of each row, int64 [n]."""
        if self.partitions == 1 or frame.is_empty():
            return np.zeros(len(frame), np.int64)
        keys = entity_keys(frame, self.columns)
        known = {key: _hash(key) % self.partitions for key in set(keys)}
        return np.array([known[key] for key in keys], np.int64)


def _hash(key: bytes) -> int:
    """As `ids.key_hash`, of canonical key bytes."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little", signed=True)


def route_of(view: StoredView, specs: Specs) -> Route:
    """Straight from the stream where all events of a `by` lie in one partition with their reports, else re-keyed."""
    stream = specs.get(StreamSpec, view.stream)
    sources = {stream.name: stream.partitions}
    if view.join is not None:
        sources[view.join.report] = specs.get(StreamSpec, view.join.report).partitions
    several = max(sources.values()) > 1
    if several and (view.join is not None or stream.key not in view.by):
        return Route(view.by, stream.partitions if view.by else 1, sources)
    return Route((stream.key,), stream.partitions)


@dataclass(frozen=True)
class RekeyedTopic:
    """The internal topic of the views of one stream with one `by`: each of its partitions gets the events of its keys, and
    all reports, since a report does not tell the `by` of its event."""

    name: str
    stream: str
    route: Route
    views: tuple[StoredView, ...]

    @property
    def reports(self) -> set[str]:
        return {view.join.report for view in self.views if view.join is not None}


def rekeyed_topics(views: Sequence[StoredView], specs: Specs, namespace: Namespace) -> list[RekeyedTopic]:
    """Beside the streams' topics, `{system}/rekeyed/{stream}/{by}`; a keyless one is called `-`, which no field is."""
    found: dict[str, list[StoredView]] = {}
    for view in {view.definition_hash: view for view in views}.values():
        if route_of(view, specs).rekeyed:
            found.setdefault(namespace.name("rekeyed", view.stream, "-".join(view.by) or "-"), []).append(view)
    topics = []
    for name, own in found.items():
        stream, by = own[0].stream, own[0].by
        partitions = specs.get(StreamSpec, stream).partitions if by else 1
        topics.append(RekeyedTopic(name, stream, Route(by, partitions, {stream: partitions}), tuple(own)))
    return topics


def vector_of(stream: str, positions: Sequence[int]) -> dict[str, int]:
    """The position of a re-keyed view in a stream: the last applied one of each partition."""
    return {f"{stream}@{partition}": position for partition, position in enumerate(positions)}


def stream_of(name: str) -> str:
    """The stream of an entry of the positions of a view."""
    return name.partition("@")[0]


def seen(positions: Mapping[str, int], stream: StreamSpec) -> pl.Expr:
    """Whether `_offset` is within the positions of a view."""
    at = pl.col("_offset")
    if stream.name in positions:
        return at <= positions[stream.name]
    ends = (positions.get(f"{stream.name}@{p}", base_of(p) - 1) for p in range(stream.partitions))
    return pl.any_horizontal(at.is_between(base_of(p), end) for p, end in enumerate(ends))
