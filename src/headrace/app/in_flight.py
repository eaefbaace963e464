"""Requests with idempotency keys that this process works on: a second one with the same key is refused meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from headrace.kernel.errors import Conflict


class InFlight:
    """What is worked on now, by any threads."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._held: set[tuple[str, ...]] = set()

    @contextmanager
    def alone(self, *identity: str, key: str) -> Iterator[None]:
        """Work on the request of that identity. Conflict, which names the idempotency key, while another does."""
        with self._mutex:
            if identity in self._held:
                raise Conflict(f"a request with the idempotency key `{key}` is still being worked on", hint="retry in a moment")
            self._held.add(identity)
        try:
            yield
        finally:
            with self._mutex:
                self._held.discard(identity)
