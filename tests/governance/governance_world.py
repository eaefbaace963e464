"""Contexts on one real catalog, for the tests of keys."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from headrace.engines.blobs.files import FileBlobs
from headrace.engines.catalog.sql import SqlCatalog
from headrace.engines.compute.port import Compute
from headrace.engines.context import Context
from headrace.engines.events.segments import SegmentLog
from headrace.engines.lake.port import Lake
from headrace.engines.online.port import OnlineStore
from headrace.kernel.clocks import FixedEventClock
from headrace.kernel.namespace import Namespace
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs


def open_world(folder: Path, system: str = "fraud") -> Context:
    data = folder / "data"
    data.mkdir(exist_ok=True)
    return Context(
        settings=Settings(data=data, signing_key=str(folder / "keys" / "signing.key")),
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
