"""The schema of a stream over time: what is added is applied, what would change the meaning of stored events is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select

from headrace.data.tables import STREAM_SCHEMAS
from headrace.data.types import Field, StreamSpec
from headrace.engines.context import Context
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.log import LOG

_ROLES = ("id", "key", "time", "created")


@dataclass(frozen=True, slots=True)
class SchemaChange:
    """`was` and `is_` are texts such as `float | None`; None where there is no such field."""

    stream: str
    field: str
    was: str | None
    is_: str | None


class SchemaChanged(InvalidSystem):
    """Changes that stored events do not allow: all of them, in the message and in the body."""

    def __init__(self, changes: list[SchemaChange]) -> None:
        lines = [f"  {c.stream}.{c.field}: was {c.was or 'not there'}, is {c.is_ or 'not there'}" for c in changes]
        super().__init__(
            "the schema of stored events cannot be changed so\n" + "\n".join(lines),
            hint="take it back, add a field that may be null or has a default, or declare a new stream with name=",
        )
        self.changes = changes

    def body(self) -> dict[str, dict[str, Any]]:
        found = [{"stream": c.stream, "field": c.field, "was": c.was, "is": c.is_} for c in self.changes]
        return {"error": {**super().body()["error"], "changes": found}}


def schema_of(spec: StreamSpec) -> dict[str, Any]:
    """Fields by name, as `_shown` writes them, and the roles. Rules are no part of it: a contract may change."""
    return {
        "fields": {field.name: _shown(field) for field in spec.fields},
        "roles": dict(zip(_ROLES, (spec.id, spec.key, spec.time, spec.created), strict=True)),
    }


def apply_schemas(ctx: Context) -> None:
    """Record the declared schema of each stream. SchemaChanged when one differs from the applied by more than added fields
    that old events need not have, and fields that may be null now."""
    news, refused = [], []
    for spec in ctx.specs.all(StreamSpec):
        version, applied = applied_schema(ctx, spec.name)
        declared = schema_of(spec)
        if applied is not None:
            refused += changes(spec, applied)
        if applied != declared:
            news.append((spec.name, version + 1, declared))
    if refused:
        raise SchemaChanged(refused)
    with ctx.catalog.transaction() as connection:
        for stream, version, schema in news:
            values = {"stream": stream, "version": version, "schema": schema, "applied_at": ctx.clock.now()}
            connection.execute(STREAM_SCHEMAS.insert().values(system=ctx.system, **values))
    for stream, version, _ in news:
        LOG.info("schema.applied", stream=stream, version=version)


def applied_schema(ctx: Context, stream: str) -> tuple[int, dict[str, Any] | None]:
    """The newest schema with its version; (0, None) for a stream that never ran."""
    table = STREAM_SCHEMAS
    own = (table.c.system == ctx.system) & (table.c.stream == stream)
    with ctx.catalog.reading() as connection:
        row = connection.execute(select(table).where(own).order_by(table.c.version.desc()).limit(1)).first()
    return (0, None) if row is None else (row.version, row.schema)


def changes(spec: StreamSpec, applied: dict[str, Any]) -> list[SchemaChange]:
    """What of the declaration stored events do not allow."""
    declared = schema_of(spec)
    before, now = applied["fields"], declared["fields"]
    found = []
    for field in spec.fields:
        was, is_ = before.get(field.name), now[field.name]
        allowed = not field.required if was is None else _type(was) == _type(is_) and (was == is_ or field.nullable)
        if not allowed:
            found.append(SchemaChange(spec.name, field.name, was, is_))
    found += [SchemaChange(spec.name, name, was, None) for name, was in before.items() if name not in now]
    for role in _ROLES:
        was, is_ = applied["roles"].get(role), declared["roles"][role]
        if was != is_:
            found.append(SchemaChange(spec.name, f"{role}=", was, is_))
    return found


def _shown(field: Field) -> str:
    default = "" if field.default is None else f" = {field.default!r}"
    return f"{field.type}{' | None' if field.nullable else ''}{default}"


def _type(shown: str) -> str:
    return shown.partition(" ")[0]
