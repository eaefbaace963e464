"""`headrace run` as a process of its own, for the tests of processes."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

HEADRACE = str(Path(sys.executable).with_name("headrace"))

SYSTEM = '''"""A shop."""

from datetime import datetime

import headrace as hr

system = hr.System("{name}")


@system.stream(id="order_id", key="customer", time="at")
class Order:
    """An order."""

    order_id: int
    customer: str
    at: datetime
    total: float


recent = system.windows(Order, by="customer", over=["1d"], name="recent", own_event=True, count=hr.count())


@system.model(features=["total", recent], label=hr.no_event(Order, by="customer", within="7d"), spine=Order)
def silent(rows, labels):
    raise NotImplementedError("this test trains nothing")


system.service(silent, request=Order, name="score")
'''


def write_system(folder: Path, name: str = "shop") -> Path:
    file = folder / f"{name}.py"
    file.write_text(SYSTEM.replace("{name}", name))
    return file


def order(number: int) -> dict[str, Any]:
    return {"order_id": number, "customer": f"c{number % 3}", "at": "2024-01-01T00:00:00Z", "total": 1.5}


class Running:
    """A running system. Leaving the `with` block stops it and checks that it ended well."""

    def __init__(self, data: Path, *arguments: object, file: Path | None = None) -> None:
        self.data, self.file = data, file
        self.log = data.parent / "run.log"
        self._environment = {**os.environ, "HEADRACE_DATA": str(data), "HEADRACE_SIGNING_KEY": str(data.parent / "signing.key")}
        given = [HEADRACE, "run", *([str(file)] if file else []), "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(
            given, stdout=subprocess.PIPE, stderr=self.log.open("ab"), env=self._environment, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.log.read_text()
        self.ready = json.loads(line)
        self.port = int(self.ready["http"].rpartition(":")[2])

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            assert self.stop() == 0, self.log.read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)

    def ask(
        self, method: str, path: str, body: bytes | None = None, *, key: str = "", **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """(status, decoded JSON or text, headers)."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        sent = {"Content-Type": "application/json"} if body is not None else {}
        sent.update({name.replace("_", "-"): value for name, value in headers.items()})
        if key:
            sent["Authorization"] = f"Bearer {key}"
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")  # (a table comes as Parquet)
        finally:
            connection.close()
        found = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, json.loads(text) if "json" in found.get("content-type", "") else text, found

    def command(self, *arguments: object) -> tuple[int, Any]:
        """(exit code, decoded output) of a command on the same data folder."""
        answer = subprocess.run(
            [HEADRACE, *map(str, arguments), "--json"], capture_output=True, text=True, check=False, env=self._environment
        )
        return answer.returncode, json.loads(answer.stdout)
