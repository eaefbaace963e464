"""Which member of a consumer group reads which partition: balanced, sticky, and the same whoever computes it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def assign(partitions: int, owners: Mapping[int, str], members: Sequence[str]) -> dict[int, str]:
    """The member of each partition, their numbers differing by one at most. Members keep what they own as far as that
    allows, the lowest first; of equals the first by name gets one more. `owners` holds living members only."""
    if not members:
        return {}
    least, more = divmod(partitions, len(members))
    held = {member: [p for p in range(partitions) if owners.get(p) == member] for member in sorted(members)}
    fullest = sorted(held, key=lambda member: (-len(held[member]), member))
    quota = {member: least + (place < more) for place, member in enumerate(fullest)}
    target = {p: member for member, own in held.items() for p in own[: quota[member]]}
    open_places = [member for member in sorted(held) for _ in range(quota[member] - min(len(held[member]), quota[member]))]
    free = [p for p in range(partitions) if p not in target]
    return target | dict(zip(free, open_places, strict=True))
