"""The serve process seen from its parent: started with the listening socket, restarted when it dies."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path

import msgspec

from headrace.app.serve_arguments import ServeArguments
from headrace.kernel.errors import HeadraceError
from headrace.kernel.log import LOG

STOP_SECONDS = 20.0
SHORTEST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 5.0


class ServingChild:
    """One serve process at a time. It ends when its standard input closes, so it cannot outlive the parent."""

    def __init__(self, arguments: ServeArguments, pid_file: Path) -> None:
        self._arguments = arguments
        self._pid_file = pid_file
        self._stopping = False
        self._process = self._spawn()

    def _spawn(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "headrace.app.serve", msgspec.json.encode(self._arguments).decode()],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(self._arguments.listener,), start_new_session=True,
        )  # fmt: skip
        self._pid_file.write_text(str(process.pid))
        return process

    async def started(self) -> None:
        """Return when it accepts requests. HeadraceError when it ended before."""
        assert self._process.stdout is not None
        if not await asyncio.to_thread(self._process.stdout.readline):
            code = await asyncio.to_thread(self._process.wait)
            raise HeadraceError(f"the serve process ended at its start with code {code}", hint="its log above says why")

    async def supervise(self) -> None:
        """Restart the process whenever it ends, with a growing pause while it fails at its start; return after `stop`."""
        pause = SHORTEST_PAUSE_SECONDS
        while True:
            code = await asyncio.to_thread(self._process.wait)
            if self._stopping:
                return
            LOG.error("serve process ended", code=code, pid=self._process.pid)
            self._close_pipes()
            self._process = self._spawn()
            try:
                await self.started()
                LOG.info("serve process restarted", pid=self._process.pid)
                pause = SHORTEST_PAUSE_SECONDS
            except HeadraceError as error:
                LOG.error("serve process does not start", error=error.message, retry_s=pause)
                await asyncio.sleep(pause)
                pause = min(LONGEST_PAUSE_SECONDS, pause * 2)

    async def stop(self) -> None:
        """Let it finish the requests it has; kill it when that takes too long."""
        self._stopping = True
        self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.to_thread(self._process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            LOG.error("serve process does not drain; killed", pid=self._process.pid)
            self.kill()
        self._close_pipes()
        self._pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it at once, as when the parent cannot start."""
        self._stopping = True
        self._process.kill()
        self._process.wait()

    def _close_pipes(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
