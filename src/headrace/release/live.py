"""Which versions are alive, and which online state they need: the file need not declare it any more."""

from __future__ import annotations

from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.dropping import drop_state
from headrace.features.types import StoredView, stored_views
from headrace.kernel.errors import HeadraceError
from headrace.kernel.log import LOG
from headrace.registry.declarations import definition_of, ever_declared
from headrace.release import store
from headrace.serving.routes import published
from headrace.serving.types import ServiceSpec


def live_versions(ctx: Context) -> dict[str, list[int]]:
    """The versions of each service that answer, shadow or warm, and the one that a rollback would bring back."""
    found: dict[str, list[int]] = {}
    with ctx.catalog.reading() as connection:
        tables = published(connection, ctx.system)
        for service in ctx.specs.all(ServiceSpec):
            table, rollout = tables.get(service.name), store.newest(connection, ctx.system, service.name)
            numbers = [] if table is None else [table.champion, table.challenger, *table.shadows]
            numbers += [] if rollout is None else [rollout.champion, rollout.challenger]
            found[service.name] = list(dict.fromkeys(number for number in numbers if number is not None))
    return found


def kept_views(ctx: Context) -> dict[StoredView, list[str]]:
    """The views that live versions read and the file does not declare any more, each with its versions (`model@number`)."""
    declared = {view.definition_hash for view in stored_views(ctx.specs)}
    streams = {stream.name for stream in ctx.specs.all(StreamSpec)}
    found: dict[str, tuple[StoredView, list[str]]] = {}
    for service, numbers in live_versions(ctx).items():
        model = ctx.specs.get(ServiceSpec, service).model.name
        for number in numbers:
            try:
                views = definition_of(ctx, model, number).features.views
            except HeadraceError as error:
                LOG.debug("version without its definitions", service=service, version=number, error=error.message)
                continue
            for view in views:
                if view.definition_hash not in declared and view.stream in streams:
                    found.setdefault(view.definition_hash, (view, []))[1].append(f"{model}@{number}")
    return dict(found.values())


def needed_views(ctx: Context) -> list[StoredView]:
    """The views that are kept online: what the file declares, and what live versions still read."""
    return [*stored_views(ctx.specs), *kept_views(ctx)]


def drop_unneeded(ctx: Context) -> None:
    """Delete the online state of definitions that ran and that nothing needs now: to be called before anything applies."""
    needed = {view.definition_hash for view in needed_views(ctx)}
    for definition in ever_declared(ctx) - needed:
        keys = drop_state(ctx.online, ctx.namespace, definition)
        if keys:
            LOG.info("view.dropped", definition=definition, keys=keys)
