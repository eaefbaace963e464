"""The serve process seen from its parent: started with the socket that will listen, told its work, restarted when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
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

    def __init__(self, listener: socket.socket) -> None:
        """Start it; it imports what it needs and waits for `begin`."""
        self._listener = listener.fileno()
        self._told = b""
        self._pid_file: Path | None = None
        self._stopping = False
        self._process = self._spawn()

    def begin(self, arguments: ServeArguments, pid_file: Path) -> None:
        """Tell it what to serve."""
        self._told = msgspec.json.encode(arguments) + b"\n"
        self._pid_file = pid_file
        self._tell(self._process)

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "headrace.app.serve"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(self._listener,), start_new_session=True,
        )  # fmt: skip

    def _tell(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None and self._pid_file is not None
        with contextlib.suppress(BrokenPipeError):  # it ended while importing: `started` says so
            process.stdin.write(self._told)
            process.stdin.flush()
        self._pid_file.write_text(str(process.pid))

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
            self._tell(self._process)
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
        if self._pid_file is not None:
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
