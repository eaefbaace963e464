"""The records of the data room: declared streams and joins, and what is known about events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

FieldType = Literal["int", "float", "str", "bool", "datetime"]
Severity = Literal["quarantine", "warn"]
"""What a rule that does not hold does: the event is refused, or it passes and is counted."""


@dataclass(frozen=True, slots=True)
class Range:
    """A contract rule: `min <= value <= max`; either end may be open. NaN is always refused."""

    min: float | None = None
    max: float | None = None
    severity: Severity = "quarantine"


@dataclass(frozen=True, slots=True)
class OneOf:
    """A contract rule: the value is one of `values`."""

    values: tuple[str | int, ...]
    severity: Severity = "quarantine"


@dataclass(frozen=True, slots=True)
class Pattern:
    """A contract rule: the whole text matches the regular expression `regex`."""

    regex: str
    severity: Severity = "quarantine"


@dataclass(frozen=True, slots=True)
class NotNull:
    """A contract rule of a field that may be null: its nulls are counted. (A field that must not be null is declared so.)"""

    severity: Literal["warn"] = "warn"


@dataclass(frozen=True, slots=True)
class Personal:
    """Marks a personal field of the person named by the column `subject`; its values never appear in logs."""

    subject: str


@dataclass(frozen=True, slots=True)
class From:
    """How a field stands in the JSON of an event, where it is not a member of its own name and type.

    `path`: `"order.total"`, `"lines[0].price"`; several paths are joined by `-` to one text; without one it is the field's
    name. `"lines[].price"` with `aggregate` is one value of an array: count, sum, mean, min, max, first, last; nulls are
    skipped. `epoch`: a number is a time in `s`, `ms` or `us` since 1970. `text`: a number may stand as text, `"12.50"`.
    """

    path: str | tuple[str, ...] = ""
    epoch: str | None = None
    text: bool = False
    aggregate: str | None = None


Rule = Range | OneOf | Pattern | NotNull


@dataclass(frozen=True, slots=True)
class Field:
    """One typed field of a stream or request."""

    name: str
    type: FieldType
    nullable: bool = False
    rules: tuple[Rule, ...] = ()
    personal: Personal | None = None
    read: From | None = None
    default: int | float | str | bool | None = None
    """The value where the event has none; an event that says null is refused. Only for fields that are never null."""

    @property
    def required(self) -> bool:
        """Whether every event must have it."""
        return not self.nullable and self.default is None


@dataclass(frozen=True, slots=True)
class Check:
    """A contract rule over whole events: `function` takes arrays of the fields that its parameters name and says of each row
    whether it is good."""

    name: str
    function: Callable[..., object]
    severity: Severity = "quarantine"


@dataclass(frozen=True, slots=True)
class Unique:
    """A contract rule over events: no two with the same values of `columns` have times less than `within` apart. Rows in
    which one of them is null pass."""

    columns: tuple[str, ...]
    within: int
    severity: Severity = "quarantine"

    @property
    def name(self) -> str:
        return f"unique:{','.join(self.columns)}"


@dataclass(frozen=True, slots=True)
class Fresh:
    """A rule of a stream: the newest event is not older than `within`. It warns."""

    within: int
    name: str = "fresh"


@dataclass(frozen=True, slots=True)
class Volume:
    """A rule of a stream: the number of events in the last whole period of `per` is between `low` and `high` times the
    median of the `over` periods before it. It warns."""

    per: int
    low: float
    high: float
    over: int
    name: str = "volume"


Expectation = Check | Unique | Fresh | Volume
_KINDS = ("json", "type", "null", "range", "set", "pattern", "future", "identity")


@dataclass(frozen=True, slots=True)
class StreamSpec:
    """A declared stream. `id`, `key`, `time`, `created` name fields; durations are microseconds.

    `retention` and `retention_bytes` limit the log by age and size.
    Events lie in `partitions` partitions by their key; with `explode` each element of the array of that path is one.
    `where` is the place of the declaration, `path/system.py:12`, for messages.
    """

    name: str
    fields: tuple[Field, ...]
    id: str
    key: str
    time: str
    created: str | None = None
    max_future: int = 5 * 60_000_000
    lateness: int = 86_400_000_000
    retention: int | None = None
    retention_bytes: int | None = None
    doc: str = ""
    where: str = ""
    explode: str | None = None
    expect: tuple[Expectation, ...] = ()
    kind: Literal["stream"] = "stream"
    partitions: int = 1

    def field(self, name: str) -> Field:
        """The field called `name`; KeyError when there is none (declarations are checked before)."""
        return {f.name: f for f in self.fields}[name]


@dataclass(frozen=True, slots=True)
class JoinSpec:
    """The events of `stream`, knowing whether a `report` event with the same value of `on` has arrived."""

    name: str
    stream: str
    report: str
    on: str
    where: str = ""
    kind: Literal["join"] = "join"


@dataclass(frozen=True, slots=True)
class Folder:
    """Files of events that appear in a folder; a relative path is below the folder of the system file."""

    path: str
    every: int
    history: bool = False


@dataclass(frozen=True, slots=True)
class Query:
    """Rows of a SQL database, of which new ones have a `watermark` not below the highest seen. `url` is a SQLAlchemy URL or
    a reference to one, `env:NAME` or `file:PATH`."""

    sql: str
    watermark: str
    url: str
    every: int
    history: bool = False


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """A batch source that is read into `stream` on a schedule, under the stream's own contract. `every` of `reads` is
    microseconds of the event clock; with `history` an event was created at its event time, else when it was read."""

    name: str
    stream: str
    reads: Folder | Query
    where: str = ""
    kind: Literal["source"] = "source"


@dataclass(frozen=True, slots=True)
class Violation:
    """Why an event is refused: `field` is None when the bytes are not an event at all. `rule` is the kind of the rule: json,
    type, null, range, set, pattern, future, identity, or the name of an expectation."""

    field: str | None
    reason: str
    value: str
    rule: str = "type"

    @property
    def broken(self) -> str:
        """The rule as it is named in results: `field.kind`, or the name of an expectation."""
        return f"{self.field}.{self.rule}" if self.rule in _KINDS and self.field is not None else self.rule


@dataclass(frozen=True, slots=True)
class QuarantineEntry:
    """One refused event as it is listed: `raw` is the text as it came, `offset` its place in the stream."""

    id: str
    offset: int
    field: str | None
    reason: str
    value: str
    raw: str


@dataclass(frozen=True, slots=True)
class StreamStatus:
    """`position`: next offset to apply; `end`: next offset of the log; `lag` their difference. Sums over the partitions."""

    stream: str
    position: int
    end: int
    lag: int
    accepted: int
    redelivered: int
    quarantined: int
    watermark: str | None


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """An immutable pin: the Delta table version and the hash of its content. `ref` is `name@version`."""

    name: str
    version: int
    content_hash: str
    rows: int
    created_at: str

    @property
    def ref(self) -> str:
        return f"{self.name}@{self.version}"
