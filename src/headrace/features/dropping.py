"""Deleting the online state of a definition that nobody reads any more."""

from __future__ import annotations

from itertools import islice

from headrace.engines.online.port import OnlineStore
from headrace.kernel.namespace import Namespace
from headrace.kernel.partitions import MAX_PARTITIONS

AT_ONCE = 10_000


def drop_state(online: OnlineStore, namespace: Namespace, definition: str) -> int:
    """Delete what is stored of the definition (its hash), and return how many keys that were. Nobody may apply it meanwhile.

    How far it was applied goes first: what a crash leaves behind is never taken for complete.
    """
    prefix = namespace.name("view", definition).encode()
    applied = [prefix, *(prefix + b"@%d" % partition for partition in range(1, MAX_PARTITIONS))]
    held = [key for key, value in zip(applied, online.get_many(applied), strict=True) if value is not None]
    online.write(dict.fromkeys(held))
    dropped = len(held)
    while keys := [key for key, _ in islice(online.scan(prefix), AT_ONCE)]:
        online.write(dict.fromkeys(keys))
        dropped += len(keys)
    return dropped
