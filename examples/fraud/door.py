"""The public door: `headrace run` as a process of its own, its HTTP interface, and the commands of `headrace`."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from headrace.kernel.errors import HeadraceError

STOP_SECONDS = 30


class Refused(HeadraceError):
    """A command or request of the story that was refused; the message holds what it answered."""


class Door:
    """One running system. Use it in a `with` block: leaving stops the processes."""

    def __init__(self, system: Path, data: Path, *, clock: str = "virtual") -> None:
        self.data = data
        self._system = system
        self._clock = clock
        self._headrace = str(Path(sys.executable).with_name("headrace"))
        self._environment = {**os.environ, "HEADRACE_DATA": str(data)}
        self.address = ("", 0)
        self.key: str | None = None

    def __enter__(self) -> Door:
        self.data.parent.mkdir(parents=True, exist_ok=True)
        log = (self.data.parent / f"{self.data.name}.log").open("ab")
        arguments = [self._headrace, "run", str(self._system), "--clock", self._clock, "--port", "0", "--json"]
        self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=log, env=self._environment)
        try:
            self._connect(self._ready(), Path(log.name))
        except BaseException:
            self._stop()
            raise
        return self

    def _connect(self, ready: dict[str, Any], log: Path) -> None:
        if "http" not in ready:
            code, error = self._process.wait(), ready.get("error", {})
            reason = error.get("message") or log.read_text(errors="replace")[-2000:]
            raise Refused(f"`headrace run` ended with {code}: {reason}", hint=error.get("hint", ""))
        url = urlsplit(ready["http"])
        self.address = (url.hostname or "", url.port or 0)
        self._connection = http.client.HTTPConnection(*self.address, timeout=600)

    def __exit__(self, *_: object) -> None:
        self._connection.close()
        self._stop()

    def _ready(self) -> dict[str, Any]:
        """The first line of the process; {} when it ended without one."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        ready: dict[str, Any] = json.loads(line) if line else {}
        return ready

    def _stop(self) -> None:
        """End the process, in any case; Refused when it did not end by itself."""
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise Refused(f"`headrace run` did not end within {STOP_SECONDS} s and was killed") from None
        finally:
            self._process.kill()  # nothing once it has ended; a second Ctrl-C comes here too
            self._process.wait()

    def get(self, path: str, **query: Any) -> Any:
        """GET below /api/v1."""
        return self._request("GET", f"/api/v1{path}" + (f"?{urlencode(query)}" if query else ""), None)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """POST a JSON object below /api/v1."""
        return self._request("POST", f"/api/v1{path}", json.dumps(body or {}).encode())

    def send(self, stream: str, events: Sequence[bytes]) -> Any:
        """Append events, one JSON object a line, to a stream."""
        return (
            self._request("POST", f"/streams/{stream}/events", b"\n".join(events), "application/x-ndjson") if events else None
        )

    def command(self, *arguments: str | Path, bad: bool = False) -> Any:
        """Run a command with --json and return what it prints; with `bad`, also when it found something bad."""
        command = subprocess.Popen(
            [self._headrace, *map(str, arguments), "--json"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self._environment,
        )  # fmt: skip
        try:
            told, error = command.communicate()
        except BaseException:
            command.terminate()  # so that it ends what it has started
            command.communicate()
            raise
        if command.returncode not in ((0, 1) if bad else (0,)):
            raise Refused(f"`headrace {' '.join(map(str, arguments))}`: {told or error}")
        return json.loads(told)

    def _request(self, method: str, path: str, body: bytes | None, kind: str = "application/json") -> Any:
        self._connection.close()
        headers = {"Content-Type": kind} if body else {}
        if self.key is not None:
            headers["Authorization"] = f"Bearer {self.key}"
        self._connection.request(method, path, body, headers)
        response = self._connection.getresponse()
        text = response.read()
        if response.status >= 300:
            raise Refused(f"{method} {path}: {response.status} {text.decode(errors='replace')[:1000]}")
        return json.loads(text) if text else None
