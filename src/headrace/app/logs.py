"""Setting up the log of a process: one line an event on stderr; libraries' warnings go the same way."""

from __future__ import annotations

import logging

from headrace.kernel.errors import InvalidInput
from headrace.kernel.log import LEVELS, LOG


class _Forward(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        fields = {"traceback": logging.Formatter().formatException(record.exc_info)} if record.exc_info else {}
        level = "error" if record.levelno >= logging.ERROR else "warning"
        LOG.write(level, record.getMessage(), logger=record.name, **fields)


def set_up_log(log_format: str, log_level: str, *, least: str = "debug") -> None:
    """Format and level as the settings of these names say; a command is quieter than a server, unless `debug` is asked for."""
    for name, value, allowed in (
        ("log_format", log_format, ("text", "json")),
        ("log_level", log_level, tuple(LEVELS)),
    ):
        if value not in allowed:
            raise InvalidInput(f"`{name}` is `{value}`; allowed: {', '.join(allowed)}", hint="mend the setting")
    LOG.json = log_format == "json"
    LOG.threshold = LEVELS[log_level]
    if log_level != "debug":
        LOG.threshold = max(LOG.threshold, LEVELS[least])
    root = logging.getLogger()
    root.handlers[:] = [_Forward(logging.WARNING)]
    root.setLevel(logging.WARNING)
