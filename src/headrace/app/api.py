"""The API of the work process on its Unix socket, with the threads behind it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

from headrace.app.http import control_plane
from headrace.app.server import server
from headrace.app.work import Work
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import HeadraceError

START_SECONDS = 20.0


class Api:
    """Made once per process; `serve` runs until `stop`."""

    def __init__(self, ctx: Context, *, keys_required: bool, appliers: int = 1) -> None:
        self.work = Work(ctx, appliers=appliers)
        app, self.routes = control_plane(self.work, keys_required=keys_required)
        self._server = server(app, date_header=False)

    async def serve(self, path: Path) -> None:
        """Listen on the Unix socket `path`, which only the owner of the data folder can open."""
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        path.chmod(0o600)
        listener.listen(1024)
        listener.setblocking(False)
        await self._server.serve(sockets=[listener])

    async def started(self, serving: asyncio.Task[None]) -> None:
        """Return when requests are taken."""
        deadline = MACHINE.monotonic() + START_SECONDS
        while not self._server.started:
            if serving.done():
                await serving
            if MACHINE.monotonic() > deadline:
                raise HeadraceError("the API did not start", hint="the log above says why")
            await asyncio.sleep(0.01)

    async def stop(self, serving: asyncio.Task[None]) -> None:
        """Answer what has been asked, then end."""
        self._server.should_exit = True
        await serving
