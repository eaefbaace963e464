"""uvicorn as the serve process runs it: one worker, uvloop, a short way for predictions, a socket opened before."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from headrace.serving.asgi import PredictionApp
from headrace.serving.protocol import PredictionProtocol

DRAIN_SECONDS = 10
"""The longest wait for requests in flight."""

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s after which common clients and load balancers drop an idle connection: the client closes first."""


class _Server(uvicorn.Server):
    """Leaves signals to the process."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: PredictionApp,
    listener: socket.socket,
    stop: asyncio.Event,
    *,
    linger: float = 0.0,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
) -> None:
    """Serve until `stop` is set and everything in flight is answered and durable.

    While it lingers (seconds) requests are still answered, but `/health/ready` says no: time for load balancers.
    """
    config = uvicorn.Config(
        app,
        http=PredictionProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        backlog=2048,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=DRAIN_SECONDS,
        ssl_certfile=tls_cert,
        ssl_keyfile=tls_key,
    )
    server = _Server(config)

    async def drain() -> None:
        await stop.wait()
        app.draining = True
        await asyncio.sleep(linger)
        server.should_exit = True

    draining = asyncio.ensure_future(drain())
    try:
        await server.serve(sockets=[listener])
    finally:
        draining.cancel()
