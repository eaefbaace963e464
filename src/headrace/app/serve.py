"""The serve process: `python -m headrace.app.serve ARGUMENTS`. It answers predictions and passes the rest to *work*."""

from __future__ import annotations

import msgspec

PREDECESSOR_SECONDS = 10.0


class ServeArguments(msgspec.Struct, frozen=True):
    """What the parent tells its serve process: `world` opens the Context, `listener` is the inherited descriptor of the
    listening socket, `work_socket` the path of the work process."""

    world: dict[str, str | None]
    listener: int
    work_socket: str
    keys_required: bool
    tls_cert: str | None
    tls_key: str | None
    log_format: str
    log_level: str
