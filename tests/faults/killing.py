"""`headrace run` and its children as processes to be killed, and the count of the kills."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

HEADRACE = str(Path(sys.executable).with_name("headrace"))
KILLS: Counter[str] = Counter()
"""Kills by phase, of the whole test session; conftest.py prints them."""
PATIENCE_SECONDS = 60.0


class Lost(Exception):
    """No answer, or one that says the system is not there: the client knows nothing."""


def until(true: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """Poll until `true()` is true, and return it."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.01)
    return found


class Line:
    """One running system on one data folder. Threads may ask it while another kills and restarts it."""

    def __init__(self, folder: Path, file: Path, seed: int) -> None:
        self.folder = folder
        self.file = file
        self.data = folder / "data"
        self.random = random.Random(seed)
        self.environment = {
            **os.environ, "HEADRACE_DATA": str(self.data), "HEADRACE_SIGNING_KEY": str(folder / "signing.key"),
        }  # fmt: skip
        self.log = folder / "run.log"
        self.port = 0
        self._process: subprocess.Popen[str] | None = None
        self._connections = threading.local()

    def start(self) -> None:
        """Return when it is ready."""
        given = [HEADRACE, "run", str(self.file), "--data", str(self.data), "--port", "0", "--clock", "virtual"]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(given, stdout=subprocess.PIPE, stderr=log, env=self.environment, text=True)
        assert self._process.stdout is not None
        ready = self._process.stdout.readline()
        assert ready, self.log.read_text()[-4000:]
        self.port = int(json.loads(ready)["http"].rpartition(":")[2])

    def stop(self) -> None:
        """A clean end."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            assert self._process.wait(30) == 0, self.log.read_text()[-4000:]
            self._process = None

    def kill(self, phase: str, target: str, *, meanwhile: Callable[[], None] | None = None) -> None:
        """SIGKILL `parent` (it is then started again, after `meanwhile`), `serve`, the youngest `compute` child, or the
        eldest: `retrain`. A child that has just ended by itself is no kill."""
        assert self._process is not None
        if target == "parent":
            self._process.kill()
            self._process.wait()
            KILLS[phase] += 1
            if meanwhile is not None:
                meanwhile()
            self.start()
            return
        found = self.serve_pid if target == "serve" else lambda: self.compute_pid(eldest=target == "retrain")
        pid = until(found, f"there is a {target} process")
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:  # it ended by itself in between
            return
        KILLS[phase] += 1
        if target == "serve":
            until(lambda: self.serve_pid() not in (None, pid), "a new serve process")

    def serve_pid(self) -> int | None:
        return self._child("headrace.app.serve")

    def compute_pid(self, *, eldest: bool = False) -> int | None:
        """The youngest compute child or grandchild; or the eldest."""
        return self._child("headrace.engines.compute.child", eldest=eldest)

    def _child(self, module: str, *, eldest: bool = False) -> int | None:
        assert self._process is not None
        try:
            children = psutil.Process(self._process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return None
        found = []
        for child in children:
            try:
                if module in child.cmdline() and child.status() != psutil.STATUS_ZOMBIE:
                    found.append((child.create_time(), child.pid))
            except psutil.NoSuchProcess:
                continue
        return (min if eldest else max)(found)[1] if found else None

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """(status, decoded answer) over this thread's connection. Lost when nobody answered, or with 503."""
        connection = self._connection()
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Lost(repr(error)) from error
        if answer.status == 503:
            raise Lost(f"{answer.status} {content[:200]!r}")
        return answer.status, json.loads(content)

    def _connection(self) -> http.client.HTTPConnection:
        port, connection = getattr(self._connections, "open", (0, None))
        if connection is None or port != self.port:
            port, connection = self.port, http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
            self._connections.open = (port, connection)
        return connection

    def get(self, path: str) -> Any:
        """GET below /api/v1, when need be again until it is answered."""
        return self._answered("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        return self._answered("POST", path, json.dumps(body).encode())

    def _answered(self, method: str, path: str, body: bytes | None) -> Any:
        def answer() -> tuple[int, Any] | None:
            try:
                return self.ask(method, f"/api/v1{path}", body)
            except Lost:
                return None

        status, found = until(answer, f"{method} {path}")
        assert status == 200, (method, path, status, found, self.log.read_text()[-4000:])
        return found

    def wait_until_up(self) -> None:
        """Return when both processes answer again."""

        def up() -> bool:
            try:
                return self.ask("GET", "/health/ready")[0] == 200
            except Lost:
                return False

        until(up, "it answers")

    def settle(self) -> None:
        """Everything is applied and decided."""
        until(lambda: self.get("/settled?timeout=30")["settled"], "settled", 120)

    def popen(self, *arguments: object) -> subprocess.Popen[str]:
        """A command on the data folder as a process of its own."""
        return subprocess.Popen(
            [HEADRACE, *map(str, arguments), "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.environment, text=True,
        )  # fmt: skip

    def command(self, *arguments: object) -> Any:
        """What a command that ends well prints."""
        process = self.popen(*arguments)
        out, _ = process.communicate(timeout=120)
        assert process.returncode == 0, (arguments, out)
        return json.loads(out)

    def pause(self, longest: float) -> None:
        """A random moment, so that kills fall anywhere in what is going on."""
        time.sleep(self.random.uniform(0, longest))
