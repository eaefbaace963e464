"""Which thing was made from which."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, select

from headrace.engines.context import Context
from headrace.registry.tables import LINEAGE
from headrace.registry.types import Edge


def record(connection: Connection, system: str, edges: Iterable[Edge]) -> None:
    """Enter the edges that are not there yet, in the caller's transaction."""
    for edge in edges:
        mine = (LINEAGE.c.system == system) & (LINEAGE.c.child == edge.child) & (LINEAGE.c.parent == edge.parent)
        if connection.execute(select(LINEAGE.c.child).where(mine)).first() is None:
            connection.execute(LINEAGE.insert().values(system=system, child=edge.child, parent=edge.parent))


def ancestors(ctx: Context, node: str) -> list[Edge]:
    """Every edge above `node`, such as `model:boosting@3`, nearest first."""
    found: list[Edge] = []
    with ctx.catalog.reading() as connection:
        waiting, seen = [node], {node}
        while waiting:
            child = waiting.pop(0)
            mine = (LINEAGE.c.system == ctx.system) & (LINEAGE.c.child == child)
            for parent in connection.execute(select(LINEAGE.c.parent).where(mine).order_by(LINEAGE.c.parent)).scalars():
                found.append(Edge(child, parent))
                if parent not in seen:
                    seen.add(parent)
                    waiting.append(parent)
    return found
