"""uvicorn as both processes run it: our signals, our log, TCP sockets that were opened before."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import uvicorn
import uvloop

T = TypeVar("T")
DRAIN_SECONDS = 10


class Server(uvicorn.Server):
    """A uvicorn server that leaves signals to its process; set `should_exit` to drain and end."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def server(app: Any, **options: Any) -> Server:
    """Options are those of `uvicorn.Config`."""
    return Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            http="httptools",
            timeout_graceful_shutdown=DRAIN_SECONDS,
            **options,
        )
    )


def run_async(main: Coroutine[Any, Any, T]) -> T:
    """`asyncio.run` on uvloop."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
