"""The records of the feature room: declared windows, request features, spines and labels.

Feature values are Float64 in a model's matrix (a null is NaN); in frames counts are Int64 and nulls are null.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np

from headrace.data.types import JoinSpec
from headrace.features.code_content import code_content
from headrace.kernel.ids import content_hash
from headrace.kernel.specs import Specs

AggregateKind = Literal["count", "sum", "mean", "min", "max", "std", "last", "first", "distinct", "share"]
UNSET: object = object()


@dataclass(frozen=True, slots=True)
class Aggregate:
    """An aggregate over the events of a window: of `column`, or for `share` of arrived `report` events.

    `empty` is the value over no events: count, distinct, share 0, sum 0.0, the others null (None).
    """

    kind: AggregateKind
    column: str | None = None
    report: str | None = None
    empty: float | None = None


@dataclass(frozen=True)
class WindowView:
    """Aggregates over sliding windows of the events of `stream` with the same `by`.

    At asking time t and position p: events with t - w - delay < time <= t - delay and offset <= p, plus the asking
    event itself once if `own_event`. With a `resolution` (microseconds, 0 for none) the windows begin at the multiple of it
    at or before t - w - delay, and their events are added tile by tile (`features/tiles.py`).

    `over` is ((label, microseconds), ...). Columns are `{name}_{aggregate}_{label}`, ordered by window, then aggregate (the
    order of the published fraud features, on which the figures of a random forest depend). `text_columns` are the stream
    columns that are texts: their first and last are given to functions, not to a model.
    """

    name: str
    stream: str
    by: tuple[str, ...]
    over: tuple[tuple[str, int], ...]
    aggregates: tuple[tuple[str, Aggregate], ...]
    join: JoinSpec | None = None
    predicate: Callable[..., object] | None = None
    delay: int = 0
    own_event: bool = False
    where: str = ""
    text_columns: tuple[str, ...] = ()
    resolution: int = 0
    kind: Literal["view"] = "view"

    def begin(self, lower: np.ndarray) -> np.ndarray:
        """Where windows begin whose events are later than `lower`, int64 microseconds."""
        return lower // self.resolution * self.resolution if self.resolution else lower

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{self.name}_{agg}_{label}" for label, _ in self.over for agg, _ in self.aggregates)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The columns whose values are texts."""
        found = {agg for agg, a in self.aggregates if a.kind in ("first", "last") and a.column in self.text_columns}
        return tuple(f"{self.name}_{agg}_{label}" for label, _ in self.over for agg, _ in self.aggregates if agg in found)

    @cached_property
    def text_sources(self) -> tuple[str, ...]:
        """The stream columns of which texts are given out, not only compared."""
        read = [a.column for _, a in self.aggregates if a.kind in ("first", "last") and a.column in self.text_columns]
        return tuple(dict.fromkeys(column for column in read if column is not None))

    @cached_property
    def span(self) -> int:
        """Microseconds that an event can matter: the longest window plus the delay and what the resolution adds."""
        return max(width for _, width in self.over) + self.delay + self.resolution

    @cached_property
    def source_columns(self) -> tuple[str, ...]:
        """Stream columns that the aggregates read, without `by`."""
        return tuple(dict.fromkeys(a.column for _, a in self.aggregates if a.column is not None))

    @cached_property
    def definition_hash(self) -> str:
        """Identifies the state: two definitions of one name may live side by side."""
        code = "" if self.predicate is None else code_content(self.predicate, f"`where` of view `{self.name}` ({self.where})")
        return content_hash(
            [self.name, self.stream, self.by, self.over, [(n, a.kind, a.column, a.report, a.empty) for n, a in self.aggregates],
             None if self.join is None else [self.join.report, self.join.on], code, self.delay, self.own_event, self.resolution]
        )[:16]  # fmt: skip


@dataclass(frozen=True)
class AttributeView:
    """The newest known values of the columns `source_columns` of the events of `stream` with the same `by`.

    At asking time t and position p: those of the event that is the newest by (event time, created, offset) among those with
    event time <= t, created <= t and offset <= p, without the asking event and those of its time that came after it. A value
    older than `ttl` (microseconds, None for any age) is null; one of exactly that age counts. Columns are `{prefix}_{column}`.
    """

    name: str
    prefix: str
    stream: str
    by: tuple[str, ...]
    source_columns: tuple[str, ...]
    ttl: int | None = None
    where: str = ""
    text_columns: tuple[str, ...] = ()
    kind: Literal["view"] = "view"

    join: ClassVar[None] = None
    predicate: ClassVar[None] = None
    delay: ClassVar[int] = 0
    own_event: ClassVar[bool] = False

    @cached_property
    def columns(self) -> tuple[str, ...]:
        return tuple(f"{self.prefix}_{column}" for column in self.source_columns)

    @cached_property
    def texts(self) -> tuple[str, ...]:
        """The columns whose values are texts."""
        return tuple(f"{self.prefix}_{column}" for column in self.text_sources)

    @cached_property
    def text_sources(self) -> tuple[str, ...]:
        """The stream columns whose values are texts."""
        return tuple(column for column in self.source_columns if column in self.text_columns)

    @property
    def span(self) -> int | None:
        """Microseconds that an event can matter, one more than its value counts; None for ever."""
        return None if self.ttl is None else self.ttl + 1

    @cached_property
    def definition_hash(self) -> str:
        """Identifies the state: two definitions of one name may live side by side."""
        return content_hash(["attributes", self.prefix, self.stream, self.by, self.source_columns, self.ttl])[:16]


