"""The types of what views give."""

from __future__ import annotations

from headrace.data.types import FieldType, StreamSpec
from headrace.features.types import Aggregate, AttributeView, StoredView, WindowView


def output_aggregates(view: WindowView) -> list[tuple[str, Aggregate]]:
    """(column name, aggregate) of every output column."""
    repeated = [aggregate for _ in view.over for _, aggregate in view.aggregates]
    return list(zip(view.columns, repeated, strict=True))


def aggregate_type(aggregate: Aggregate, stream: StreamSpec) -> FieldType:
    """Counts are integers; min, max, first and last of the column's type; all else is a float."""
    if aggregate.kind in ("count", "distinct"):
        return "int"
    if aggregate.kind in ("min", "max", "first", "last") and aggregate.column is not None:
        return stream.field(aggregate.column).type
    return "float"


def column_types(view: StoredView, stream: StreamSpec) -> dict[str, FieldType]:
    """The type of each output column."""
    if isinstance(view, AttributeView):
        kinds = [stream.field(column).type for column in view.source_columns]
        return dict(zip(view.columns, kinds, strict=True))
    return {name: aggregate_type(aggregate, stream) for name, aggregate in output_aggregates(view)}
