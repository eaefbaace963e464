"""What users can do about services and their predictions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from headrace.engines.context import Context
from headrace.kernel.identity import Permission
from headrace.kernel.operation import operation
from headrace.serving import parity_results, routes
from headrace.serving.parity import Parity, parity
from headrace.serving.reading import export
from headrace.serving.types import RouteTable, ServiceSpec


@dataclass(frozen=True, slots=True)
class ServiceState:
    """A declared service and what serves it; `warm` are the versions that every serve process has in memory."""

    service: str
    model: str
    champion: int | None
    challenger: int | None
    weight: float
    shadows: tuple[int, ...]
    generation: int
    warm: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Exported:
    """A written export."""

    path: str
    rows: int


@operation("services.list", permission=Permission.READ, http="GET /services", cli="services list")
def list_services(ctx: Context) -> list[ServiceState]:
    """List the declared services and what serves them."""
    with ctx.catalog.reading() as connection:
        tables = routes.published(connection, ctx.system)
    found = []
    for spec in ctx.specs.all(ServiceSpec):
        table = tables.get(spec.name, RouteTable(spec.name, 0, None))
        workers = routes.acknowledgements(ctx, spec.name).values()
        warm = set.intersection(*(set(ack.ready) for ack in workers)) if workers else set()
        found.append(
            ServiceState(spec.name, spec.model.name, table.champion, table.challenger, table.weight, table.shadows,
                         table.generation, tuple(sorted(warm)))
        )  # fmt: skip
    return found


@operation("predictions.export", permission=Permission.READ, cli="predictions export")
def export_predictions(ctx: Context, *, service: str, out: Path) -> Exported:
    """Write the prediction log as Parquet: id, time, version, role, positions, entity, score and the features."""
    return Exported(str(out), export(ctx, service, out))


@operation(
    "parity.check",
    permission=Permission.READ,
    http="GET /services/{service}/parity",
    cli="parity",
    found_bad=lambda result: result.values_different > 0,
)
def check_parity(ctx: Context, *, service: str) -> Parity:
    """Recompute every logged feature from the event log at its logged position; exit 1 on any difference. The figures are
    kept for the status and the metrics."""
    found = parity(ctx, service)
    parity_results.record(ctx, service, found)
    return found
