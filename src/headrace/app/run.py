"""`headrace run`: the serve process is started first and imports while this one imports, reads the file and opens the world.

This process becomes the work process (`parent.py`); it owns the listening socket and the lock of the system.
"""

from __future__ import annotations

import gc
import socket
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.app.process_lock import ProcessLock
from headrace.app.serve_arguments import ServeArguments
from headrace.app.serving_child import ServingChild
from headrace.app.stopping import stopped_by_sigterm
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput, UsageError
from headrace.kernel.log import LOG
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs

EMPTY_PLATFORM = "default"
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LONGEST_SOCKET_PATH = 100
PORT_WAIT_SECONDS = 3.0
READY_NOTE = "ready.json"
"""The ready line, kept in the run folder while the system runs: `headrace doctor` reads it."""


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
    appliers: int = 1

    @property
    def keys_required(self) -> bool:
        """Beyond loopback always; on loopback only once a key exists."""
        return self.host not in LOOPBACK or self.behind_proxy

    @property
    def tls(self) -> bool:
        return self.tls_cert is not None


def run(settings: Settings, options: RunOptions) -> None:
    """Run the system until SIGTERM or SIGINT, which end it as well while it starts. Raises what is wrong before the ready line
    is printed."""
    check_exposure(options)
    gc.disable()  # nothing that importing makes is garbage; `run_parent` ends it
    try:
        with stopped_by_sigterm(), unbound(options.host) as listener:
            child = ServingChild(listener)
            try:
                _run(settings, options, listener, child)
            except BaseException:
                child.kill()
                raise
    except KeyboardInterrupt:  # before `run_parent` waits for the signals
        LOG.info("stopped while starting")
    finally:
        gc.enable()


def _run(settings: Settings, options: RunOptions, listener: socket.socket, child: ServingChild) -> None:
    # Imported late: numpy, Polars, FastAPI and every room load while the serve process does the same.
    from headrace.engines.open import check_catalog, check_urls, prepare_data_folder
    from headrace.system.load import load_system

    check_urls(settings)
    system = load_system(absolute(options.file)) if options.file else None
    name, specs = (system.name, system.specs()) if system else (EMPTY_PLATFORM, Specs())
    prepare_data_folder(settings.data)
    check_catalog(settings)
    folder = settings.data.resolve() / "run" / name
    with closing(ProcessLock(folder / "lock")), work_socket_path(folder) as work_socket:
        listen(listener, options.host, options.port)
        arguments = serve_arguments(settings, options, (name, specs), listener, work_socket)
        work_socket.unlink(missing_ok=True)  # of a killed predecessor: its appearance is a sign
        child.begin(arguments, folder / "serve.pid")

        from headrace.app.parent import run_parent
        from headrace.app.world import world

        file = arguments.world["file"]
        with closing(world(settings, name, specs, clock=options.clock, file=file)) as ctx:
            run_parent(ctx, options, listener, child, work_socket)


def serve_arguments(
    settings: Settings, options: RunOptions, system: tuple[str, Specs], listener: socket.socket, work_socket: Path
) -> ServeArguments:
    """How the serve process is told about the world of `system`, its name and its declarations."""
    name, specs = system
    world = {
        "data": str(settings.data.resolve()),
        "system": name,
        "file": absolute(options.file) if options.file else None,
        "source": None if specs.origin is None else specs.origin.digest,
        "clock": options.clock,
    }
    return ServeArguments(
        world, listener.fileno(), str(work_socket), options.keys_required,
        _text(options.tls_cert), _text(options.tls_key), settings.log_format, settings.log_level,
    )  # fmt: skip


def absolute(reference: str) -> str:
    """`FILE[:NAME]` with an absolute path."""
    path, colon, name = reference.partition(":")
    return f"{Path(path).resolve()}{colon}{name}"


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


def unbound(host: str) -> socket.socket:
    """A TCP socket for `host`, so early that the serve process inherits it. UsageError when `host` is no address."""
    try:
        family = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]
    except socket.gaierror as error:
        raise UsageError(f"--host `{host}` is no address: {error.strerror}", hint="for example 127.0.0.1") from None
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setblocking(False)
    return listener


def listen(listener: socket.socket, host: str, port: int) -> None:
    """Bind and listen. It waits a moment for a port that a killed predecessor still holds."""
    deadline = MACHINE.monotonic() + PORT_WAIT_SECONDS
    bound = False
    while True:
        try:
            if not bound:
                listener.bind((host, port))
                bound = True
            listener.listen(2048)
            return
        except OSError as error:
            if MACHINE.monotonic() >= deadline:
                raise InvalidInput(
                    f"port {port} on `{host}` cannot be opened: {error.strerror}", hint="choose another with --port, 0 for any"
                ) from None
        MACHINE.sleep(0.05)


@contextmanager
def work_socket_path(folder: Path) -> Iterator[Path]:
    """Where the work process listens: in the run folder, or in a temporary one when that path is too long for a socket."""
    path = folder / "work.sock"
    if len(str(path)) <= LONGEST_SOCKET_PATH:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="headrace-") as short:
        yield Path(short) / "work.sock"


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path.resolve())
