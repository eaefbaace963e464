"""How far a re-keyed view is applied: a vector, the last position of each partition of its streams."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from headrace.engines.online.port import OnlineStore
from headrace.features.routes import Route, vector_of
from headrace.features.state import FORMAT, NEVER, READABLE, StateLayout
from headrace.kernel.errors import IncompatibleFormat
from headrace.kernel.partitions import base_of


@dataclass(frozen=True, slots=True)
class AppliedVector:
    """Of one partition of the view's topic: `next` is the next offset to read there; `streams` has the last applied positions
    of each partition of the view's stream and, where it is joined, of its reports."""

    next: int
    watermark: int
    streams: dict[str, list[int]]

    @classmethod
    def nothing(cls, route: Route) -> AppliedVector:
        sources = route.sources.items()
        return cls(0, NEVER, {name: [base_of(part) - 1 for part in range(count)] for name, count in sources})

    def pack(self) -> bytes:
        return msgspec.msgpack.encode([FORMAT, self.next, self.watermark, self.streams])

    @classmethod
    def unpack(cls, blob: bytes | None, route: Route) -> AppliedVector:
        if blob is None:
            return cls.nothing(route)
        found, following, watermark, streams = msgspec.msgpack.decode(blob, type=tuple[int, int, int, dict[str, list[int]]])
        if found not in READABLE:
            raise IncompatibleFormat(f"the online state has format {found}, this headrace reads up to {FORMAT}",
                                     hint="delete the online folder: it is rebuilt")  # fmt: skip
        return cls(following, watermark, streams)

    @property
    def positions(self) -> dict[str, int]:
        """As a read logs it."""
        return {name: at for stream, ends in self.streams.items() for name, at in vector_of(stream, ends).items()}


def applied_by_all(online: OnlineStore, layout: StateLayout, route: Route) -> dict[str, int]:
    """Of each stream as many events, less one, as every partition of the view has applied."""
    blobs = online.get_many([layout.applied_key_of(partition) for partition in range(route.partitions)])
    reached = [AppliedVector.unpack(blob, route).streams for blob in blobs]
    least = {name: [min(ends) for ends in zip(*(streams[name] for streams in reached), strict=True)] for name in route.sources}
    return {name: sum(end + 1 - base_of(part) for part, end in enumerate(ends)) - 1 for name, ends in least.items()}
