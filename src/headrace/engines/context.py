"""What an operation is given: the opened engines of one installation, the names of one system, the clocks, the caller."""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from pathlib import Path

from headrace.engines.blobs.port import BlobStore
from headrace.engines.catalog.port import Catalog
from headrace.engines.compute.port import Compute
from headrace.engines.events.port import EventLog
from headrace.engines.lake.port import Lake
from headrace.engines.online.port import OnlineStore
from headrace.kernel.clocks import EventClock
from headrace.kernel.identity import LOCAL, Principal
from headrace.kernel.namespace import Namespace
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs


@dataclass(frozen=True)
class Context:
    """The world of one call. `specs` is what the system file declares; `file` is that file, such as `path/system.py` or
    `path/system.py:NAME`, if any."""

    settings: Settings
    namespace: Namespace
    specs: Specs
    clock: EventClock
    events: EventLog
    online: OnlineStore
    lake: Lake
    blobs: BlobStore
    catalog: Catalog
    compute: Compute
    principal: Principal = LOCAL
    file: str | None = None
    request_id: str | None = None

    @property
    def system(self) -> str:
        return self.namespace.system

    @property
    def run_folder(self) -> Path:
        """`DATA/run/SYSTEM`: clock, sockets, process ids; never data."""
        return self.settings.data / "run" / self.system

    @property
    def place(self) -> str:
        """The host and the folder that the process lock of `headrace run` guards, as the holder of a lease: the next process
        there goes on at once, whatever ended the last. Only the holder of that lock may take a lease by this name."""
        return f"{socket.gethostname()}:{self.run_folder.resolve()}"

    def child_arguments(self) -> dict[str, str | None]:
        """Arguments of a compute job with which `headrace.app.child:context` opens the same world again."""
        return {
            "data": str(self.settings.data.resolve()),
            "system": self.system,
            "file": self.file,
            "source": None if self.specs.origin is None else self.specs.origin.digest,
            "clock": "virtual" if self.clock.virtual else "real",
        }

    def acting(self, principal: Principal, request_id: str | None = None) -> Context:
        """The same world for another caller."""
        return replace(self, principal=principal, request_id=request_id)

    def close(self) -> None:
        """Close every engine; running compute children end."""
        self.compute.close()
        self.online.close()
        self.events.close()
        self.catalog.close()