StoredView = WindowView | AttributeView
"""What the online store keeps state of."""


def stored_views(specs: Specs) -> list[StoredView]:
    """All declared windows and attributes."""
    return [*specs.all(WindowView), *specs.all(AttributeView)]


@dataclass(frozen=True)
class RequestFeatures:
    """A plain function over arrays: its parameters name request fields or earlier features (`inputs`), it returns
    `{column: array}`; the same for one row and for ten million. Times are `datetime64[us]` arrays."""

    name: str
    function: Callable[..., dict[str, np.ndarray]]
    inputs: tuple[str, ...]
    columns: tuple[str, ...]
    where: str = ""
    kind: Literal["features"] = "features"

    @cached_property
    def definition_hash(self) -> str:
        return content_hash([self.name, code_content(self.function, f"features `{self.name}` ({self.where})")])[:16]


@dataclass(frozen=True, slots=True)
class RequestField:
    """A field of the request used as a feature as it is."""

    name: str


FeatureSource = StoredView | RequestFeatures | RequestField


@dataclass(frozen=True)
class FeatureSet:
    """The features of a model in model order."""

    sources: tuple[FeatureSource, ...]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The columns of the model's matrix: all but texts."""
        texts = {name for view in self.views for name in view.texts}
        return tuple(name for name in self.given if name not in texts)

    @cached_property
    def given(self) -> tuple[str, ...]:
        """All columns, with the texts, which only functions read."""
        names: list[str] = []
        for source in self.sources:
            names.extend([source.name] if isinstance(source, RequestField) else source.columns)
        return tuple(names)

    @cached_property
    def views(self) -> tuple[StoredView, ...]:
        return tuple(s for s in self.sources if isinstance(s, StoredView))

    @cached_property
    def definition_hashes(self) -> dict[str, str]:
        return {s.name: s.definition_hash for s in self.sources if not isinstance(s, RequestField)}


@dataclass(frozen=True, slots=True)
class EventSpine:
    """Asking points are the events of `stream`: one row an event, at its time, at its own offset."""

    stream: str


@dataclass(frozen=True, slots=True)
class SnapshotSpine:
    """Asking points are every `period` microseconds (multiples since 1970-01-01, a Thursday), for each value of the columns
    `keys` that `stream` has seen by then; a key with a null part is no key."""

    stream: str
    keys: tuple[str, ...]
    period: int


Spine = EventSpine | SnapshotSpine
LabelKind = Literal["label", "no_event", "value", "value_after", "future"]


@dataclass(frozen=True, slots=True)
class Label:
    """What becomes known of an asking point at t from the events of `stream` with the same `keys` (`features/labels.py`):

    - label: whether one has a time in [t, t + within]; no_event: whether none has a time in (t, t + within]
    - value: `column` of the last of those in [t, t + within]
    - value_after: `column` of the first at or after t + within
    - future: `aggregate` over those in (t, t + within]

    Events are ordered by (time, offset).
    """

    kind: LabelKind
    stream: str
    keys: tuple[str, ...]
    within: int
    column: str | None = None
    aggregate: Aggregate | None = None

    @property
    def is_binary(self) -> bool:
        """Whether the label is 0 or 1 whatever the stream holds."""
        return self.kind in ("label", "no_event")


class Ask(NamedTuple):
    """A request whose features are read (times are microseconds), its asking time, and its event id when it is an event
    of the asking stream, else None."""

    request: Mapping[str, Any]
    at: int
    own_id: Any | None


class FeatureRow(NamedTuple):
    """One request's features: `values` is float64 [F] in model order (null is NaN). `positions` maps each view to
    {stream: applied offset, the last one included; -1 for none}, of a re-keyed one {stream@partition: position} of every
    partition; rows that are read together share it. `age` is microseconds since each view's newest event for the key, None
    without one. `texts` are the columns that a model cannot take."""

    values: np.ndarray
    positions: dict[str, dict[str, int]]
    age: Mapping[str, int | None] = {}
    texts: Mapping[str, str | None] = {}
