"""What a file of events is, inferred for `headrace init`: types, time, id, key, label, and windows that fit its span."""

from __future__ import annotations

import keyword
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import polars as pl

from headrace.data.types import Field, FieldType, Violation
from headrace.kernel.errors import InvalidInput
from headrace.kernel.times import DAY, HOUR

TIME_NAMES = ("at", "time", "timestamp", "ts", "datetime", "event_time", "created_at", "date")
KEY_WORDS = ("customer", "user", "account", "client", "member", "card", "device", "patient", "session", "entity")
LABEL_WORDS = ("label", "target", "outcome", "fraud", "churn", "churned", "default", "defaulted", "converted", "conversion")
EPOCH_MS = (631_152_000_000, 4_102_444_800_000)
"""1990 to 2100: integers in this range, in a column with the name of a time, are milliseconds since 1970."""
TYPES: tuple[tuple[type[pl.DataType] | pl.DataType, FieldType], ...] = (
    (pl.Boolean, "bool"),
    (pl.String, "str"),
    (pl.Date, "datetime"),
    (pl.Datetime, "datetime"),
)

INSTEAD: dict[FieldType, tuple[FieldType, ...]] = {
    "int": ("float", "str"), "float": ("str",), "bool": ("str",), "datetime": ("int", "str"), "str": (),
}  # fmt: skip
"""What is tried for a column whose values the contract of its type refuses."""
Fits = Callable[[Field], Violation | None]


@dataclass(frozen=True, slots=True)
class Column:
    """A column that a system file can declare."""

    name: str
    type: FieldType
    nullable: bool
    distinct: int


@dataclass(frozen=True, slots=True)
class Inferred:
    """`times` are the event times of the rows, microseconds, null where there is none. `left_out` are columns that
    cannot be declared, each with the reason. `label` is a 0/1 or bool column that looks like an outcome."""

    columns: tuple[Column, ...]
    id: str
    key: str
    time: str
    label: str | None
    left_out: dict[str, str]
    rows: int
    times: pl.Series

    @property
    def first(self) -> int:
        """The time of the first event, microseconds."""
        first = self.times.min()
        return first if isinstance(first, int) else 0

    @property
    def span(self) -> int:
        """Microseconds from the first event to the last."""
        last = self.times.max()
        return last - self.first if isinstance(last, int) else 0

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)

    @property
    def numbers(self) -> list[str]:
        """Columns to aggregate: numbers that are neither id, key nor label, those with fractions first."""
        taken = {self.id, self.key, self.label}
        found = [c for c in self.columns if c.type in ("int", "float") and c.name not in taken and not c.name.endswith("_id")]
        return [c.name for c in sorted(found, key=lambda c: c.type != "float")]

    @property
    def windows(self) -> list[str]:
        """Window lengths that the file is long enough for."""
        choices = [("1h", HOUR), ("6h", 6 * HOUR), ("1d", DAY), ("7d", 7 * DAY), ("30d", 30 * DAY), ("90d", 90 * DAY)]
        return [text for text, width in choices if 3 * width <= self.span][-3:] or ["1h"]

    @property
    def horizon(self) -> str:
        """How far a label looks ahead: about a sixth of the span."""
        choices = [("1h", HOUR), ("1d", DAY), ("7d", 7 * DAY), ("30d", 30 * DAY)]
        return next((text for text, width in reversed(choices) if 6 * width <= self.span), "1h")


def infer(frame: pl.DataFrame, fits: Fits, *, id: str | None, key: str | None, time: str | None) -> Inferred:
    """Infer what is not given. InvalidInput when a role cannot be filled, naming the columns that there are. `fits` says
    why a field refuses a value of its column."""
    if frame.is_empty():
        raise InvalidInput("the file has no rows to infer from", hint="give a file with some events")
    for role, name in (("id", id), ("key", key), ("time", time)):
        if name is not None and name not in frame.columns:
            raise InvalidInput(f"--{role} `{name}` is no column of the file; it has {_list(frame.columns)}", hint="mend it")
    columns, left_out, no_times = _columns(frame, fits)
    for role, name in (("id", id), ("key", key)):
        if name in left_out:
            raise InvalidInput(f"--{role} `{name}` cannot be declared: {left_out[name]}", hint="mend the file, or name another")
    by_name = {column.name: column for column in columns}
    time = time or _time(columns)
    if time is None or by_name.get(time, columns[0]).type != "datetime":
        raise InvalidInput(
            f"no column is the time of the events; the file has {_list(frame.columns)}{''.join(no_times)}",
            hint="times are RFC 3339 text, a datetime type or epoch milliseconds; name the column with --time",
        )
    id = id or _id(columns, frame.height)
    if id is None:
        raise InvalidInput(
            f"no column identifies an event: each of {_list(by_name)} repeats or has nulls",
            hint="add a column with a number or text unique to each event, or name one with --id",
        )
    label = _label(frame, columns, {id, time, key})
    key = key or _key(columns, {id, time, label}, frame.height) or id
    return Inferred(tuple(columns), id, key, time, label, left_out, frame.height, event_times(frame[time]))


