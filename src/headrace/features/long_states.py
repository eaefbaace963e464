"""Long states in two blobs, so that a batch writes again what came lately and not all that a key has.

A state of LONG events or more has its main blob, as a short one, and beside it a tail: the events that were inserted since
the main blob was written, early and late ones, in the same words and order. They are put together when writing the tail has
cost as much as writing the main blob would: of M events in the main blob and b in each batch, the tail grows to `sqrt(2 M b)`,
which is what makes the sum of both costs least. Both are written, and read, in one transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from headrace.engines.online.port import OnlineStore
from headrace.features.state import HEADER, StateLayout, unpack_states

LONG = 128
"""Events of a main blob that may have a tail."""


@dataclass(frozen=True, slots=True)
class HeldStates:
    """What is written again of some states: `keys` are where it goes, `events` int64 [words, n] what it holds, main blob before
    tail, `code` of which key each is; `guards` int64 [keys, 2] the applied offsets of each state; `gone` are the keys of
    tails that go into their main blobs."""

    keys: list[bytes]
    events: np.ndarray
    code: np.ndarray
    guards: np.ndarray
    gone: list[bytes]


def held_states(
    online: OnlineStore, layout: StateLayout, entities: Sequence[bytes], coming: np.ndarray, least: int
) -> HeldStates:
    """Of the states of `entities`, to each of which so many events are `coming`: of long ones, which have `least` events or
    more in their main blobs, the tail alone, mostly."""
    keys = layout.keys(entities)
    blobs = online.get_many(keys)
    width = len(layout.words)
    long = _long(layout, blobs, least)
    if not long:
        return HeldStates(keys, *unpack_states(blobs, width), [])
    tails = online.get_many([layout.tail_key(entities[number]) for number in long])
    gone: list[bytes] = []
    for number, tail, count in zip(long, tails, coming[long].tolist(), strict=True):
        main = blobs[number]
        assert main is not None
        tail_key = layout.tail_key(entities[number])
        size = _size(tail, width) + count
        if size * size < 2 * _size(main, width) * count:
            keys[number] = tail_key
            blobs[number] = main[: HEADER.size]
        elif tail is not None:
            gone.append(tail_key)
    events, code, guards = unpack_states(blobs, width)
    tail_events, tail_code, tail_guards = unpack_states(tails, width)
    at = np.array(long)
    guards[at] = np.maximum(guards[at], tail_guards)
    return HeldStates(keys, np.concatenate([events, tail_events], axis=1), np.concatenate([code, at[tail_code]]), guards, gone)


def all_blobs(
    online: OnlineStore, layout: StateLayout, entities: Sequence[bytes], least: int
) -> tuple[list[bytes], list[bytes | None], np.ndarray]:
    """The keys and blobs of the states, main blobs and then tails, and of which entity each is."""
    keys = layout.keys(entities)
    blobs = online.get_many(keys)
    long = _long(layout, blobs, least)
    tails = [layout.tail_key(entities[number]) for number in long]
    return keys + tails, blobs + online.get_many(tails), np.array([*range(len(entities)), *long])


def _long(layout: StateLayout, blobs: Sequence[bytes | None], least: int) -> list[int]:
    if not layout.has_tails:
        return []
    size = HEADER.size + 8 * least * len(layout.words)
    return [number for number, blob in enumerate(blobs) if blob is not None and len(blob) >= size]


def _size(blob: bytes | None, words: int) -> int:
    return 0 if blob is None else (len(blob) - HEADER.size) // (8 * words)


def with_tail(main: np.ndarray, tail: np.ndarray, oldest: int) -> np.ndarray:
    """The events of both, int64 [words, n] whose first two words are time and offset, in their order; of those at or before the
    time `oldest` the newest is there, others may be left out."""
    first = max(int(main[0].searchsorted(oldest, "right")) - 1, 0)
    since = max(int(main[0].searchsorted(tail[0, 0], "left")), first)
    mixed = np.concatenate([main[:, since:], tail], axis=1)
    if since < main.shape[1]:
        mixed = mixed[:, np.lexsort((mixed[1], mixed[0]))]
    return np.concatenate([main[:, first:since], mixed], axis=1)
