"""Contexts on a real catalog and event log for the tests of the shells, and small operations to send through them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from headrace.engines.blobs.files import FileBlobs
from headrace.engines.catalog.sql import SqlCatalog
from headrace.engines.compute.port import Compute
from headrace.engines.context import Context
from headrace.engines.events.segments import SegmentLog
from headrace.engines.lake.port import Lake
from headrace.engines.online.port import OnlineStore
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.identity import Permission
from headrace.kernel.namespace import Namespace
from headrace.kernel.operation import Operation
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs


def open_world(folder: Path, system: str = "fraud") -> Context:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    return Context(
        settings=Settings(data=data, signing_key=str(folder / "signing.key")),
        namespace=Namespace(system),
        specs=Specs(),
        clock=FixedEventClock(1_700_000_000_000_000),
        events=SegmentLog(data / "events"),
        online=cast(OnlineStore, None),
        lake=cast(Lake, None),
        blobs=FileBlobs(data / "blobs"),
        catalog=SqlCatalog(f"sqlite:///{data / 'catalog.sqlite'}"),
        compute=cast(Compute, None),
    )


class Counter:
    """Counts how often its operations ran."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def operation(self, *, changes: bool = True, fails: Exception | None = None) -> Operation:
        def act(ctx: Context, *, name: str, times: int = 1, secret: str | None = None) -> dict[str, Any]:
            """Act."""
            self.calls.append({"name": name, "times": times})
            if fails is not None:
                raise fails
            return {"name": name, "call": len(self.calls), "key": "hr_secret"}

        return Operation("thing.act", act, Permission.RELEASE, changes, "POST /things/{name}", "thing act", None)
