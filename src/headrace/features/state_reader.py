"""What the readers of all views have in common: which keys to read, how far the state reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from headrace.data.types import StreamSpec
from headrace.features.rekeyed_state import AppliedVector
from headrace.features.routes import route_of
from headrace.features.state import Applied, StateLayout
from headrace.features.types import StoredView
from headrace.kernel.errors import InvalidInput
from headrace.kernel.ids import key_bytes
from headrace.kernel.namespace import Namespace
from headrace.kernel.partitions import base_of
from headrace.kernel.specs import Specs
from headrace.kernel.times import format_time

NO_KEY = b"-"
"""A key that no state has: that of a request with a null in its key."""


View = TypeVar("View", bound=StoredView)


class ViewValues(NamedTuple):
    """What some requests see of a view: `values` float64 [n, columns], NaN for null and for texts; the age of the newest
    event of each key; the texts by name of the column, object [n]."""

    values: np.ndarray
    ages: Sequence[int | None]
    texts: Mapping[str, np.ndarray]


class StateReader(Generic[View]):
    """One view, with what does not depend on the request."""

    def __init__(self, view: View, specs: Specs, namespace: Namespace) -> None:
        stream = specs.get(StreamSpec, view.stream)
        self.view = view
        self._route = route_of(view, specs)
        self.layout = StateLayout(view, stream, namespace)
        self._lateness = stream.lateness
        self._words = self.layout.words
        self._width = len(self._words)
        self._prefix = self.layout.prefix
        self._streams = (stream.name,) if view.join is None else (stream.name, view.join.report)
        self._by = view.by[0] if len(view.by) == 1 else None
        self._has_texts = bool(view.text_sources)
        self._has_tails = self.layout.has_tails
        self._tails = self.layout.tail_key(b"")

    @property
    def key_count(self) -> int:
        """The number of `keys`."""
        return 1 + (self._has_texts or self._has_tails)

    def keys(self, requests: Sequence[Mapping[str, Any]]) -> list[list[bytes]]:
        """What to read from the online store: the states, and their texts or tails where they have any."""
        prefix, states = self._prefix, []
        if self._by is not None and not self._has_texts:
            for request in requests:
                value = request[self._by]
                if type(value) is not int:
                    break
                states.append(prefix + b"%d" % value)
            else:
                return [states, [self._tails + state[len(prefix) :] for state in states]] if self._has_tails else [states]
        entities: list[bytes | None] = []
        for request in requests:
            values = tuple([request[name] for name in self.view.by])
            entities.append(None if None in values else key_bytes(values))
        keys = [[NO_KEY if entity is None else self.layout.key(entity) for entity in entities]]
        if self._has_texts:
            keys.append([NO_KEY if entity is None else self.layout.texts_key(entity) for entity in entities])
        elif self._has_tails:
            keys.append([NO_KEY if entity is None else self.layout.tail_key(entity) for entity in entities])
        return keys

    def partition(self, request: Mapping[str, Any]) -> int:
        """The partition of the state of the request's key."""
        return self._route.partition(request)

    @property
    def partitions(self) -> int:
        return self._route.partitions

    def applied(self, blob: bytes | None, partition: int) -> tuple[dict[str, int], int]:
        """The applied position of each stream, and the oldest asking time that the state still reaches."""
        if self._route.rekeyed:
            vector = AppliedVector.unpack(blob, self._route)
            return vector.positions, vector.watermark - self._lateness
        applied = Applied.unpack(blob)
        own = max(applied.stream, base_of(partition) - 1)
        return dict(zip(self._streams, (own, applied.report), strict=False)), applied.watermark - self._lateness

    def too_old(self, at: int, oldest: int) -> InvalidInput:
        return InvalidInput(
            f"the asking time {format_time(at)} is before {format_time(oldest)}, the oldest that view "
            f"`{self.view.name}` can answer",
            hint="declare a longer `lateness` for the stream, or backfill",
        )