def event_times(series: pl.Series) -> pl.Series:
    """Microseconds since 1970 UTC; null where the value is no time. A naive time is UTC."""
    if series.dtype.is_integer():
        return series.cast(pl.Int64) * 1000
    if series.dtype == pl.String:
        series = _parsed(series)
    moments = series.cast(pl.Datetime("us"))
    return moments.dt.epoch("us")


def _parsed(series: pl.Series) -> pl.Series:
    """Text as UTC datetimes, null where it is none: RFC 3339, with `T` or a blank, with or without offset, or a date."""
    text = pl.col(series.name).str.strip_chars().str.replace(" ", "T", literal=True).str.replace(r"(Z|z)$", "+00:00")
    dated = pl.when(text.str.contains("T", literal=True)).then(text).otherwise(text + "T00:00:00")
    zoned = pl.when(dated.str.contains(r"[+-]\d\d:?\d\d$")).then(dated).otherwise(dated + "+00:00")
    parsed = zoned.str.to_datetime("%Y-%m-%dT%H:%M:%S%.f%z", time_unit="us", time_zone="UTC", strict=False)
    return series.to_frame().select(parsed.dt.replace_time_zone(None)).to_series()


def _columns(frame: pl.DataFrame, fits: Fits) -> tuple[list[Column], dict[str, str], list[str]]:
    """The columns to declare, those that cannot be, and what is wrong with those that look like times."""
    columns: list[Column] = []
    left_out: dict[str, str] = {}
    no_times: list[str] = []
    for series in frame:
        kind = _type(series)
        name = series.name
        if not re.fullmatch(r"[A-Za-z_]\w*", name) or keyword.iskeyword(name) or name.startswith("_"):
            left_out[name] = "its name is no Python name, or starts with `_`"
        elif kind is None:
            left_out[name] = f"its type is {series.dtype}"
        elif series.null_count() == series.len():
            left_out[name] = "it is always null"
        else:
            nullable = series.null_count() > 0
            refused = fits(Field(name, kind, nullable))
            if refused is not None and kind == "datetime":
                no_times.append(f"; `{name}` looks like a time, but {refused.value}: {refused.reason}")
            if refused is not None:
                kind = next((other for other in INSTEAD[kind] if fits(Field(name, other, nullable)) is None), None)
            if kind is not None:
                columns.append(Column(name, kind, nullable, series.n_unique()))
            elif refused is not None:
                left_out[name] = f"no type fits all of its values; {refused.value}: {refused.reason}"
    return columns, left_out, no_times


def _type(series: pl.Series) -> FieldType | None:
    dtype = series.dtype
    if dtype.is_integer():
        low, high = series.min(), series.max()
        named = series.name.lower() in TIME_NAMES or series.name.lower().endswith(("_at", "_time", "_ms"))
        if named and isinstance(low, int) and isinstance(high, int) and EPOCH_MS[0] <= low and high <= EPOCH_MS[1]:
            return "datetime"
        return "int"
    if dtype.is_float() or dtype.is_decimal():
        return "float"
    if dtype == pl.String and series.null_count() < series.len():
        sample = series.drop_nulls().head(1000)
        return "datetime" if _parsed(sample).null_count() == 0 else "str"
    return next((kind for polars, kind in TYPES if dtype == polars), None)


def _time(columns: Sequence[Column]) -> str | None:
    found = [c for c in columns if c.type == "datetime"]
    complete = [c.name for c in found if not c.nullable] or [c.name for c in found]
    return next((n for wanted in TIME_NAMES for n in complete if n.lower() == wanted), complete[0] if complete else None)


def _id(columns: Sequence[Column], rows: int) -> str | None:
    unique = [c.name for c in columns if c.type in ("int", "str") and not c.nullable and c.distinct == rows]
    named = [n for n in unique if n.lower() in ("id", "uuid", "guid", "event_id") or n.lower().endswith("_id")]
    return next(iter([*named, *unique]), None)


def _key(columns: Sequence[Column], taken: set[str | None], rows: int) -> str | None:
    """The entity: a column whose values repeat; with the name of an entity, else an `_id`, else the first text."""
    possible = [
        c.name for c in columns
        if c.name not in taken and c.type in ("int", "str") and not c.nullable and 1 < c.distinct < max(rows * 0.9, 3)
    ]  # fmt: skip
    entities = [n for word in KEY_WORDS for n in possible if word in n.lower()]
    ids = [n for n in possible if n.lower().endswith("_id")]
    texts = [c.name for c in columns if c.name in possible and c.type == "str"]
    return next(iter([*entities, *ids, *texts]), None)


def _label(frame: pl.DataFrame, columns: Sequence[Column], taken: set[str | None]) -> str | None:
    """The one 0/1 or bool column with the name of an outcome; without such a name, no label is guessed."""
    for column in columns:
        words = set(column.name.lower().split("_"))
        named = column.name.lower().startswith("is_") or words & set(LABEL_WORDS)
        if column.name in taken or not named or column.type not in ("bool", "int") or column.nullable:
            continue
        values = frame[column.name].cast(pl.Int64).unique().to_list()
        if sorted(values) == [0, 1]:
            return column.name
    return None


def _list(names: Sequence[str] | dict[str, Column]) -> str:
    return ", ".join(f"`{name}`" for name in names)
