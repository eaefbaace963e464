"""What declared streams and joins must agree with in themselves and with their partitions."""

from __future__ import annotations

from collections.abc import Sequence

from headrace.data.types import StreamSpec
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.partitions import MAX_PARTITIONS
from headrace.system.expectation_terms import check_expectations


def check_stream(spec: StreamSpec) -> StreamSpec:
    """The stream; InvalidSystem for personal fields without a retention by age, and for a wrong number of partitions."""
    if any(field.personal for field in spec.fields) and spec.retention is None:
        raise InvalidSystem(
            f"{spec.where}: stream `{spec.name}` has personal fields and no retention by age",
            hint='declare how long they are kept: retention="365d"',
        )
    if not 1 <= spec.partitions <= MAX_PARTITIONS:
        raise InvalidSystem(
            f"{spec.where}: stream `{spec.name}` has partitions={spec.partitions}; allowed: 1 to {MAX_PARTITIONS}",
            hint="declare as many as processes are to apply it",
        )
    check_expectations(spec)
    return spec


def check_join(left: StreamSpec, right: StreamSpec, on: str, where: str) -> None:
    """InvalidSystem unless both have the field and one partition."""
    for side in (left, right):
        if on not in {field.name for field in side.fields}:
            raise InvalidSystem(
                f"{where}: `{side.name}` has no field `{on}` to join on",
                hint=f"use one of {', '.join(field.name for field in side.fields)}",
            )
        if side.partitions > 1:
            raise InvalidSystem(
                f"{where}: `{side.name}` has {side.partitions} partitions and cannot be joined: its events and their reports "
                "would be applied by different processes",
                hint=f"declare `{side.name}` with partitions=1",
            )


def check_by(view: str, by: Sequence[str], stream: StreamSpec, where: str) -> None:
    """InvalidSystem unless all events of one `by` lie in one partition."""
    if stream.partitions > 1 and stream.key not in by:
        keys = "nothing" if not by else ", ".join(f"`{name}`" for name in by)
        raise InvalidSystem(
            f"{where}: view `{view}` is by {keys}, but stream `{stream.name}` has {stream.partitions} partitions by its key "
            f"`{stream.key}`: the events of one `by` would lie in several, applied by different processes",
            hint=f"add `{stream.key}` to `by`, make `by` the stream's key, or declare partitions=1",
        )
