"""The prediction app: predictions, features and health are answered here, everything else by the work process.

A prediction comes by `begin` (`protocol.py`) or, as everything else, by ASGI.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from headrace.data.appending import RowAppender
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.requests import Readable
from headrace.kernel.errors import HeadraceError, NotFound
from headrace.kernel.identity import Permission, Principal, authorize
from headrace.kernel.log import LOG
from headrace.serving.counters import Counters
from headrace.serving.doors import Door, InputDoor, ServiceDoor, key_of, unknown_argument
from headrace.serving.feature_door import FeatureDoor
from headrace.serving.http import (
    Aborted,
    Answer,
    Headers,
    Receive,
    Scope,
    Send,
    WrongMethod,
    answer_to,
    encode,
    read_body,
    reply,
)
from headrace.serving.journal import Journal
from headrace.serving.loading import Counted, LoadedVersion, known_counted, load_version
from headrace.serving.prediction import Predictor
from headrace.serving.prediction_log import PredictionLog
from headrace.serving.proxy import Upstream, WorkLost
from headrace.serving.requests import RequestReader
from headrace.serving.types import ServiceSpec
from headrace.serving.waiting_page import HEADERS as PAGE
from headrace.serving.waiting_page import waiting_page
from headrace.serving.watching import Loader, RouteWatch

SETTLE_SECONDS = 1.0

Authenticate = Callable[[Mapping[bytes, bytes]], Principal]
"""Who sends these headers (lower-case names); raises Unauthenticated or Denied. Called for every prediction: the one
who gives it caches."""


class PredictionApp:
    """The ASGI app of the serve process. `upstream` is the Unix socket of the work process; without one other paths are
    unknown. `features` are read by their names. Either the server's lifespan or `start` and `stop` begin and end its work."""

    def __init__(
        self,
        ctx: Context,
        services: Sequence[ServiceSpec],
        authenticate: Authenticate,
        upstream: str | None,
        *,
        features: Mapping[str, Readable] = MappingProxyType({}),
        load: Loader = load_version,
        worker: str = "serve",
    ) -> None:
        self.draining = False
        self._authenticate = authenticate
        self._upstream = None if upstream is None else Upstream(upstream)
        self._services = {spec.name: spec for spec in services}
        self._journals: list[Journal] = []
        self._predictors: dict[str, Predictor] = {}
        self._counted: dict[tuple[str, int], Counted | None] = {}
        for spec in services:
            self._add(ctx, spec)
        self._open_doors(ctx, features)
        self._watch = RouteWatch(ctx, self._services, self._predictors, partial(self._load, load), worker)
        self._tasks: list[asyncio.Task[None]] = []

    def _load(self, load: Loader, ctx: Context, spec: ServiceSpec, number: int) -> LoadedVersion:
        loaded = load(ctx, spec, number)
        if loaded.reference is not None:
            self._counted[spec.name, number] = Counted(loaded.inputs.columns, loaded.reference)
        return loaded

    def _add(self, ctx: Context, spec: ServiceSpec) -> None:
        def counted_of(number: int) -> Counted | None:
            if (spec.name, number) not in self._counted:  # counting what an earlier process has logged
                self._counted[spec.name, number] = known_counted(ctx, spec, number)
            return self._counted[spec.name, number]

        log = PredictionLog(ctx.events, ctx.namespace.predictions(spec.name))
        counters = Counters(ctx.events, ctx.namespace.counters(spec.name), log.topic, counted_of)
        requests = None if spec.appends is None else RowAppender(ctx, ctx.specs.get(StreamSpec, spec.appends))
        journal = Journal(log, counters, requests)
        self._journals.append(journal)
        self._predictors[spec.name] = Predictor(spec.name, journal)

    def _open_doors(self, ctx: Context, features: Mapping[str, Readable]) -> None:
        doors: dict[str, Door] = {f"/features/{name}/read": FeatureDoor(ctx, given).read for name, given in features.items()}
        for spec in self._services.values():
            predictor = self._predictors[spec.name]
            reader = RequestReader(ctx.system, spec, ctx.specs, ctx.clock)
            door = ServiceDoor(reader, predictor)
            doors[f"/services/{spec.name}/predict"] = door.predict
            doors[f"/services/{spec.name}/predict/batch"] = door.batch
            doors.setdefault("/predict", InputDoor(reader, predictor, spec.model.features.columns, ctx.clock).predict)
        self._doors, self._direct = doors, {path.encode(): door for path, door in doors.items()}

    def take(self, ctx: Context, services: Sequence[ServiceSpec], features: Mapping[str, Readable]) -> None:
        """Serve these services and features from now on; requests on their way are answered as they began. What serves stays
        loaded."""
        for spec in services:
            if spec.name not in self._predictors:
                self._add(ctx, spec)
        self._services.clear()
        self._services.update({spec.name: spec for spec in services})
        self._open_doors(ctx, features)

    def is_direct(self, url: bytes) -> bool:
        return url in self._direct

    def begin(self, url: bytes, headers: Headers, body: bytes, answered: Callable[[Answer], None]) -> None:
        """Answer a POST to a prediction route; the body is whole and small."""
        door = self._direct[url]
        given = dict(headers)
        try:
            authorize(self._authenticate(given), door.asks)
            answer = door.begin(body, key_of(given))
        except Exception as error:  # noqa: BLE001 - every request is answered
            answered(self._failed(url.decode(), error))
            return
        answer.add_done_callback(lambda done: answered(self._answer(url, door, done)))

    def _answer(self, url: bytes, door: Door, done: asyncio.Future[Any]) -> Answer:
        try:
            return 200, door.render(done.result()), []
        except Exception as error:  # noqa: BLE001 - every request is answered
            return self._failed(url.decode(), error)

    def _failed(self, path: str, error: Exception) -> Answer:
        if not isinstance(error, HeadraceError):
            LOG.error("request failed", path=path, error=repr(error))
            return answer_to(HeadraceError("the server failed on this request", hint="its log says why"))
        if error.status >= 500:
            LOG.error("request failed", path=path, code=error.code, error=error.message)
        return answer_to(error)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._lifespan(scope, receive, send)
            return
        path = scope["path"]
        door = self._doors.get(path)
        try:
            if door is not None and scope["method"] == "POST":
                headers = dict(scope["headers"])
                authorize(self._authenticate(headers), door.asks)
                if scope["query_string"]:
                    raise unknown_argument(path, scope["query_string"])
                body = await read_body(receive, headers)
                await reply(send, 200, door.render(await door.begin(body, key_of(headers))))
            else:
                await self._other(path, scope, receive, send)
        except HeadraceError as error:
            await reply(send, *self._failed(path, error))
        except Aborted:
            return

    async def _other(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        if path == "/health/live":
            await reply(send, 200, b'{"live":true}')
        elif path == "/health/ready" and (not self.ready or self._upstream is None):
            good = self.ready
            body = encode({"ready": good, "draining": self.draining})
            await reply(send, 200 if good else 503, body)
        elif path.startswith("/features/"):
            authorize(self._authenticate(dict(scope["headers"])), Permission.READ)
            raise self._unanswerable(scope["method"], path)
        elif path in self._doors or path == "/predict" or path.startswith("/services/"):
            authorize(self._authenticate(dict(scope["headers"])), Permission.PREDICT)  # who may not ask learns no names
            raise self._unanswerable(scope["method"], path)
        elif self._upstream is not None:
            await self._forward(self._upstream, scope, receive, send)
        else:
            raise NotFound.of("path", path, self._doors)

    async def _forward(self, upstream: Upstream, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await upstream.forward(scope, receive, send)
        except WorkLost as error:  # (`upstream` has logged it once for all requests)
            status, body, extra = answer_to(error)
            if any(name == b"accept" and b"text/html" in value for name, value in scope["headers"]):
                await reply(send, status, waiting_page(error), extra, PAGE)
            else:
                await reply(send, status, body, extra)

    def _unanswerable(self, method: str, path: str) -> HeadraceError:
        if path in self._doors:
            return WrongMethod(f"{method} {path} is not allowed; allowed: POST", hint="send a POST with a JSON body")
        if path.startswith("/features/"):
            return NotFound.of("path", path, [known for known in self._doors if known.startswith("/features/")])
        name = "default" if path == "/predict" else path.split("/")[2]
        if name not in self._services:
            return NotFound.of("service", name, self._services)
        known = f"/services/{name}/predict, /services/{name}/predict/batch"
        return NotFound(f"there is no `{path}`; known: {known}", hint="use one of them")

    @property
    def ready(self) -> bool:
        """False while draining, before the route tables are read, or while a released service has no model loaded. When it
        is True, `/health/ready` asks the work process too."""
        return not self.draining and self._watch.ready

    async def start(self) -> None:
        """Begin following the routes and settling the journals; returns after the first poll."""
        self._watch.poll()
        self._tasks = [asyncio.ensure_future(self._watch.run()), asyncio.ensure_future(self._settle())]
        gc.freeze()

    async def stop(self) -> None:
        """End after the last request: finish the shadows, make everything durable."""
        self.draining = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for predictor in self._predictors.values():
            while predictor.shadows.waiting:
                predictor.shadows.work()
                await asyncio.sleep(0)
        for journal in self._journals:
            await journal.settle()
        if self._upstream is not None:
            self._upstream.close()

    async def _settle(self) -> None:
        while True:
            await asyncio.sleep(SETTLE_SECONDS)
            for journal in self._journals:
                await journal.settle()

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            return
        phases: dict[Any, Callable[[], Awaitable[None]]] = {"lifespan.startup": self.start, "lifespan.shutdown": self.stop}
        for _ in phases:
            phase = (await receive())["type"]
            await phases[phase]()
            await send({"type": f"{phase}.complete"})
