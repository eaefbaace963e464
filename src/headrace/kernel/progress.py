"""How far long work is, told to whoever wants to show it: the command line draws a bar, everyone else hears nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

Listener = Callable[[str, int, int], None]
"""`(phase, done, total)`: what is being done, and how many of its units (rows, bytes) are done of how many."""

_listener: ContextVar[Listener | None] = ContextVar("progress", default=None)


def report(phase: str, done: int, total: int) -> None:
    """Tell the listener, if there is one."""
    listener = _listener.get()
    if listener is not None:
        listener(phase, done, total)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Everything done inside the block tells `listener`."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
