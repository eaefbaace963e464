"""What the serve process does once it knows its arguments: it answers predictions and passes the rest to *work*."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
from sqlalchemy.exc import SQLAlchemyError

from headrace.app.following import FOLLOW_SECONDS, Following
from headrace.app.logs import set_up_log
from headrace.app.principals import Callers
from headrace.app.process_lock import ProcessLock
from headrace.app.serve_arguments import READY, ServeArguments
from headrace.app.server import run_async
from headrace.app.world import context
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import HeadraceError
from headrace.kernel.identity import Principal
from headrace.kernel.log import LOG
from headrace.serving.asgi import Authenticate, PredictionApp
from headrace.serving.server import serve
from headrace.serving.types import ServiceSpec
from headrace.system.feature_catalogue import all_readable

PREDECESSOR_SECONDS = 10.0
WORK_POLL_SECONDS = 0.005
LINGER_SECONDS = 0.25
"""Draining, it still answers this long, so that `/health/ready` can be seen to say no."""
_ASKED = (b"authorization", b"host", b"origin", b"sec-fetch-site")


def authenticator(callers: Callers) -> Authenticate:
    """Callers by the raw headers of ASGI."""

    def authenticate(headers: Mapping[bytes, bytes]) -> Principal:
        return callers.principal({name.decode(): headers[name].decode("latin-1") for name in _ASKED if name in headers}, "POST")

    return authenticate


class AnnouncedApp(PredictionApp):
    """Tells the parent when it begins to answer."""

    async def start(self) -> None:
        await super().start()
        gc.enable()
        sys.stdout.buffer.write(READY)
        sys.stdout.buffer.flush()


async def follow(ctx: Context, app: PredictionApp, following: Following) -> None:
    """Serve what was adopted, as long as the process lives."""
    while True:
        try:
            found = await asyncio.to_thread(following.newer)
            if found is not None:
                following.take(found)
                app.take(ctx, ctx.specs.all(ServiceSpec), all_readable(ctx.specs))
        except (HeadraceError, SQLAlchemyError) as error:
            LOG.error("declarations not taken", error=repr(error))
        await asyncio.sleep(FOLLOW_SECONDS)


async def answer(ctx: Context, app: PredictionApp, arguments: ServeArguments) -> None:
    """Answer until SIGTERM, or until the parent is gone (standard input ends); then drain."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_reader(sys.stdin.fileno(), _parent_spoke, stop)
    listener = socket.socket(fileno=arguments.listener)
    certificate, key = (None if text is None else Path(text) for text in (arguments.tls_cert, arguments.tls_key))
    while not Path(arguments.work_socket).exists() and not stop.is_set():
        await asyncio.sleep(WORK_POLL_SECONDS)  # the first callers wait in the queue of the socket, not before a closed door
    following = asyncio.create_task(follow(ctx, app, Following(ctx)))
    await serve(app, listener, stop, linger=LINGER_SECONDS, tls_cert=certificate, tls_key=key)
    following.cancel()


def _parent_spoke(stop: asyncio.Event) -> None:
    if not os.read(sys.stdin.fileno(), 1):
        asyncio.get_running_loop().remove_reader(sys.stdin.fileno())
        stop.set()


def run(line: bytes) -> None:
    """Run the process that `line`, the JSON of ServeArguments, describes. It ends with the code of an error that is foreseen:
    the parent reports the same one."""
    arguments = msgspec.json.decode(line, type=ServeArguments)
    set_up_log(arguments.log_format, arguments.log_level)
    began = MACHINE.monotonic()
    try:
        ctx = context(arguments.world)
    except HeadraceError as error:
        LOG.error("the serve process cannot open the data folder", error=error.message)
        sys.exit(error.exit_code)
    lock = ProcessLock(ctx.run_folder / "serve.lock", wait=PREDECESSOR_SECONDS)
    try:
        callers = Callers(ctx, keys_required=arguments.keys_required)
        app = AnnouncedApp(
            ctx, ctx.specs.all(ServiceSpec), authenticator(callers), arguments.work_socket, features=all_readable(ctx.specs)
        )
        LOG.debug("serve process opened", seconds=round(MACHINE.monotonic() - began, 3))
        run_async(answer(ctx, app, arguments))
    finally:
        lock.close()
        ctx.close()
