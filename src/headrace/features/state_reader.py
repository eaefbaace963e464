"""What the readers of all views have in common: which keys to read, how far the state reaches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np

from headrace.data.types import FieldType, StreamSpec
from headrace.features.column_types import column_types
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

ARRAYS: dict[FieldType, str] = {
    "int": "int64", "float": "float64", "bool": "bool", "datetime": "datetime64[us]", "str": "object",
}  # fmt: skip
NO_KEY = b"-"
"""A key that no state has: that of a request with a null in its key."""


View = TypeVar("View", bound=StoredView)


class ViewValues(NamedTuple):
    """What some requests see of a view: `values` float64 [n, columns], NaN for null and for texts; the age of the newest
    event of each key; the columns that are texts, object [n], by name."""

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
        self.view = view
        self._lateness = stream.lateness
        self._words = self.layout.words
        self._width = len(self._words)
        self._prefix = self.layout.prefix
        self._streams = (stream.name,) if view.join is None else (stream.name, view.join.report)
        self._applied: tuple[bytes | None, dict[str, int], int] = (b"", {}, 0)

    @property
    def key_count(self) -> int:
        """The number of `keys`."""
        return 1 + bool(self.view.text_sources)

    def dtypes(self) -> list[np.dtype[Any]]:
        """The NumPy type of each column, as functions that read it take it."""
        return [np.dtype(ARRAYS[kind]) for kind in column_types(self.view, self.layout.stream).values()]

    def keys(self, request: Mapping[str, Any]) -> list[bytes]:
        """What to read from the online store: the state, and its texts where it has any."""
        values = tuple([request[name] for name in self.view.by])
        if len(values) == 1 and type(values[0]) is int:
            keys = [self._prefix + b"%d" % values]
        else:
            keys = [NO_KEY if None in values else self.layout.key(key_bytes(values))]
        if self.view.text_sources:
            keys.append(NO_KEY if None in values else self.layout.texts_key(key_bytes(values)))
        return keys

    def partition(self, request: Mapping[str, Any]) -> int:
        """The partition of the state of the request's key."""
        return self._route.partition(request)

    @property
    def partitions(self) -> int:
        return self._route.partitions

    def applied(self, blob: bytes | None, partition: int) -> tuple[dict[str, int], int]:
        """The applied position of each stream, and the oldest asking time that the state still reaches."""
        if self._route.rekeyed and (blob is None or blob != self._applied[0]):
            vector = AppliedVector.unpack(blob, self._route)
            self._applied = (blob, vector.positions, vector.watermark - self._lateness)
        elif blob is None or blob != self._applied[0]:
            applied = Applied.unpack(blob)
            own = max(applied.stream, base_of(partition) - 1)
            positions = dict(zip(self._streams, (own, applied.report), strict=False))
            self._applied = (blob, positions, applied.watermark - self._lateness)
        return self._applied[1:]

    def too_old(self, at: int, oldest: int) -> InvalidInput:
        return InvalidInput(
            f"the asking time {format_time(at)} is before {format_time(oldest)}, the oldest that view "
            f"`{self.view.name}` can answer",
            hint="declare a longer `lateness` for the stream, or backfill",
        )
