"""What the parent tells its serve process, as one line on its standard input."""

from __future__ import annotations

import msgspec

READY = b"ready\n"
"""What the serve process writes on standard output when it accepts requests."""


class ServeArguments(msgspec.Struct, frozen=True):
    """`world` opens the Context (`Context.child_arguments`), `listener` is the inherited descriptor of the listening
    socket, `work_socket` the path of the work process."""

    world: dict[str, str | None]
    listener: int
    work_socket: str
    keys_required: bool
    tls_cert: str | None
    tls_key: str | None
    log_format: str
    log_level: str
