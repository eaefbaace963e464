"""`headrace run`: the parent. It is the work process, owns the listening socket and keeps the serve process alive."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from headrace.app.process_lock import ProcessLock
from headrace.app.serve import ServeArguments
from headrace.app.server import run_async
from headrace.app.serving_child import ServingChild
from headrace.app.world import EMPTY_PLATFORM, absolute, remember, world
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput, UsageError
from headrace.kernel.log import LOG
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs
from headrace.system.load import load_system

if TYPE_CHECKING:
    from headrace.app.api import Api

LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST_SOCKET_PATH = 100
PORT_WAIT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The flags of `headrace run`. `file` is `FILE.py[:NAME]`, None for an empty platform."""

    file: str | None = None
    host: str = "127.0.0.1"
    port: int = 8420
    clock: str = "real"
    tls_cert: Path | None = None
    tls_key: Path | None = None
    behind_proxy: bool = False

    @property
    def keys_required(self) -> bool:
        """Beyond loopback always; on loopback only once a key exists."""
        return self.host not in LOOPBACK or self.behind_proxy

    @property
    def tls(self) -> bool:
        return self.tls_cert is not None


def run(settings: Settings, options: RunOptions) -> None:
    """Run the system until SIGTERM or SIGINT. Raises what is wrong before the ready line is printed."""
    check_exposure(options)
    system = load_system(options.file) if options.file else None
    name, specs = (system.name, system.specs()) if system else (EMPTY_PLATFORM, Specs())
    folder = settings.data / "run" / name
    listener = listen(options.host, options.port)
    file = absolute(options.file) if options.file else None
    ctx = world(settings, name, specs, clock=options.clock, file=file)
    try:
        lock = ProcessLock(folder / "lock")
        try:
            remember(ctx)
            run_async(Parent(ctx, options, listener).run())
        finally:
            lock.close()
    finally:
        ctx.close()
        listener.close()


def check_exposure(options: RunOptions) -> None:
    """UsageError when the port would be open beyond this machine without protection."""
    if (options.tls_cert is None) != (options.tls_key is None):
        raise UsageError("--tls-cert and --tls-key belong together", hint="give both")
    for path in (options.tls_cert, options.tls_key):
        if path is not None and not path.is_file():
            raise UsageError(f"there is no file `{path}`", hint="give the PEM file of the certificate and of its key")
    if options.host not in LOOPBACK and not options.tls and not options.behind_proxy:
        raise UsageError(
            f"--host {options.host} is beyond loopback: keys and data would travel in clear",
            hint="give --tls-cert and --tls-key, or --behind-proxy when a TLS proxy stands in front",
        )


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket. It waits a moment for a port that a killed predecessor still holds."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
    except socket.gaierror as error:
        raise UsageError(f"--host `{host}` is no address: {error.strerror}", hint="for example 127.0.0.1") from None
    deadline = MACHINE.monotonic() + PORT_WAIT_SECONDS
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
            listener.listen(2048)
            listener.setblocking(False)
            return listener
        except OSError as error:
            listener.close()
            if MACHINE.monotonic() >= deadline:
                raise InvalidInput(
                    f"port {port} on `{host}` cannot be opened: {error.strerror}", hint="choose another with --port, 0 for any"
                ) from None
        MACHINE.sleep(0.05)


class Parent:
    """The parent process from the open socket to the clean end."""

    def __init__(self, ctx: Context, options: RunOptions, listener: socket.socket) -> None:
        self._ctx = ctx
        self._options = options
        self._listener = listener
        self._socket_path = work_socket_path(ctx.run_folder)

    async def run(self) -> None:
        """Return after SIGTERM or SIGINT, when everything is drained."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        arguments = ServeArguments(
            world=self._ctx.child_arguments(),
            listener=self._listener.fileno(),
            work_socket=str(self._socket_path),
            keys_required=self._options.keys_required,
            tls_cert=_text(self._options.tls_cert),
            tls_key=_text(self._options.tls_key),
            log_format=self._ctx.settings.log_format,
            log_level=self._ctx.settings.log_level,
        )
        child = ServingChild(arguments, self._listener, self._ctx.run_folder / "serve.pid")
        starting = asyncio.create_task(child.start())
        await asyncio.sleep(0)
        api = await asyncio.to_thread(_api, self._ctx, self._options.keys_required)
        serving = asyncio.create_task(api.serve(self._socket_path))
        try:
            await starting
            await api.started()
            supervising = asyncio.create_task(child.supervise())
            api.work.start()
            self._announce()
            await _first(stop.wait(), serving, supervising)
            LOG.info("draining")
        finally:
            api.work.draining = True
            await child.stop()
            await api.stop(serving)
            await asyncio.to_thread(api.work.stop)
            self._socket_path.unlink(missing_ok=True)

    def _announce(self) -> None:
        host, port = self._listener.getsockname()[:2]
        scheme = "https" if self._options.tls else "http"
        url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
        line = {"ready": True, "http": url, "grpc": None, "kafka": None, "pid": os.getpid()}
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()


def _api(ctx: Context, keys_required: bool) -> Api:
    # Imported late: FastAPI and every room load while the serve process starts.
    from headrace.app.api import Api

    return Api(ctx, keys_required=keys_required)


def work_socket_path(folder: Path) -> Path:
    """Where the work process listens: in the run folder, or elsewhere when that path is too long for a socket."""
    path = (folder / "work.sock").resolve()
    if len(str(path)) > LONGEST_SOCKET_PATH:
        path = Path(tempfile.mkdtemp(prefix="headrace-")) / "work.sock"
    return path


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())


async def _first(*waited: Coroutine[Any, Any, Any] | asyncio.Task[Any]) -> None:
    """Wait for the first to end; an exception of it is raised."""
    tasks = [asyncio.ensure_future(one) for one in waited]
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()
