"""The parent process of `headrace run`, which is the work process, from the open socket to the clean end."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import msgspec

from headrace.app.api import Api
from headrace.app.run import READY_NOTE, RunOptions
from headrace.app.server import run_async
from headrace.app.serving_child import ServingChild
from headrace.app.world import remember
from headrace.data.positions import check_logs
from headrace.data.schemas import apply_schemas
from headrace.engines.context import Context
from headrace.kernel.log import LOG
from headrace.registry.declarations import keep


def run_parent(ctx: Context, options: RunOptions, listener: socket.socket, child: ServingChild, work_socket: Path) -> None:
    """Return after SIGTERM or SIGINT, when everything is drained; the serve process ends in any case."""
    check_logs(ctx)
    apply_schemas(ctx)
    remember(ctx)
    keep(ctx, ctx.specs)
    api = Api(ctx, keys_required=options.keys_required, appliers=options.appliers)
    run_async(_run(api, child, work_socket, _ready_line(listener, options)))


async def _run(api: Api, child: ServingChild, work_socket: Path, ready_line: bytes) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(api.serve(work_socket))
    note = api.work.ctx.run_folder / READY_NOTE
    try:
        await api.started(serving)
        await child.started()
        api.work.start()
        note.write_bytes(ready_line)
        sys.stdout.buffer.write(ready_line)
        sys.stdout.buffer.flush()
        gc.freeze()
        gc.enable()
        await _first(stop.wait(), serving, child.supervise())
        LOG.info("draining")
    finally:
        api.work.draining = True
        await child.stop()
        await api.stop(serving)
        await asyncio.to_thread(api.work.stop)
        work_socket.unlink(missing_ok=True)
        note.unlink(missing_ok=True)


def _ready_line(listener: socket.socket, options: RunOptions) -> bytes:
    host, port = listener.getsockname()[:2]
    url = f"{'https' if options.tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"
    return msgspec.json.encode({"ready": True, "http": url, "grpc": None, "kafka": None, "pid": os.getpid()}) + b"\n"


async def _first(*waited: Coroutine[Any, Any, Any] | asyncio.Task[Any]) -> None:
    """Wait for the first to end; an exception of it is raised."""
    tasks = [asyncio.ensure_future(one) for one in waited]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
