"""Deleting the online state of a definition that nobody reads any more."""

from __future__ import annotations

import re
from itertools import islice

from headrace.engines.online.port import OnlineStore
from headrace.kernel.namespace import Namespace

AT_ONCE = 10_000


def drop_state(online: OnlineStore, namespace: Namespace, definition: str) -> int:
    """Delete what is stored of the definition (its hash), and return how many keys that were. Nobody may apply it meanwhile.

    How far it was applied (`StateLayout.applied_key_of`) goes first: what a crash leaves behind is never taken for complete.
    """
    prefix = namespace.name("view", definition).encode()
    is_applied = re.compile(re.escape(prefix) + rb"\.[0-9a-f]+(@[0-9]+)?").fullmatch
    applied = [key for key, _ in online.scan(prefix) if is_applied(key)]
    online.write(dict.fromkeys(applied))
    dropped = len(applied)
    while keys := [key for key, _ in islice(online.scan(prefix), AT_ONCE)]:
        online.write(dict.fromkeys(keys))
        dropped += len(keys)
    return dropped
