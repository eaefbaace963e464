"""Logs: one line per event on stderr, as text or JSON; secrets and personal fields never in clear."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

import msgspec

from headrace.kernel.clocks import MACHINE
from headrace.kernel.times import format_time

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
SECRET_WORDS = ("key", "secret", "token", "password", "authorization")
request_id: ContextVar[str | None] = ContextVar("request_id", default=None)


class Log:
    """Writes events. `personal` are field names whose values are replaced, as those of secrets are."""

    def __init__(self) -> None:
        self.json = False
        self.threshold = LEVELS["info"]
        self.personal: frozenset[str] = frozenset()

    def hidden(self, name: str) -> bool:
        """Whether values of this field are secret or personal. `key_id`, being public, is shown."""
        lowered = name.lower()
        secret = any(lowered == word or lowered.endswith("_" + word) for word in SECRET_WORDS)
        return secret or name in self.personal

    def write(self, level: str, event: str, **fields: Any) -> None:
        if LEVELS[level] < self.threshold:
            return
        identifier = request_id.get()
        if identifier is not None:
            fields.setdefault("request_id", identifier)
        shown = {name: "***" if self.hidden(name) else value for name, value in fields.items()}
        at = format_time(MACHINE.now())
        if self.json:
            line = msgspec.json.encode({"at": at, "level": level, "event": event, **shown}, enc_hook=str).decode()
        else:
            pairs = " ".join(f"{name}={value}" for name, value in shown.items())
            line = f"{at} {level:<7} {event} {pairs}".rstrip().replace("\n", "\\n")
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def info(self, event: str, **fields: Any) -> None:
        self.write("info", event, **fields)

    def debug(self, event: str, **fields: Any) -> None:
        self.write("debug", event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        self.write("warning", event, **fields)

    def error(self, event: str, **fields: Any) -> None:
        self.write("error", event, **fields)


LOG = Log()
