"""A small system with one service, models made with onnx.helper, and the prediction app behind a real uvicorn."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any

import numpy as np
import onnx
import uvloop
from onnx import TensorProto, helper

import headrace as hr
from headrace.engines.context import Context
from headrace.features.online import FeatureReader
from headrace.kernel.identity import LOCAL
from headrace.registry.runtimes import load_runtime
from headrace.serving.asgi import Authenticate, PredictionApp
from headrace.serving.loading import Golden, Inputs, LoadedVersion, check_golden
from headrace.serving.routes import acknowledged, publish
from headrace.serving.server import serve
from headrace.serving.types import RouteTable, ServiceSpec
from headrace.serving.watching import Loader

system = hr.System("shop")


@system.stream(id="order_id", key="customer_id", time="at")
class Order:
    """An order."""

    order_id: int
    at: datetime
    customer_id: str
    amount: Annotated[float, hr.Range(min=0)]


customer = system.windows(Order, by="customer_id", over=["1d", "7d"], own_event=True, count=hr.count(), sum=hr.sum("amount"))


@system.features
def doubled(amount: np.ndarray) -> dict[str, np.ndarray]:
    return {"twice": amount * 2}


@system.model(features=["amount", doubled, customer], label=hr.no_event(Order, by="customer_id", within="7d"), spine=Order)
def quiet(rows: np.ndarray, labels: np.ndarray) -> Any:
    raise NotImplementedError("these tests make their models themselves")


service = system.service(quiet, request=Order)
SPECS = system.specs()
FEATURES = service.model.features.columns
GOLDEN = np.random.default_rng(0).uniform(0, 50, size=(32, len(FEATURES)))


def onnx_model(nodes: list[onnx.NodeProto], constants: Mapping[str, Any], width: int = len(FEATURES)) -> bytes:
    """A graph from `x` float32 [n, width] to `probabilities` float32 [n, 1]."""
    graph = helper.make_graph(
        nodes,
        "model",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, width])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, [None, 1])],
        [onnx.numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    return bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8).SerializeToString())


def constant_model(score: float) -> bytes:
    """Every row scores `score`."""
    nodes = [
        helper.make_node("ReduceSum", ["x", "axis"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["sum", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "score"], ["probabilities"]),
    ]
    model = onnx.load_from_string(onnx_model(nodes, {"zero": [0.0], "score": [score]}))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1], np.int64), "axis"))
    return bytes(model.SerializeToString())


def linear_model(weights: list[float]) -> bytes:
    """Logistic regression; a missing value counts as 0."""
    nodes = [
        helper.make_node("IsNaN", ["x"], ["missing"]),
        helper.make_node("Where", ["missing", "zero", "x"], ["filled"]),
        helper.make_node("MatMul", ["filled", "w"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probabilities"]),
    ]
    return onnx_model(nodes, {"w": np.array(weights).reshape(-1, 1), "zero": 0.0}, len(weights))


def half_broken_model() -> bytes:
    """Scores NaN for amounts below 25, 0.5 for the others: the square root of a negative number."""
    pick = np.zeros((len(FEATURES), 1))
    pick[0, 0] = 1.0
    nodes = [
        helper.make_node("MatMul", ["x", "pick"], ["amount"]),
        helper.make_node("Sub", ["amount", "limit"], ["above"]),
        helper.make_node("Sqrt", ["above"], ["root"]),
        helper.make_node("Mul", ["root", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "half"], ["probabilities"]),
    ]
    return onnx_model(nodes, {"pick": pick, "limit": [25.0], "zero": [0.0], "half": [0.5]})


def loader(models: Mapping[int, bytes]) -> Loader:
    """Loads versions from artifacts in memory, checked and warmed as registered ones are."""

    def load(ctx: Context, spec: ServiceSpec, number: int) -> LoadedVersion:
        runtime = load_runtime("onnx", models[number])
        scores = [None if np.isnan(s) else float(s) for s in runtime.score(GOLDEN)]
        reader = FeatureReader(ctx.online, ctx.namespace, spec.model.features, ctx.specs, asking=spec.request_stream)
        inputs = Inputs(spec.model.features.columns, "declared", reader)
        return LoadedVersion(
            number, runtime, inputs, independent=check_golden(number, runtime, Golden(GOLDEN.tolist(), scores))
        )

    return load


def release(ctx: Context, champion: int | None, **others: Any) -> RouteTable:
    """Publish a route table."""
    with ctx.catalog.transaction() as connection:
        return publish(connection, ctx.system, RouteTable(service.name, 0, champion, **others))


class Client:
    """A keep-alive HTTP client of the app; `events` of the server's loop are reached with `call`."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.port = host, port
        self.connection = http.client.HTTPConnection(host, port, timeout=10)

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """Status and decoded JSON; `idempotency_key="x"` is the header `idempotency-key`."""
        raw = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        self.connection.request(method, path, raw, {k.replace("_", "-"): v for k, v in headers.items()})
        answer = self.connection.getresponse()
        content = answer.read()
        return answer.status, json.loads(content) if content else None

    def predict(self, body: Any, **headers: str) -> tuple[int, Any]:
        return self.request("POST", f"/services/{service.name}/predict", body, **headers)


@contextmanager
def serving(
    ctx: Context,
    models: Mapping[int, bytes],
    *,
    authenticate: Authenticate = lambda headers: LOCAL,
    upstream: str | None = None,
    ready: Callable[[], bool] | None = None,
) -> Iterator[Client]:
    """The app on a free loopback port, until the block ends and everything is drained. Waits until `ready`, by default
    until the newest route table is taken over."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    listener.setblocking(False)
    app = PredictionApp(ctx, ctx.specs.all(ServiceSpec), authenticate, upstream, load=loader(models))
    loop = uvloop.new_event_loop()
    stop = asyncio.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            loop.run_until_complete(serve(app, listener, stop))
        except BaseException as error:  # noqa: BLE001 - shown by the test's thread
            failures.append(error)
        finally:
            loop.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        client = Client("127.0.0.1", listener.getsockname()[1])
        wait_until(ready or (lambda: client.request("GET", "/health/ready")[0] == 200))
        yield client
        client.connection.close()
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(15)
        assert not thread.is_alive() and not failures, failures


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Poll; fails the test after `seconds`."""
    pause = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        pause.wait(0.01)
    raise AssertionError("it did not come true in time")


def taken_over(ctx: Context, table: RouteTable) -> None:
    """Wait until the workers serve the table."""
    wait_until(lambda: acknowledged(ctx, table.service, table.generation))


def order(number: int, *, amount: float = 10.0, customer: str = "ann", at: str = "2026-01-31T11:00:00Z") -> dict[str, Any]:
    return {"order_id": number, "at": at, "customer_id": customer, "amount": amount}
