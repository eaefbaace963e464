"""Reading the features of requests: from the stored state, evaluated as of their asking times, many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np

from headrace.engines.online.port import OnlineStore
from headrace.features.arguments import FLOAT, NO_TIME, argument_dtypes, array_of_values
from headrace.features.attribute_reader import AttributeReader
from headrace.features.requests import evaluate_requests, ordered
from headrace.features.types import Ask, AttributeView, FeatureRow, FeatureSet, RequestField, StoredView, WindowView
from headrace.features.view_reader import ViewReader
from headrace.kernel.errors import HeadraceError, InvalidInput
from headrace.kernel.namespace import Namespace
from headrace.kernel.specs import Specs

Result = FeatureRow | HeadraceError
Blobs = Sequence[bytes | None]
Positions = dict[str, dict[str, int]]
REMEMBERED = 4096
"""Combinations of partitions whose positions are kept unpacked."""


class FeaturesFailed(HeadraceError):
    """A function of the system file failed on a request."""

    @classmethod
    def of(cls, error: Exception) -> FeaturesFailed:
        return cls(f"features: {type(error).__name__}: {error}"[:500], hint="mend the function")


def asking_stream(features: FeatureSet) -> str | None:
    """The stream whose events ask, when nobody says so: that of the windows that add the asking event, else of all windows,
    else of all attributes."""
    windows = [view for view in features.views if isinstance(view, WindowView)]
    streams = {view.stream for view in windows if view.own_event} or {view.stream for view in windows or features.views}
    return next(iter(streams)) if len(streams) == 1 else None


def _reader(view: StoredView, specs: Specs, namespace: Namespace) -> ViewReader | AttributeReader:
    if isinstance(view, AttributeView):
        return AttributeReader(view, specs, namespace)
    return ViewReader(view, specs, namespace)


class _Reach(NamedTuple):
    """Of some partitions: the `blobs` that tell how far each view is applied, the positions in them, and the oldest asking
    time that the state of each view reaches, of which `latest` is the latest."""

    blobs: list[bytes | None]
    positions: Positions
    oldest: list[int]
    latest: int


class FeatureReader:
    """Reads the features of a model. `asking`: the stream of which the requests are events; by default the one of the
    views that add the asking event, else the only one."""

    def __init__(
        self, online: OnlineStore, namespace: Namespace, features: FeatureSet, specs: Specs, *, asking: str | None = None
    ) -> None:
        self._online = online
        self._asking = asking or asking_stream(features)
        self._views = [_reader(view, specs, namespace) for view in features.views]
        self._partitioned = any(view.partitions > 1 for view in self._views)
        counts = [view.key_count for view in self._views]
        ends = list(accumulate(counts))
        self._key_places = [slice(end - count, end) for end, count in zip(ends, counts, strict=True)]
        self._heads: dict[tuple[int, ...], list[bytes]] = {}
        self._reached: dict[tuple[int, ...], _Reach] = {}
        self._functions = ordered(features)
        columns = features.given
        self._width = len(columns)
        place = {name: number for number, name in enumerate(columns)}
        self._fields = [(s.name, place[s.name]) for s in features.sources if isinstance(s, RequestField)]
        self._places = [slice(place[v.columns[0]], place[v.columns[0]] + len(v.columns)) for v in features.views]
        self._made = [(c, place[c]) for function in self._functions for c in function.columns]
        computed = {c for v in features.views for c in v.columns} | {c for c, _ in self._made}
        read = dict.fromkeys(name for function in self._functions for name in function.inputs)
        dtypes = argument_dtypes(features, specs, self._asking)
        self._arguments = {name: dtypes.get(name, FLOAT) for name in read if name not in computed}
        texts = {c for v in features.views for c in v.texts}
        self._matrix = [place[name] for name in features.columns] if texts else None
        self._texts = [name for name in read if name in texts]
        given = {c for v in features.views for c in v.columns if c not in texts}
        self._read_columns = [(name, place[name], dtypes[name]) for name in read if name in given]
        self._needs = {is_event: self._needed(is_event) for is_event in (False, True)}

    def _needed(self, is_event: bool) -> tuple[str, ...]:
        views = [n for v in self._views for n in v.needs(is_event=is_event and v.view.stream == self._asking)]
        return tuple(dict.fromkeys([*views, *(name for name, _ in self._fields), *self._arguments]))

    def read(self, request: Mapping[str, Any], at: int, own_id: Any | None) -> FeatureRow:
        """As `read_many`, of one request; raises its error."""
        (row,) = self.read_many([Ask(request, at, own_id)])
        if isinstance(row, HeadraceError):
            raise row
        return row

    def read_many(self, asks: Sequence[Ask]) -> list[Result]:
        """The features of each request, or its error: each is what it is alone, to the bit. All are read from one snapshot.

        InvalidInput names a field that the request lacks, or an asking time that the state no longer reaches;
        FeaturesFailed what a function of the system file raised.
        """
        if not self._partitioned:
            return self._read_together(asks, [(0,) * len(self._views)] * len(asks))
        return self._read_together(asks, [tuple([view.partition(ask.request) for view in self._views]) for ask in asks])

    def _read_together(self, asks: Sequence[Ask], partitions: Sequence[tuple[int, ...]]) -> list[Result]:
        """`partitions` are, for each request, those that have its keys' states of the views."""
        found: dict[int, Result] = {}
        for place, ask in enumerate(asks):
            request = ask.request
            for name in self._needs[ask.own_id is not None]:
                if name not in request:
                    found[place] = InvalidInput(f"the request has no field `{name}`", hint="send it", field=name)
                    break
        places = [place for place in range(len(asks)) if place not in found] if found else range(len(asks))
        requests = [asks[place].request for place in places] if found else [ask.request for ask in asks]
        count, alike = len(places), list(dict.fromkeys(partitions))
        keys = [keys for view in self._views for keys in view.keys(requests)]
        blobs = self._online.get_many(chain(*map(self._applied_keys, alike), *keys))
        width = len(self._views)
        reaches = {parts: self._reach(blobs[n * width : (n + 1) * width], parts) for n, parts in enumerate(alike)}
        columns = [blobs[first : first + count] for first in range(len(alike) * width, len(blobs), count)] if count else []
        if count and min([asks[place].at for place in places]) < max(reach.latest for reach in reaches.values()):
            reached = [number for number, place in enumerate(places) if asks[place].at >= reaches[partitions[place]].latest]
            late = [place for place in places if asks[place].at < reaches[partitions[place]].latest]
            found.update((place, self._too_old(asks[place].at, reaches[partitions[place]].oldest)) for place in late)
            places = [places[number] for number in reached]
            columns = [[column[number] for number in reached] for column in columns]
        positions = [reaches[partitions[place]].positions for place in places]
        if not found:
            return list(self._rows(asks, columns, positions))
        if places:
            found.update(zip(places, self._rows([asks[place] for place in places], columns, positions), strict=True))
        return [found[place] for place in range(len(asks))]

    def _applied_keys(self, partitions: tuple[int, ...]) -> list[bytes]:
        """Where it stands how far each view is applied."""
        if partitions not in self._heads:
            if len(self._heads) >= REMEMBERED:
                self._heads.clear()
                self._reached.clear()
            keyed = zip(self._views, partitions, strict=True)
            self._heads[partitions] = [view.layout.applied_key_of(partition) for view, partition in keyed]
        return self._heads[partitions]

    def _reach(self, blobs: list[bytes | None], partitions: tuple[int, ...]) -> _Reach:
        """What the states of the partitions reach, by how far each view is applied: unpacked again when that has moved."""
        known = self._reached.get(partitions)
        if known is None or known.blobs != blobs:
            applied = [view.applied(blob, part) for view, blob, part in zip(self._views, blobs, partitions, strict=True)]
            positions = {view.view.name: offsets for view, (offsets, _) in zip(self._views, applied, strict=True)}
            oldest = [oldest for _, oldest in applied]
            known = self._reached[partitions] = _Reach(blobs, positions, oldest, max(oldest, default=0))
        return known

    def _too_old(self, at: int, oldest: Sequence[int]) -> InvalidInput:
        return next(view.too_old(at, moment) for view, moment in zip(self._views, oldest, strict=True) if at < moment)

    def _rows(self, asks: Sequence[Ask], blobs: Sequence[Blobs], positions: Sequence[Positions]) -> Sequence[Result]:
        """`blobs` are the values of the views' keys, for each key those of all requests. What fails is tried again row by row:
        then the failure is that of its row alone."""
        try:
            return self._evaluated(asks, blobs, positions)
        except Exception as error:  # noqa: BLE001 - the functions are the user's
            if len(asks) == 1:
                return [error if isinstance(error, HeadraceError) else FeaturesFailed.of(error)]
        own = [[[column[row]] for column in blobs] for row in range(len(asks))]
        rows = zip(asks, own, positions, strict=True)
        return [row for ask, mine, reached in rows for row in self._rows([ask], mine, [reached])]

    def _evaluated(self, asks: Sequence[Ask], blobs: Sequence[Blobs], positions: Sequence[Positions]) -> list[FeatureRow]:
        is_event = [ask.own_id is not None for ask in asks]
        is_none = [False] * len(asks)
        values = np.empty((len(asks), self._width))
        texts: dict[str, np.ndarray] = {}
        ages = []
        for view, place, keys in zip(self._views, self._places, self._key_places, strict=True):
            found = view.read(asks, blobs[keys], is_event if view.view.stream == self._asking else is_none)
            values[:, place] = found.values
            if found.texts:
                texts.update(found.texts)
            ages.append(found.ages)
        for name, column in self._fields:
            given = [ask.request[name] for ask in asks]
            values[:, column] = [np.nan if value is None else value for value in given]
        if self._functions:
            self._evaluate(asks, values, texts)
        if self._matrix is not None:
            values = values[:, self._matrix]
        if len(ages) == 1:
            (name,) = positions[0]
            known = [{name: age} for age in ages[0]]
        else:
            known = [dict(zip(positions[0], age, strict=True)) for age in zip(*ages, strict=True)] or [{} for _ in asks]
        rows = list(map(FeatureRow, values, positions, known))
        if not texts:
            return rows
        told = zip(*(column.tolist() for column in texts.values()), strict=True)
        return [row._replace(texts=dict(zip(texts, own, strict=True))) for row, own in zip(rows, told, strict=True)]

    def _evaluate(self, asks: Sequence[Ask], values: np.ndarray, texts: Mapping[str, np.ndarray]) -> None:
        """Fill in the columns of the functions."""
        requests = [ask.request for ask in asks]
        arrays = {n: array_of_values(n, [r[n] for r in requests], dtype) for n, dtype in self._arguments.items()}
        for name, place, dtype in self._read_columns:
            column = values[:, place].copy()
            if dtype.kind == "M":
                column[np.isnan(column)] = NO_TIME
                column = column.astype(np.int64)
            arrays[name] = column.astype(dtype, copy=False)
        arrays |= {name: texts[name] for name in self._texts}
        evaluate_requests(self._functions, arrays, len(asks))
        for name, place in self._made:
            values[:, place] = arrays[name]
