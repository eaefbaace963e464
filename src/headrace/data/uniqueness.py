"""Uniqueness within a horizon: which of the accepted events had the same values, and when.

The index lies in the online store under `{system}/unique/{stream}/{rule}/{partition}/{hash of the values}`: pairs of event
time and position. It is derived: what is missing is built again from the history.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import msgspec
import polars as pl

from headrace.data.fencing import Fence
from headrace.data.history import history
from headrace.data.types import StreamSpec, Unique, Violation
from headrace.engines.context import Context
from headrace.kernel.partitions import base_of, came_before

_PAIR = struct.Struct("<qq")
_NEXT = struct.Struct("<q")
_CHUNK = 65_536
Pairs = list[tuple[int, int]]


class UniqueIndex:
    """The `hr.unique` rules of one partition of a stream. Of events that conflict the one that stands first in the log is
    accepted."""

    def __init__(self, ctx: Context, spec: StreamSpec, partition: int) -> None:
        self._ctx, self._spec, self._partition = ctx, spec, partition
        self.rules = tuple(rule for rule in spec.expect if isinstance(rule, Unique))
        self._marker = ctx.namespace.name("unique_applied", spec.name, str(partition)).encode()
        self._learnt: dict[bytes, bytes] = {}

    def rebuild_lost(self, next_position: int, fence: Fence) -> None:
        """Build the index from the history when it knows less than was applied, before `next_position`."""
        if not self.rules:
            return
        stored = self._ctx.online.get(self._marker)
        known = base_of(self._partition) if stored is None else int(_NEXT.unpack(stored)[0])
        if known < next_position:
            events = history(self._ctx, self._spec.name)
            own = events.filter(pl.col("_offset").is_between(base_of(self._partition), next_position, "left"))
            for part in own.iter_slices(_CHUNK):
                self.examine(part)
                self.learn(next_position, fence)

    def examine(self, frame: pl.DataFrame) -> tuple[list[tuple[int, Violation]], dict[str, int]]:
        """The events (sorted by `_offset`) that a rule refuses, by position, and how often each rule that warns does not
        hold. What is not refused is learnt by `learn`. An entry of an event's own position or a later one is of a step that
        was interrupted and is done again."""
        self._learnt = {}
        refused: dict[int, Violation] = {}
        warned: dict[str, int] = {}
        for rule in self.rules:
            found = self._conflicts(rule, frame.filter(~pl.col("_offset").is_in(list(refused))) if refused else frame)
            if rule.severity == "warn":
                warned[rule.name] = len(found)
            else:
                refused |= dict(found)
        return sorted(refused.items()), warned

    def learn(self, next_position: int, fence: Fence) -> None:
        """Keep what the last `examine` saw; done after the index of ids has learnt, in the same step."""
        if self.rules:
            fence.write({**self._learnt, self._marker: _NEXT.pack(next_position)})
            self._learnt = {}

    def _conflicts(self, rule: Unique, frame: pl.DataFrame) -> list[tuple[int, Violation]]:
        columns = [frame[name].to_physical().to_list() for name in rule.columns]
        rows = [
            row for row in zip(*columns, frame[self._spec.time].to_physical(), frame["_offset"], strict=True) if None not in row
        ]
        keys = [self._key(rule, row[:-2]) for row in rows]
        distinct = list(dict.fromkeys(keys))
        stored = self._ctx.online.get_many(distinct)
        pairs = {key: _unpacked(value) for key, value in zip(distinct, stored, strict=True)}
        found = []
        for key, (*values, time, offset) in zip(keys, rows, strict=True):
            known = pairs[key]
            earlier = [at for at, position in known if came_before(position, offset) and abs(at - time) < rule.within]
            if earlier:
                shown = ", ".join(map(str, values))[:200]
                found.append(
                    (offset, Violation(rule.columns[0], "the same values came before within the horizon", shown, rule.name))
                )
                if rule.severity == "quarantine":
                    continue
            if (time, offset) not in known:
                known.append((time, offset))
        keep = rule.within + self._spec.lateness
        for key, known in pairs.items():
            newest = max((time for time, _ in known), default=0)
            self._learnt[key] = b"".join(_PAIR.pack(*pair) for pair in known if pair[0] > newest - keep)
        return found

    def _key(self, rule: Unique, values: Sequence[object]) -> bytes:
        digest = hashlib.blake2b(msgspec.json.encode(values), digest_size=16).hexdigest()
        return self._ctx.namespace.name("unique", self._spec.name, rule.name[:200], str(self._partition), digest).encode()


def _unpacked(stored: bytes | None) -> Pairs:
    return [] if stored is None else list(_PAIR.iter_unpack(stored))
