"""The serve process seen from its parent: started with the listening socket, restarted when it dies."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from pathlib import Path

import msgspec

from headrace.app.serve import ServeArguments
from headrace.kernel.errors import HeadraceError
from headrace.kernel.log import LOG

STOP_SECONDS = 20.0
LONGEST_PAUSE_SECONDS = 5.0


class ServingChild:
    """One serve process at a time. It ends when its standard input closes, so it cannot outlive the parent."""

    def __init__(self, arguments: ServeArguments, listener: socket.socket, pid_file: Path) -> None:
        self._arguments = arguments
        self._listener = listener
        self._pid_file = pid_file
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = False

    async def start(self) -> None:
        """Start it and wait until it accepts requests. HeadraceError when it ends before."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "headrace.app.serve", msgspec.json.encode(self._arguments).decode(),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            pass_fds=(self._listener.fileno(),), start_new_session=True,
        )  # fmt: skip
        self._pid_file.write_text(str(self._process.pid))
        assert self._process.stdout is not None
        if not await self._process.stdout.readline():
            code = await self._process.wait()
            raise HeadraceError(f"the serve process ended at its start with code {code}", hint="its log above says why")

    async def supervise(self) -> None:
        """Restart the process whenever it ends, with a growing pause while it fails at its start; return after `stop`."""
        pause = 0.1
        while self._process is not None:
            code = await self._process.wait()
            if self._stopping:
                return
            LOG.error("serve process ended", code=code, pid=self._process.pid)
            try:
                await self.start()
                LOG.info("serve process restarted", pid=self._process.pid)
                pause = 0.1
            except HeadraceError as error:
                LOG.error("serve process does not start", error=error.message, retry_s=pause)
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)

    async def stop(self) -> None:
        """Let it finish the requests it has; kill it when that takes too long."""
        self._stopping = True
        if self._process is None or self._process.returncode is not None:
            return
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            LOG.error("serve process does not drain; killed", pid=self._process.pid)
            self._process.kill()
            await self._process.wait()
        self._pid_file.unlink(missing_ok=True)
