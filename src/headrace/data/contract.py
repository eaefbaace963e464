"""The contract of a stream or request, compiled to a typed decoder of JSON events and to Polars expressions for frames.

Both are held equal to `checking.check_document` by a property test.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date
from functools import lru_cache
from operator import attrgetter, itemgetter
from typing import Any

import msgspec
import numpy as np
import polars as pl

from headrace.data.checking import check_document, check_rules, shown
from headrace.data.event_types import fast_type, micros, time_column
from headrace.data.expectations import RowChecks, failing_rules, with_severity
from headrace.data.frames import conform, physical, valid_rows
from headrace.data.json_fields import UNREADABLE, flattener, parsed, unknown_members
from headrace.data.types import Check, Field, StreamSpec, Violation
from headrace.kernel.times import FIRST_TIME, LAST_TIME, SECOND, format_time, from_micros

POLARS: dict[str, pl.DataType] = {
    "int": pl.Int64(), "float": pl.Float64(), "str": pl.String(), "bool": pl.Boolean(), "datetime": pl.Datetime("us", "UTC"),
}  # fmt: skip


class _OutOfRange(Exception):
    """A time whose offset carries it out of the years 1 to 9999."""


class Contract:
    """Types, nullability, rules and `max_future` (microseconds) of `fields`; `time` names the event time."""

    def __init__(self, fields: tuple[Field, ...], *, time: str | None, max_future: int, checks: Sequence[Check] = ()) -> None:
        check_rules(fields)
        self._warning = with_severity(fields, "warn")
        fields = tuple(replace(f, rules=tuple(r for r in f.rules if r.severity == "quarantine")) for f in fields)
        self.fields = fields
        self._checks = RowChecks(fields, checks) if checks else None
        self.names = tuple(field.name for field in fields)
        self.schema: dict[str, pl.DataType] = {field.name: POLARS[field.type] for field in fields}
        self._flat = flattener(fields)
        self._known = frozenset(self.names)
        self._time = time
        self._max_future = max_future
        self._times = tuple(field.name for field in fields if field.type == "datetime")
        members: list[Any] = [(f.name, fast_type(f)) if f.required else (f.name, fast_type(f), f.default) for f in fields]
        event = msgspec.defstruct("Event", members, kw_only=True, gc=False)
        request = msgspec.defstruct("Request", members, kw_only=True, gc=False, forbid_unknown_fields=True)
        self._event = event
        self._decode_event = msgspec.json.Decoder(event).decode
        self._decode_request = msgspec.json.Decoder(request).decode

    def decode(self, raw: bytes, now: int) -> dict[str, Any] | Violation:
        """One event: its typed values, times in microseconds, or why it is refused at event-clock time `now`."""
        raw = raw if self._flat is None else self._flat(raw)
        values = self._decoded(self._decode_event, raw) or self._diagnose(raw, strict=False)
        if isinstance(values, Violation):
            return values
        early = self._early(values, now)
        if early is not None or self._checks is None:
            return early or values
        row = [pl.Series(n, [values[n]], dtype=pl.Int64 if n in self._times else t).cast(t) for n, t in self.schema.items()]
        _, refused = self._checks.refused(pl.DataFrame(row))
        return refused[0] if refused else values

    def _decoded(self, decode: Callable[[bytes], Any], raw: bytes) -> dict[str, Any] | None:
        """The values of what fulfils the types that msgspec knows."""
        try:
            return self._values(decode(raw))
        except UNREADABLE:
            return None

    def warnings(self, frame: pl.DataFrame) -> dict[str, int]:
        """How many rows of a frame of accepted events do not fulfil each rule that warns: `field.kind` or a check's name."""
        failing = failing_rules(self._warning, frame)
        if self._checks is not None:
            failing |= self._checks.failing(frame, "warn")
        return {name: int(rows.sum()) for name, rows in failing.items()}

    def decode_row(self, raw: bytes) -> dict[str, Any] | Violation:
        """One request: as `decode`, but unknown fields are refused and any time is allowed."""
        return self._decoded(self._decode_request, raw) or self._diagnose(raw, strict=True)

    def check_row(self, document: Any) -> dict[str, Any] | Violation:
        """As `decode_row`, of a JSON document that is decoded already."""
        return check_document(self.fields, document, strict=True)

    def decode_batch(self, values: Sequence[bytes], now: int | np.ndarray) -> tuple[pl.DataFrame, list[tuple[int, Violation]]]:
        """The accepted events as rows (the declared columns, then `_index`, the place in `values`), and the others.

        `now` is one time for all or int64[len(values)], one for each.
        """
        frame, refused = self._decode_all(values)
        if frame.is_empty():
            return frame, refused
        if self._time is not None:
            times = physical(frame[self._time]).to_numpy()
            ahead = times > (now if isinstance(now, int) else now[frame["_index"].to_numpy()]) + self._max_future
            frame = _without(frame, ahead, map(self._ahead, times[ahead].tolist()), refused)
        if self._checks is not None:
            frame = _without(frame, *self._checks.refused(frame), refused)
        return frame, refused

    def unknown(self, values: Sequence[bytes]) -> list[str | None]:
        """Of each accepted event the members that no field is named after, as a JSON object; None when there are none."""
        try:
            deque(map(self._decode_request, values), maxlen=0)
            return [None] * len(values)
        except UNREADABLE:
            pass
        found: list[str | None] = []
        for raw in values:
            try:
                self._decode_request(raw)
                found.append(None)
            except UNREADABLE:
                found.append(unknown_members(raw, self._known))
        return found

    def check_frame(self, frame: pl.DataFrame, now: int) -> pl.DataFrame:
        """The violations of a typed frame: columns `_index`, `field`, `reason`, `value`; empty when all rows are valid.

        Integers in a time column are epoch milliseconds.
        """
        schema = {"_index": pl.Int64, "field": pl.String, "reason": pl.String, "value": pl.String}
        valid = valid_rows(self.fields, frame, None if self._time is None else (self._time, now + self._max_future))
        bad = np.flatnonzero(~valid)
        rows = frame[bad].to_dicts() if len(bad) else []
        found = []
        for index, row in zip(bad.tolist(), rows, strict=True):
            document = {n: v.isoformat() if isinstance(v, date) else v for n, v in row.items()}
            checked = check_document(self.fields, document)
            if not isinstance(checked, Violation):
                checked = self._early(checked, now) or checked
            if isinstance(checked, Violation):
                found.append((index, checked.field, checked.reason, checked.value))
        if self._checks is not None:
            failing, violations = self._checks.refused(self.conform(frame.filter(pl.Series(valid))))
            places = np.flatnonzero(valid)[failing].tolist()
            found += [(place, v.field, v.reason, v.value) for place, v in zip(places, violations, strict=True)]
            found.sort(key=lambda row: row[0])
        return pl.DataFrame(found, schema=schema, orient="row")

    def conform(self, frame: pl.DataFrame) -> pl.DataFrame:
        """The declared columns of a valid frame in their declared types."""
        return conform(self.fields, self.schema, frame)

    def _values(self, event: Any) -> dict[str, Any] | None:
        """The values of a decoded struct; None when a time is out of range."""
        values = {name: getattr(event, name) for name in self.names}
        for name in self._times:
            moment = values[name]
            if moment is not None:
                values[name] = at = micros(moment)
                if not FIRST_TIME <= at <= LAST_TIME:
                    return None
        return values

    def _decode_all(self, values: Sequence[bytes]) -> tuple[pl.DataFrame, list[tuple[int, Violation]]]:
        if self._flat is not None:
            values = list(map(self._flat, values))
        try:
            return self._frame(list(map(self._decode_event, values)), range(len(values))), []
        except (*UNREADABLE, _OutOfRange):
            pass
        events: list[Any] = []
        index: list[int] = []
        refused: list[tuple[int, Violation]] = []
        for place, raw in enumerate(values):
            try:
                event = self._decode_event(raw)
                typed = self._values(event)
            except UNREADABLE:
                typed = None
            if typed is None:
                checked = self._diagnose(raw, strict=False)
                if isinstance(checked, Violation):
                    refused.append((place, checked))
                    continue
                times = {name: from_micros(checked[name]) for name in self._times if checked[name] is not None}
                event = self._event(**(checked | times))
            events.append(event)
            index.append(place)
        return self._frame(events, index), refused

    def _frame(self, events: list[Any], index: Sequence[int]) -> pl.DataFrame:
        columns = []
        for name in self.names:
            column = list(map(attrgetter(name), events))
            if name in self._times:
                stored = time_column(name, column)
                times = stored.drop_nulls().to_numpy() if stored.null_count() else stored.to_numpy()
                if times.size and (times.min() < FIRST_TIME or times.max() > LAST_TIME):
                    raise _OutOfRange
                columns.append(stored.cast(self.schema[name]))
            else:
                columns.append(pl.Series(name, column, dtype=self.schema[name]))
        return pl.DataFrame([*columns, pl.Series("_index", index, dtype=pl.Int64)])

    def _diagnose(self, raw: bytes, *, strict: bool) -> dict[str, Any] | Violation:
        """The slow path, which defines what is valid and gives the reason."""
        try:
            document, readable = parsed(raw)
        except UNREADABLE as error:
            return self._not_json(raw, error)
        if document is not readable:  # (a member that is no field may be what no parser holds: the decoder skips it)
            lost = document.keys() - readable.keys()
            if lost & self._known:
                return self._not_json(raw, ValueError("number out of range or no UTF-8"))
            document = readable | dict.fromkeys(lost)
        return check_document(self.fields, document, strict=strict)

    def _not_json(self, raw: bytes, error: Exception) -> Violation:
        """Python's parser also reads NaN and infinite numbers: then the field at fault can be named."""
        unreadable = Violation(None, f"not JSON: {error}", raw[:200].decode(errors="backslashreplace"), "json")
        try:
            checked = check_document(self.fields, json.loads(raw))
        except (ValueError, RecursionError):
            return unreadable
        return checked if isinstance(checked, Violation) and checked.field is not None else unreadable

    def _early(self, values: dict[str, Any], now: int) -> Violation | None:
        at = None if self._time is None else values[self._time]
        return self._ahead(at) if at is not None and at > now + self._max_future else None

    def _ahead(self, at: int) -> Violation:
        reason = f"more than {self._max_future // SECOND} s ahead of the clock"
        return Violation(self._time, reason, shown(format_time(at)), "future")


def _without(
    frame: pl.DataFrame, bad: np.ndarray, violations: Iterable[Violation], refused: list[tuple[int, Violation]]
) -> pl.DataFrame:
    """The rows of the frame that are not `bad`; the others go to `refused`, which is sorted by place."""
    if not bad.any():
        return frame
    refused += zip(frame["_index"].to_numpy()[bad].tolist(), violations, strict=True)
    refused.sort(key=itemgetter(0))
    return frame.filter(pl.Series(~bad))


@lru_cache(maxsize=256)
def contract_of(spec: StreamSpec) -> Contract:
    """The compiled contract of a declared stream; id, key and event time are never null, whatever is declared."""
    needed = (spec.id, spec.key, spec.time)
    fields = tuple(replace(field, nullable=False) if field.name in needed else field for field in spec.fields)
    checks = [rule for rule in spec.expect if isinstance(rule, Check)]
    return Contract(fields, time=spec.time, max_future=spec.max_future, checks=checks)
