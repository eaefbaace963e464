"""New rows of a SQL query, by the rising values of its watermark column."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from hashlib import blake2b
from typing import Any

import msgspec
from sqlalchemy import ColumnClause, column, create_engine, select, text
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from headrace.data.types import Field, Query, StreamSpec
from headrace.kernel.errors import EngineUnreachable, InvalidInput
from headrace.kernel.settings import resolve_reference

ROWS = 16_384
_PLAIN = (int, float, str)


def query_batches(spec: StreamSpec, query: Query, state: Any) -> Iterator[tuple[list[bytes], Any]]:
    """Batches of events, each with the state to leave with it; `state` is that of the last batch, None at first.

    A state is the highest watermark with the digests of the events that have it: such rows are asked for again, since more
    of them may have been written. Rows without a watermark are never read.
    """
    at: Any = None if state is None else _value(state["watermark"])
    seen = dict.fromkeys([] if state is None else state["seen"])
    for rows in _rows(spec, query, at):
        values, wrong = [], None
        for row in rows:
            event, mark = _event(spec.fields, row), row[query.watermark]
            if at is not None and not _comparable(mark, at):
                wrong = InvalidInput(f"the watermark `{query.watermark}` was {at!r} and is {mark!r}", hint="give it one type",
                                     field=query.watermark)  # fmt: skip
                break
            digest = blake2b(event, digest_size=12).hexdigest()
            if at is None or mark != at:
                at, seen = mark, {}
            elif digest in seen:
                continue
            seen[digest] = None
            values.append(event)
        if values:
            yield values, {"watermark": _kept(at, query), "seen": list(seen)}
        if wrong is not None:
            raise wrong


def _comparable(one: Any, other: Any) -> bool:
    """SQLite orders numbers before texts in one column: the first text would hide all later numbers."""
    return isinstance(one, str) == isinstance(other, str)


def _rows(spec: StreamSpec, query: Query, at: Any) -> Iterator[Sequence[dict[str, Any]]]:
    """Rows with a watermark of at least `at`, in its order and that of the ids."""
    mark: ColumnClause[Any] = column(query.watermark)
    sql = query.sql.strip().rstrip(";").replace(":", "\\:")  # (a colon begins no parameter)
    asked = select(text("*")).select_from(text(f"({sql}) AS headrace_source"))
    asked = asked.where(mark.is_not(None) if at is None else mark >= at).order_by(mark, column(spec.id))
    try:
        engine = create_engine(resolve_reference(query.url))
    except (ArgumentError, NoSuchModuleError, ImportError) as error:
        raise InvalidInput(f"`{query.url}` leads to no database that can be opened: {type(error).__name__}",
                           hint="give a SQLAlchemy URL, and install its driver") from None  # fmt: skip
    try:
        with engine.connect().execution_options(stream_results=True) as connection:
            result = connection.execute(asked).mappings()
            if query.watermark not in result.keys():  # noqa: SIM118  (a view of column names, not a mapping)
                raise InvalidInput(f"the query has no column `{query.watermark}`; it has {', '.join(result.keys())}",
                                   hint="mend `watermark=` or the query", field=query.watermark)  # fmt: skip
            for part in result.partitions(ROWS):
                yield [dict(row) for row in part]
    except SQLAlchemyError as error:
        reason = str(error.orig) if isinstance(error, DBAPIError) else type(error).__name__
        raise EngineUnreachable(f"the query on `{query.url}` fails: {reason}", hint="mend the query or the database") from None
    finally:
        engine.dispose()


def _event(fields: Sequence[Field], row: dict[str, Any]) -> bytes:
    """The declared fields as JSON; what SQL has no type for becomes what the field declares."""
    document = {f.name: _typed(f, row[f.name]) for f in fields if row.get(f.name) is not None}
    return msgspec.json.encode(document, enc_hook=str)


def _typed(field: Field, value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if field.type == "int" and value == int(value) else float(value)
    if field.type == "bool" and type(value) is int and value in (0, 1):
        return bool(value)
    return value


def _kept(value: Any, query: Query) -> Any:
    """The watermark in JSON, such that `_value` gives the same back to the database."""
    if isinstance(value, datetime):
        return {"datetime": value.isoformat()}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    if isinstance(value, Decimal):
        return {"decimal": str(value)}
    if type(value) in _PLAIN:
        return value
    raise InvalidInput(f"the watermark `{query.watermark}` is a {type(value).__name__}; allowed: a number, a text or a time",
                       hint="cast it in the query", field=query.watermark)  # fmt: skip


def _value(kept: Any) -> Any:
    if not isinstance(kept, dict):
        return kept
    ((kind, content),) = kept.items()
    if kind == "decimal":
        return Decimal(content)
    return datetime.fromisoformat(content) if kind == "datetime" else date.fromisoformat(content)
