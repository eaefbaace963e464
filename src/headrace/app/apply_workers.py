"""The processes that apply streams beside the work process, seen from it: started, and started again when they end."""

from __future__ import annotations

import subprocess
import sys

import msgspec

from headrace.engines.context import Context
from headrace.kernel.log import LOG

LOOK_SECONDS = 0.5
STOP_SECONDS = 30.0


class ApplyWorkers:
    """`count` processes. They end when their standard input closes, so they cannot outlive this one."""

    def __init__(self, ctx: Context, count: int) -> None:
        self._ctx = ctx
        self._names = [f"apply-{number}" for number in range(1, count + 1)]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def step(self) -> None:
        """Start those that do not run."""
        for name in self._names:
            process = self._processes.get(name)
            if process is not None and process.poll() is None:
                continue
            if process is not None:
                LOG.error("apply process ended", member=name, pid=process.pid, code=process.returncode)
                self._close(process)
            self._processes[name] = self._spawn(name)
            LOG.info("apply process started", member=name, pid=self._processes[name].pid)

    def _spawn(self, name: str) -> subprocess.Popen[bytes]:
        settings = self._ctx.settings
        arguments = {
            "world": self._ctx.child_arguments(),
            "member": name,
            "log_format": settings.log_format,
            "log_level": settings.log_level,
        }
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "headrace.app.apply_worker", msgspec.json.encode(arguments).decode()],
            stdin=subprocess.PIPE,
        )

    def stop(self) -> None:
        """Let each end its step and write what the lake has not yet; kill it when that takes too long."""
        for process in self._processes.values():
            process.terminate()
        for name, process in self._processes.items():
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                LOG.error("apply process does not end; killed", member=name, pid=process.pid)
                process.kill()
                process.wait()
            self._close(process)
        self._processes.clear()

    @staticmethod
    def _close(process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            process.stdin.close()
