"""Reading the features of requests: from the stored state, evaluated as of their asking times, many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate, chain, repeat
from typing import Any, NamedTuple, cast

import numpy as np

from headrace.engines.online.port import OnlineStore
from headrace.features.arguments import FLOAT, NO_TIME, argument_dtypes, array_of_values
from headrace.features.attribute_reader import AttributeReader
from headrace.features.requests import asking_stream, evaluate_requests, ordered
from headrace.features.state_reader import ViewValues
from headrace.features.types import Ask, AttributeView, FeatureRow, FeatureSet, RequestField, StoredView
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


_row = cast("Callable[[Iterable[Any]], FeatureRow]", partial(tuple.__new__, FeatureRow))
"""As `FeatureRow._make`, without a frame of Python for each row."""


def _lacks(name: str) -> InvalidInput:
    return InvalidInput(f"the request has no field `{name}`", hint="send it", field=name)


def _among(refused: Mapping[int, Result], others: Sequence[Result]) -> list[Result]:
    """The others in their order, and the refused at their places."""
    rest = iter(others)
    return [refused[place] if place in refused else next(rest) for place in range(len(refused) + len(others))]


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
        self._first = (0,) * len(self._views)
        self._one_view = len(self._views) == len(features.sources) == 1
        ends = list(accumulate(view.key_count for view in self._views))
        self._plan = [
            (view, slice(end - view.key_count, end), view.view.stream == self._asking)
            for view, end in zip(self._views, ends, strict=True)
        ]
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
        self._needs = (self._needed(False), self._needed(True))
        self._asked = set(chain(*self._needs))

    def _needed(self, is_event: bool) -> list[str]:
        """The fields that a request must have, in the order in which a missing one is told."""
        views = [n for v in self._views for n in v.needs(is_event=is_event and v.view.stream == self._asking)]
        return list(dict.fromkeys([*views, *(name for name, _ in self._fields), *self._arguments]))

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
        if not asks:
            return []
        requests = [ask.request for ask in asks]
        if not [name for name in self._asked for request in requests if name not in request]:
            return self._read_together(asks, requests)
        needs = [self._needs[ask.own_id is not None] for ask in asks]
        lacking = [[name for name in names if name not in ask.request] for names, ask in zip(needs, asks, strict=True)]
        refused: dict[int, Result] = {place: _lacks(names[0]) for place, names in enumerate(lacking) if names}
        whole = [ask for place, ask in enumerate(asks) if place not in refused]
        return _among(refused, self._read_together(whole, [ask.request for ask in whole]) if whole else [])

    def _read_together(self, asks: Sequence[Ask], requests: Sequence[Mapping[str, Any]]) -> list[Result]:
        """Of requests that have all fields."""
        count, width = len(asks), len(self._views)
        partitions, alike = [self._first] * count, [self._first]
        if self._partitioned:
            partitions = [tuple([view.partition(request) for view in self._views]) for request in requests]
            alike = list(dict.fromkeys(partitions))
        wanted: list[bytes] = []
        for parts in alike:
            wanted += self._applied_keys(parts)
        for view in self._views:
            for keys in view.keys(requests):
                wanted += keys
        blobs = self._online.get_many(wanted)
        columns = [blobs[first : first + count] for first in range(len(alike) * width, len(blobs), count)]
        known: dict[tuple[int, ...], _Reach] = {}
        for number, parts in enumerate(alike):
            known[parts] = self._reach(blobs[number * width : (number + 1) * width], parts)
        reaches = list(known.values()) * count if len(known) == 1 else [known[parts] for parts in partitions]
        if min([ask.at for ask in asks]) >= max([reach.latest for reach in reaches]):
            return self._rows(asks, columns, reaches)
        late = [place for place, (ask, reach) in enumerate(zip(asks, reaches, strict=True)) if ask.at < reach.latest]
        refused: dict[int, Result] = {place: self._too_old(asks[place].at, reaches[place].oldest) for place in late}
        rest = [place for place in range(count) if place not in refused]
        columns = [[column[place] for place in rest] for column in columns]
        return _among(refused, self._rows([asks[n] for n in rest], columns, [reaches[n] for n in rest]) if rest else [])

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

    def _rows(self, asks: Sequence[Ask], blobs: Sequence[Blobs], reaches: Sequence[_Reach]) -> list[Result]:
        """`blobs` are the values of the views' keys, for each key those of all requests. What fails is tried again row by row:
        then the failure is that of its row alone."""
        try:
            return self._evaluated(asks, blobs, reaches)
        except Exception as error:  # noqa: BLE001 - the functions are the user's
            if len(asks) == 1:
                return [error if isinstance(error, HeadraceError) else FeaturesFailed.of(error)]
        own = [[[column[row]] for column in blobs] for row in range(len(asks))]
        rows = zip(asks, own, reaches, strict=True)
        return [row for ask, mine, reach in rows for row in self._rows([ask], mine, [reach])]

    def _evaluated(self, asks: Sequence[Ask], blobs: Sequence[Blobs], reaches: Sequence[_Reach]) -> list[Result]:
        is_event = [ask.own_id is not None for ask in asks]
        is_none = [False] * len(asks)
        read: list[ViewValues] = []
        texts: dict[str, np.ndarray] = {}
        for view, keys, is_asking in self._plan:
            found = view.read(asks, blobs[keys], is_event if is_asking else is_none)
            read.append(found)
            if found.texts:
                texts.update(found.texts)
        values = read[0].values if self._one_view else self._composed(asks, read, texts)
        if self._matrix is not None:
            values = values[:, self._matrix]
        positions = [reach.positions for reach in reaches]
        if len(read) == 1:
            name = self._views[0].view.name
            ages = [{name: age} for age in read[0].ages]
        else:
            ages = [dict(zip(positions[0], age, strict=True)) for age in zip(*(found.ages for found in read), strict=True)]
            ages = ages or [{} for _ in asks]
        if not texts:
            return list(map(_row, zip(values, positions, ages, repeat({}))))
        told = zip(*(column.tolist() for column in texts.values()), strict=True)
        return list(map(_row, zip(values, positions, ages, [dict(zip(texts, own, strict=True)) for own in told], strict=True)))

    def _composed(self, asks: Sequence[Ask], read: Sequence[ViewValues], texts: Mapping[str, np.ndarray]) -> np.ndarray:
        """float64 [n, columns given]: what the views give, the fields, and what the functions make of them."""
        values = np.empty((len(asks), self._width))
        for found, place in zip(read, self._places, strict=True):
            values[:, place] = found.values
        for name, column in self._fields:
            given = [ask.request[name] for ask in asks]
            values[:, column] = [np.nan if value is None else value for value in given]
        if self._functions:
            self._evaluate(asks, values, texts)
        return values

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
