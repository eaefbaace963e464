"""What a system has declared over time: every content of its file that ran is kept, so that a version goes on with the
definitions that it was trained on after the file has others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, select

from headrace.engines.context import Context
from headrace.features.types import FeatureSet, FeatureSource, RequestFeatures, RequestField, StoredView, stored_views
from headrace.kernel.errors import InvalidInput, NotFound
from headrace.kernel.ids import content_hash
from headrace.kernel.specs import Specs
from headrace.registry.tables import DECLARATIONS
from headrace.registry.types import ModelVersion
from headrace.registry.versions import version
from headrace.training.types import ModelSpec

_KEPT: dict[tuple[str, str], Specs] = {}
"""By system and content: loaded once in a process."""


@dataclass(frozen=True)
class Definition:
    """The features of a version. `source` is the content of the file that has them, None for today's; `specs` are today's
    declarations, since the events are read and their state is kept by today's streams."""

    features: FeatureSet
    specs: Specs
    source: str | None = None

    @property
    def meaning(self) -> str:
        """Equal for two versions that read the same values."""
        return content_hash([self.features.columns, self.features.definition_hashes])


def adopt(connection: Connection, ctx: Context, specs: Specs) -> None:
    """Enter the declarations as those that run from now on, unless they do already. Their source is in the blob store."""
    assert specs.origin is not None
    if _newest(connection, ctx) == specs.origin.digest:
        return
    hashes = {name: source.definition_hash for name, source in _sources(specs).items()}
    values = {"source": specs.origin.digest, "definitions": hashes, "by": ctx.principal.name, "at": ctx.clock.now()}
    connection.execute(DECLARATIONS.insert().values(system=ctx.system, **values))


def keep(ctx: Context, specs: Specs) -> None:
    """Store the source, then enter the declarations as those that run."""
    if specs.origin is not None:
        ctx.blobs.put(ctx.system, specs.origin.source)
        with ctx.catalog.transaction() as connection:
            adopt(connection, ctx, specs)


def running(ctx: Context) -> Specs:
    """The declarations that were adopted last; those of the context where none were."""
    with ctx.catalog.reading() as connection:
        source = _newest(connection, ctx)
    origin = ctx.specs.origin
    if source is None or origin is None or origin.digest == source:
        return ctx.specs
    return origin.load(ctx.blobs.get(ctx.system, source))


def definition_of(ctx: Context, model: str, number: int) -> Definition:
    """The features of a version as it was trained: as the file declares them now, else as a content that ran before did.

    A version that is not registered reads what the model declares. InvalidInput when its definitions are nowhere.
    """
    try:
        facts = version(ctx, model, number)
    except NotFound:
        return Definition(ctx.specs.get(ModelSpec, model).features, ctx.specs)
    return definition_of_facts(ctx, facts)


def definition_of_facts(ctx: Context, facts: ModelVersion) -> Definition:
    """As `definition_of`."""
    found = composed(ctx.specs, facts.features, facts.definition_hashes)
    if found is not None:
        return Definition(found, ctx.specs)
    for source in _contents(ctx, facts.definition_hashes):
        specs = _kept(ctx, source)
        found = composed(specs, facts.features, facts.definition_hashes)
        if found is not None:
            return Definition(found, ctx.specs, source)
    now = _sources(ctx.specs)
    hashes = facts.definition_hashes.items()
    changed = [name for name, digest in hashes if name not in now or now[name].definition_hash != digest]
    raise InvalidInput(
        f"version {facts.number} of model `{facts.name}` was trained on another definition of "
        f"`{next(iter([*changed, *facts.features]))}`, and no content of the file that has it was kept",
        hint="restore the definition, or train and register a version with today's",
    )


def composed(specs: Specs, columns: Sequence[str], hashes: Mapping[str, str]) -> FeatureSet | None:
    """The features with these columns in this order, made of the declared definitions of these hashes; None when one of
    them is declared otherwise."""
    declared = _sources(specs)
    if any(name not in declared or declared[name].definition_hash != digest for name, digest in hashes.items()):
        return None
    chosen = {name: declared[name] for name in hashes}
    makers: dict[str, FeatureSource] = {column: source for source in chosen.values() for column in source.columns}
    sources: list[FeatureSource] = []
    for column in columns:
        source = makers.get(column, RequestField(column))
        if source not in sources:
            sources.append(source)
    sources += [source for source in chosen.values() if source not in sources]
    made = FeatureSet(tuple(sources))
    return made if made.columns == tuple(columns) else None


def _sources(specs: Specs) -> dict[str, StoredView | RequestFeatures]:
    return {source.name: source for source in [*stored_views(specs), *specs.all(RequestFeatures)]}


def _newest(connection: Connection, ctx: Context) -> str | None:
    """The source of the declarations that were adopted last."""
    query = select(DECLARATIONS.c.source).where(DECLARATIONS.c.system == ctx.system).order_by(DECLARATIONS.c.sequence.desc())
    return connection.scalar(query.limit(1))


def _contents(ctx: Context, hashes: Mapping[str, str]) -> list[str]:
    """The contents that had definitions of these hashes, the newest first."""
    query = select(DECLARATIONS.c.source, DECLARATIONS.c.definitions).where(DECLARATIONS.c.system == ctx.system)
    with ctx.catalog.reading() as connection:
        rows = connection.execute(query.order_by(DECLARATIONS.c.sequence.desc())).all()
    fitting = [row.source for row in rows if all(row.definitions.get(name) == digest for name, digest in hashes.items())]
    return list(dict.fromkeys(fitting))


def _kept(ctx: Context, source: str) -> Specs:
    if (ctx.system, source) not in _KEPT:
        assert ctx.specs.origin is not None
        _KEPT[ctx.system, source] = ctx.specs.origin.load(ctx.blobs.get(ctx.system, source))
    return _KEPT[ctx.system, source]
