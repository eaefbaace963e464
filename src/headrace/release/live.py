"""Which versions are alive, and which online state they need: the file need not declare it any more."""

from __future__ import annotations

from headrace.data.fencing import fence_out
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.dropping import drop_state, stored_states
from headrace.features.routes import rekeyed_topics
from headrace.features.state import StateLayout
from headrace.features.types import StoredView, stored_views
from headrace.kernel.errors import HeadraceError
from headrace.kernel.log import LOG
from headrace.registry.declarations import definition_of
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
    """Delete the online states that no needed view has, and the re-keyed topics of none: to be called before anything applies.

    What an earlier run left behind, and still ends its step, can write no state any more once something is to be deleted. A
    topic that is missed after all is written anew, and what its views lack is taken from the history.
    """
    views = needed_views(ctx)
    layouts = (StateLayout(view, ctx.specs.get(StreamSpec, view.stream), ctx.namespace) for view in views)
    kept = {layout.applied_key for layout in layouts}
    needed = {topic.name for topic in rekeyed_topics(views, ctx.specs, ctx.namespace)}
    stored = stored_states(ctx.online, ctx.namespace)
    states = [state for state, is_applied in stored.items() if state not in kept or not is_applied]
    rekeyed = ctx.namespace.name("rekeyed", "")
    topics = [topic for topic in ctx.events.topics() if topic.startswith(rekeyed) and topic not in needed]
    if states or topics:
        fence_out(ctx)
    for state in states:
        LOG.info("view.dropped", state=state.decode(), keys=drop_state(ctx.online, state))
    for topic in topics:
        ctx.events.delete(topic)
        LOG.info("topic.dropped", topic=topic)
