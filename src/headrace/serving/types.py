"""The records of the serving room: the declared service, the route table, the prediction record."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
import numpy as np

from headrace.data.types import Field
from headrace.training.types import ModelSpec

LIVE = ("champion", "canary")
"""The roles that answer."""


@dataclass(frozen=True)
class ServiceSpec:
    """A declared service. `request` are its typed fields; `time` names the field that is the asking time (None: the
    event clock), `id` the field that identifies a request, `key` the entity field of the sticky router.
    `appends` names the stream that an answered request is appended to, before the answer. `p99` is microseconds."""

    name: str
    model: ModelSpec
    request: tuple[Field, ...]
    time: str | None
    id: str | None
    key: str | None
    request_stream: str | None = None
    appends: str | None = None
    p99: int | None = None
    release: tuple[Any, ...] = ()
    where: str = ""
    kind: Literal["service"] = "service"


@dataclass(frozen=True, slots=True)
class RouteTable:
    """What serves now: one row per service, replaced as a whole; `generation` grows by one each time."""

    service: str
    generation: int
    champion: int | None
    challenger: int | None = None
    weight: float = 0.0
    salt: str = ""
    shadows: tuple[int, ...] = ()
    rollout: str | None = None


class PredictionRecord(msgspec.Struct, frozen=True, array_like=True, omit_defaults=False):
    """One line of the prediction log (msgpack array; append fields only at the end).

    `role`: champion, canary (challenger answered or failed), shadow. A failed canary is its own record with `error`,
    followed by the champion's record of the same `id` that answered.
    """

    format: int
    id: str
    request_key: str
    request_hash: str
    at: int
    machine_at: int
    service: str
    version: int
    role: str
    entity: str
    sticky: bool
    own_id: str | None
    request: dict[str, Any]
    features: list[float]
    positions: dict[str, dict[str, int]]
    score: float | None
    error: str | None
    latency_us: int
    rollout: str | None
    generation: int


decode_record = msgspec.msgpack.Decoder(PredictionRecord).decode
Entry = tuple[PredictionRecord, np.ndarray | None]
"""A record and its feature row, float64 [F]; None when the features could not be read."""


@dataclass(slots=True)
class CellCounts:
    """Summed counters of one (version, role, asking day). Histograms are int64 as `statistics.histograms.bin_counts`
    gives them (the last cell counts NaN), `features` and `score` on the edges of the version's reference (empty without
    one), `latency` on `serving.counters.LATENCY_EDGES` (microseconds)."""

    count: int = 0
    errors: int = 0
    features: dict[str, np.ndarray] = field(default_factory=dict)
    score: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    latency: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, more: CellCounts) -> None:
        """Take in what was counted on the same edges."""
        self.count += more.count
        self.errors += more.errors
        for name, counts in more.features.items():
            self.features[name] = self.features[name] + counts if name in self.features else counts
        self.score = self.score + more.score if len(self.score) else more.score
        self.latency = self.latency + more.latency if len(self.latency) else more.latency
