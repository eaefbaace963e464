"""Following the route tables: load and warm what is new, swap one reference, acknowledge."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial

from sqlalchemy.exc import SQLAlchemyError

from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import HeadraceError, NotReady
from headrace.kernel.log import LOG
from headrace.serving import routes
from headrace.serving.loading import LoadedVersion
from headrace.serving.prediction import Live, Predictor
from headrace.serving.routes import Acknowledgement
from headrace.serving.types import RouteTable, ServiceSpec

POLL_SECONDS = 0.1
RETRY_SECONDS = 2.0
WAIT_SECONDS = 0.5

Loader = Callable[[Context, ServiceSpec, int], LoadedVersion]


class RouteWatch:
    """Keeps the `live` of every predictor at what the catalog says. `worker` names this process in the
    acknowledgements."""

    def __init__(
        self, ctx: Context, services: Mapping[str, ServiceSpec], predictors: Mapping[str, Predictor], load: Loader, worker: str
    ) -> None:
        self._ctx = ctx
        self._services = services
        self._predictors = predictors
        self._load = load
        self._worker = worker
        self._taken: dict[str, int] = {}
        self._retry_at: dict[str, float] = {}
        self._waiting: dict[str, tuple[int, float]] = {}
        self._busy: dict[str, asyncio.Task[None]] = {}
        self._released: list[str] = []
        self.polled = False

    @property
    def ready(self) -> bool:
        """Whether the tables were read and every released service has a champion in memory."""
        return self.polled and not any(self._predictors[s].live is None for s in self._released)

    async def run(self) -> None:
        """Poll until cancelled."""
        while True:
            self.poll()
            await asyncio.sleep(POLL_SECONDS)

    def poll(self) -> None:
        """Start taking over every table whose generation is new. A catalog that cannot be read changes nothing."""
        try:
            with self._ctx.catalog.reading() as connection:
                found = routes.generations(connection, self._ctx.system)
        except (SQLAlchemyError, HeadraceError) as error:
            LOG.warning("routes not read", error=repr(error))
            return
        self._released = [service for service in found if service in self._services]
        self.polled = True
        for service in self._released:
            due = found[service] != self._taken.get(service) and not self._is_waiting(service, found[service])
            again = service in self._retry_at and MACHINE.monotonic() >= self._retry_at[service]
            if (due or again) and service not in self._busy:
                task = asyncio.ensure_future(self._take_over(service))
                self._busy[service] = task
                task.add_done_callback(partial(self._ended, service))

    def _is_waiting(self, service: str, generation: int) -> bool:
        """Whether the table names a version whose features are being built, and it is not yet time to look again."""
        waiting, until = self._waiting.get(service, (-1, 0.0))
        return waiting == generation and MACHINE.monotonic() < until

    def _ended(self, service: str, task: asyncio.Task[None]) -> None:
        del self._busy[service]
        error = None if task.cancelled() else task.exception()
        if error is not None:  # the next poll tries again
            LOG.error("route not taken over", service=service, error=repr(error))

    async def _take_over(self, service: str) -> None:
        """Load what the newest table names and serve it; what cannot be loaded is acknowledged as failed, what is not ready
        is looked at again."""
        table = await asyncio.to_thread(self._table, service)
        predictor = self._predictors[service]
        at_hand = {} if predictor.live is None else predictor.live.versions
        try:
            loaded, failed = await asyncio.to_thread(self._load_all, service, table, at_hand)
        except NotReady as error:
            LOG.info("version waits", service=service, why=error.message)
            self._waiting[service] = table.generation, MACHINE.monotonic() + WAIT_SECONDS
            return
        if table.champion in loaded:
            predictor.live = Live(
                table,
                loaded[table.champion],
                loaded.get(table.challenger) if table.challenger is not None else None,
                tuple(loaded[number] for number in table.shadows if number in loaded),
            )
        elif table.champion is None:
            predictor.live = None
        ack = Acknowledgement(table.generation, tuple(sorted(loaded)), failed)
        await asyncio.to_thread(self._acknowledge, service, ack)
        self._taken[service] = table.generation
        if failed:
            self._retry_at[service] = MACHINE.monotonic() + RETRY_SECONDS
        else:
            self._retry_at.pop(service, None)
            LOG.info("serving", service=service, generation=table.generation, champion=table.champion,
                     challenger=table.challenger, weight=table.weight)  # fmt: skip

    def _table(self, service: str) -> RouteTable:
        with self._ctx.catalog.reading() as connection:
            found = routes.route(connection, self._ctx.system, service)
        assert found is not None, "a route is replaced, never removed"
        return found

    def _load_all(
        self, service: str, table: RouteTable, at_hand: Mapping[int, LoadedVersion]
    ) -> tuple[dict[int, LoadedVersion], dict[int, str]]:
        wanted = [n for n in (table.champion, table.challenger, *table.shadows) if n is not None]
        loaded: dict[int, LoadedVersion] = {}
        failed: dict[int, str] = {}
        for number in dict.fromkeys(wanted):
            try:
                loaded[number] = (
                    at_hand[number] if number in at_hand else self._load(self._ctx, self._services[service], number)
                )
            except NotReady:
                raise
            except Exception as error:  # noqa: BLE001 - a model is foreign code; the failure is acknowledged and logged
                failed[number] = str(error)[:1000]
                LOG.error("version not loaded", service=service, version=number, error=str(error))
        return loaded, failed

    def _acknowledge(self, service: str, ack: Acknowledgement) -> None:
        with self._ctx.catalog.transaction() as connection:
            routes.acknowledge(connection, self._ctx.system, service, self._worker, ack)
