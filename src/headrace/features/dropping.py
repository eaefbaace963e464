"""Deleting the online state that nobody reads any more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

from headrace.engines.online.port import OnlineStore
from headrace.kernel.namespace import Namespace

AT_ONCE = 10_000


def stored_states(online: OnlineStore, namespace: Namespace) -> dict[bytes, bool]:
    """Every state of which anything is stored, as `StateLayout.applied_key`; whether anything was applied to it, since a crash
    leaves some of what `drop_state` was deleting."""
    prefix = start = namespace.name("view", "").encode()
    is_state = re.compile(re.escape(prefix) + rb"[0-9a-f]+\.[0-9a-f]+").match
    found: dict[bytes, bool] = {}
    while (key := next((key for key, _ in online.scan(prefix, start=start)), None)) is not None:
        state = is_state(key)
        if state is not None:
            found[state[0]] = any(True for _ in _applied(online, state[0]))
        start = (key if state is None else state[0]) + b"\xff"
    return found


def _applied(online: OnlineStore, state: bytes) -> Iterator[bytes]:
    """The keys where it stands how far the state is applied (`StateLayout.applied_key_of`)."""
    is_applied = re.compile(re.escape(state) + rb"(@[0-9]+)?").fullmatch
    if online.get(state) is not None:
        yield state
    yield from (key for key, _ in online.scan(state + b"@") if is_applied(key))


def drop_state(online: OnlineStore, state: bytes) -> int:
    """Delete one of `stored_states` and return how many keys it had. Nobody may apply it meanwhile.

    How far it was applied goes first: what a crash leaves behind is never taken for complete.
    """
    applied = list(_applied(online, state))
    online.write(dict.fromkeys(applied))
    dropped = len(applied)
    while keys := [key for key, _ in islice(online.scan(state), AT_ONCE)]:
        online.write(dict.fromkeys(keys))
        dropped += len(keys)
    return dropped
