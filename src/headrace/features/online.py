"""Reading the features of requests: from the stored state, evaluated as of their asking times, many at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headrace.data.types import StreamSpec
from headrace.engines.online.port import OnlineStore
from headrace.features.arguments import request_array, same_nulls
from headrace.features.attribute_reader import AttributeReader
from headrace.features.requests import evaluate_requests, ordered
from headrace.features.types import Ask, AttributeView, FeatureRow, FeatureSet, RequestField, StoredView, WindowView
from headrace.features.view_reader import ViewReader
from headrace.kernel.errors import HeadraceError, InvalidInput
from headrace.kernel.namespace import Namespace
from headrace.kernel.specs import Specs

Result = FeatureRow | HeadraceError


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
        types = {f.name: f.type for stream in specs.all(StreamSpec) for f in stream.fields}
        if self._asking is not None:
            types |= {f.name: f.type for f in specs.get(StreamSpec, self._asking).fields}
        self._keys = sum(view.key_count for view in self._views)
        self._functions = ordered(features)
        columns = features.given
        self._width = len(columns)
        place = {name: number for number, name in enumerate(columns)}
        self._fields = [(s.name, place[s.name]) for s in features.sources if isinstance(s, RequestField)]
        self._places = [slice(place[v.columns[0]], place[v.columns[0]] + len(v.columns)) for v in features.views]
        self._made = [(c, place[c]) for function in self._functions for c in function.columns]
        computed = {c for v in features.views for c in v.columns} | {c for c, _ in self._made}
        read = dict.fromkeys(name for function in self._functions for name in function.inputs)
        self._arguments = {name: types.get(name, "float") for name in read if name not in computed}
        dtypes = {c: d for v in self._views for c, d in zip(v.view.columns, v.dtypes(), strict=True)}
        texts = {c for v in features.views for c in v.texts}
        self._matrix = [place[name] for name in features.columns] if texts else slice(None)
        self._texts = [name for name in read if name in texts]
        self._read_columns = [(name, place[name], dtypes[name]) for name in read if name in dtypes and name not in texts]
        self._nullable = [place for _, place, dtype in self._read_columns if dtype.kind != "f"]
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
        """The features of each request, or its error: each is what it is alone, to the bit. Those whose keys lie in the
        same partitions are read from one snapshot.

        InvalidInput names a field that the request lacks, or an asking time that the state no longer reaches;
        FeaturesFailed what a function of the system file raised.
        """
        if not self._partitioned:
            return self._read_together(asks, [0] * len(self._views))
        groups: dict[tuple[int, ...], list[int]] = {}
        for place, ask in enumerate(asks):
            groups.setdefault(tuple(view.partition(ask.request) for view in self._views), []).append(place)
        rows: dict[int, Result] = {}
        for partitions, places in groups.items():
            rows.update(zip(places, self._read_together([asks[place] for place in places], partitions), strict=True))
        return [rows[place] for place in range(len(asks))]

    def _read_together(self, asks: Sequence[Ask], partitions: Sequence[int]) -> list[Result]:
        """The requests whose keys lie in these partitions of the views' streams."""
        found: dict[int, Result] = {}
        wanted = [view.layout.applied_key_of(part) for view, part in zip(self._views, partitions, strict=True)]
        for place, ask in enumerate(asks):
            missing = self._missing(ask)
            if missing is None:
                for view in self._views:
                    wanted += view.keys(ask.request)
            else:
                found[place] = missing
        blobs = self._online.get_many(wanted)
        applied = [view.applied(blob, part) for view, blob, part in zip(self._views, blobs, partitions, strict=False)]
        blobs = blobs[len(applied) :]
        positions = {view.view.name: offsets for view, (offsets, _) in zip(self._views, applied, strict=True)}
        latest = max((oldest for _, oldest in applied), default=0)
        places = [place for place in range(len(asks)) if place not in found]
        for number in reversed(range(len(places))):
            ask = asks[places[number]]
            if ask.at < latest:
                found[places[number]] = self._too_old(ask.at, applied)
                del places[number], blobs[number * self._keys : (number + 1) * self._keys]
        if places:
            rows = self._rows([asks[place] for place in places], blobs, positions)
            found.update(zip(places, rows, strict=True))
        return [found[place] for place in range(len(asks))]

    def _missing(self, ask: Ask) -> InvalidInput | None:
        request = ask.request
        for name in self._needs[ask.own_id is not None]:
            if name not in request:
                return InvalidInput(f"the request has no field `{name}`", hint="send it", field=name)
        return None

    def _too_old(self, at: int, applied: Sequence[tuple[dict[str, int], int]]) -> InvalidInput:
        views = zip(self._views, applied, strict=True)
        return next(view.too_old(at, oldest) for view, (_, oldest) in views if at < oldest)

    def _rows(self, asks: Sequence[Ask], blobs: list[bytes | None], positions: dict[str, dict[str, int]]) -> Sequence[Result]:
        """What fails is tried again row by row: then the failure is that of its row alone."""
        try:
            return self._evaluated(asks, blobs, positions)
        except Exception as error:  # noqa: BLE001 - the functions are the user's
            if len(asks) == 1:
                return [error if isinstance(error, HeadraceError) else FeaturesFailed.of(error)]
        own = [blobs[row * self._keys : (row + 1) * self._keys] for row in range(len(asks))]
        return [row for ask, mine in zip(asks, own, strict=True) for row in self._rows([ask], mine, positions)]

    def _evaluated(
        self, asks: Sequence[Ask], blobs: list[bytes | None], positions: dict[str, dict[str, int]]
    ) -> list[FeatureRow]:
        at = np.array([ask.at for ask in asks], np.int64)
        is_event = [ask.own_id is not None for ask in asks]
        values = np.empty((len(asks), self._width))
        texts: dict[str, np.ndarray] = {}
        ages = []
        first = 0
        for view, place in zip(self._views, self._places, strict=True):
            events = is_event if view.view.stream == self._asking else [False] * len(asks)
            keys = range(first, first + view.key_count)
            found = view.read(asks, at, [blobs[key :: self._keys] for key in keys], events)
            values[:, place] = found.values
            texts.update(found.texts)
            ages.append(found.ages)
            first += view.key_count
        for name, column in self._fields:
            given = [ask.request[name] for ask in asks]
            values[:, column] = [np.nan if value is None else value for value in given]
        if self._functions:
            self._evaluate(asks, values, texts)
        by_row = zip(*ages, strict=True) if ages else [()] * len(asks)
        values = values[:, self._matrix]
        return [
            FeatureRow(row, positions, dict(zip(positions, age, strict=True))) for row, age in zip(values, by_row, strict=True)
        ]

    def _evaluate(self, asks: Sequence[Ask], values: np.ndarray, texts: Mapping[str, np.ndarray]) -> None:
        """Fill in the columns of the functions, for all rows whose nulls are alike together."""
        for group in same_nulls(self._arguments, [ask.request for ask in asks]):
            alike: dict[bytes, list[int]] = {}
            if self._nullable:
                nulls = np.isnan(values[:, self._nullable])
                for row in group:
                    alike.setdefault(nulls[row].tobytes(), []).append(row)
            for rows in alike.values() if alike else (group,):
                self._evaluate_alike(rows, asks, values, texts)

    def _evaluate_alike(
        self, rows: list[int], asks: Sequence[Ask], values: np.ndarray, texts: Mapping[str, np.ndarray]
    ) -> None:
        arrays = {n: request_array(kind, [asks[row].request[n] for row in rows]) for n, kind in self._arguments.items()}
        for name, place, dtype in self._read_columns:
            column = values[rows, place]
            if dtype.kind != "f" and not np.isnan(column[0]):
                column = column.astype(np.int64).astype(dtype) if dtype.kind == "M" else column.astype(dtype)
            arrays[name] = column
        arrays |= {name: texts[name][rows] for name in self._texts}
        evaluate_requests(self._functions, arrays, len(rows))
        chosen = slice(None) if len(rows) == len(asks) else rows
        for name, place in self._made:
            values[chosen, place] = arrays[name]
