"""The serve process: `python -m headrace.app.serve ARGUMENTS`. It answers predictions and passes the rest to *work*."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import replace

import msgspec

from headrace.app.logs import set_up_log
from headrace.app.principals import Callers
from headrace.app.process_lock import ProcessLock
from headrace.app.serve_arguments import READY, ServeArguments
from headrace.app.server import Server, run_async, server
from headrace.app.world import context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.identity import Principal
from headrace.kernel.log import LOG
from headrace.kernel.settings import Settings
from headrace.serving.asgi import Authenticate, PredictionApp
from headrace.serving.types import ServiceSpec

PREDECESSOR_SECONDS = 10.0
_ASKED = (b"authorization", b"host", b"origin", b"sec-fetch-site")


def authenticator(callers: Callers) -> Authenticate:
    """Callers by the raw headers of ASGI."""

    def authenticate(headers: Mapping[bytes, bytes]) -> Principal:
        return callers.principal({name.decode(): headers[name].decode("latin-1") for name in _ASKED if name in headers}, "POST")

    return authenticate


async def serve(app: PredictionApp, arguments: ServeArguments) -> None:
    """Answer until SIGTERM, then drain; when the parent is gone (standard input ends), leave at once."""
    stop, orphaned = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin.fileno(), _parent_spoke, orphaned, stop)
    await app.start()
    running = server(app, ssl_certfile=arguments.tls_cert, ssl_keyfile=arguments.tls_key)
    serving = asyncio.create_task(running.serve(sockets=[socket.socket(fileno=arguments.listener)]))
    await _started(running, serving)
    sys.stdout.buffer.write(READY)
    sys.stdout.buffer.flush()
    waiting = asyncio.create_task(stop.wait())
    await asyncio.wait([waiting, serving], return_when=asyncio.FIRST_COMPLETED)
    app.draining = True
    running.should_exit = True
    running.force_exit = orphaned.is_set()
    await serving
    await app.stop()


def _parent_spoke(orphaned: asyncio.Event, stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        orphaned.set()
        stop.set()


async def _started(running: Server, serving: asyncio.Task[None]) -> None:
    while not running.started and not serving.done():
        await asyncio.sleep(0.005)
    if serving.done():
        await serving


def main(text: str) -> None:
    """Run the process that `text`, the JSON of ServeArguments, describes."""
    arguments = msgspec.json.decode(text, type=ServeArguments)
    set_up_log(replace(Settings(), log_format=arguments.log_format, log_level=arguments.log_level))
    began = MACHINE.monotonic()
    ctx = context(arguments.world)
    lock = ProcessLock(ctx.run_folder / "serve.lock", wait=PREDECESSOR_SECONDS)
    try:
        callers = Callers(ctx, keys_required=arguments.keys_required)
        app = PredictionApp(ctx, ctx.specs.all(ServiceSpec), authenticator(callers), arguments.work_socket)
        LOG.debug("serve process opened", seconds=round(MACHINE.monotonic() - began, 3))
        run_async(serve(app, arguments))
    finally:
        lock.close()
        ctx.close()


if __name__ == "__main__":
    main(sys.argv[1])
