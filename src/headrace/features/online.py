"""Reading the features of one request: from the stored state, evaluated as of the asking time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from headrace.data.types import StreamSpec
from headrace.engines.online.port import OnlineStore
from headrace.features.frames import argument_value
from headrace.features.requests import evaluate_requests, ordered
from headrace.features.types import FeatureRow, FeatureSet, RequestField
from headrace.features.view_reader import ViewReader
from headrace.kernel.errors import InvalidInput
from headrace.kernel.namespace import Namespace
from headrace.kernel.specs import Specs


def asking_stream(features: FeatureSet) -> str | None:
    """The stream whose events ask, when nobody says so: that of the views that add the asking event, else of all views."""
    streams = {view.stream for view in features.views if view.own_event} or {view.stream for view in features.views}
    return next(iter(streams)) if len(streams) == 1 else None


class FeatureReader:
    """Reads the features of a model for one request at a time. `asking`: the stream of which the requests are events; by
    default the one of the views that add the asking event, else the only one."""

    def __init__(
        self, online: OnlineStore, namespace: Namespace, features: FeatureSet, specs: Specs, *, asking: str | None = None
    ) -> None:
        self._online = online
        self._features = features
        self._asking = asking or asking_stream(features)
        self._views = [ViewReader(v, specs.get(StreamSpec, v.stream), namespace) for v in features.views]
        self._types = {f.name: f.type for stream in specs.all(StreamSpec) for f in stream.fields}
        if self._asking is not None:
            self._types |= {f.name: f.type for f in specs.get(StreamSpec, self._asking).fields}
        self._functions = ordered(features)
        columns = features.columns
        place = {name: number for number, name in enumerate(columns)}
        self._fields = [(s.name, place[s.name]) for s in features.sources if isinstance(s, RequestField)]
        self._places = [place[view.columns[0]] for view in features.views]
        self._made = [(c, place[c]) for function in self._functions for c in function.columns]
        computed = {c for v in features.views for c in v.columns} | {c for c, _ in self._made}
        read = dict.fromkeys(name for function in self._functions for name in function.inputs)
        self._arguments = [name for name in read if name not in computed]
        dtypes = {c: d for v in self._views for c, d in zip(v.view.columns, v.dtypes(), strict=True)}
        self._read_columns = [(name, place[name], dtypes[name]) for name in read if name in dtypes]

    def read(self, request: Mapping[str, Any], at: int, own_id: Any | None) -> FeatureRow:
        """The features of `request` (times are microseconds) asked at `at`. `own_id` is its event id when the request is an
        event of the asking stream, else None.

        InvalidInput names a field that the request lacks, or an asking time that the state no longer reaches.
        """
        try:
            wanted = [view.keys(request) for view in self._views]
            blobs = iter(self._online.get_many([key for keys in wanted for key in keys]))
            row = FeatureRow(np.empty(len(self._features.columns)), {}, {})
            for view, keys, place in zip(self._views, wanted, self._places, strict=True):
                mine = [next(blobs) for _ in keys]
                row.positions[view.view.name] = view.positions(mine[0], at)
                is_event = own_id is not None and view.view.stream == self._asking
                values, row.age[view.view.name] = view.read(mine, request, at, is_event=is_event)
                row.values[place : place + len(values)] = values
            for name, place in self._fields:
                value = request[name]
                row.values[place] = np.nan if value is None else value
            if self._functions:
                self._evaluate(request, row.values)
        except KeyError as error:
            field = str(error.args[0])
            raise InvalidInput(f"the request has no field `{field}`", hint="send it", field=field) from None
        return row

    def _evaluate(self, request: Mapping[str, Any], values: np.ndarray) -> None:
        arrays = {name: argument_value(self._types.get(name, "float"), request[name]) for name in self._arguments}
        for name, place, dtype in self._read_columns:
            value = values[place : place + 1]
            arrays[name] = (
                value.copy()
                if np.isnan(value[0])
                else value.astype(np.int64).astype(dtype)
                if dtype.kind == "M"
                else value.astype(dtype)
            )
        evaluate_requests(self._functions, arrays, 1)
        for name, place in self._made:
            values[place] = arrays[name][0]
