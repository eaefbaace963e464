"""What DESIGN section 4 says of windows, as plain loops over lists of rows; imports nothing from headrace.

An event is a dict of its fields and `_offset`; times are integers. The one thing taken over from NumPy is the documented
order in which `numpy.add.reduceat` adds a slice: the first element, plus the pairwise sum of the others. -0.0 is 0.0.
"""

from __future__ import annotations

import hashlib
import math
import struct


def pairwise(values):
    """The order of addition of numpy/_core/src/umath/loops_utils.h.src: blocks of 128, eight partial sums in each."""
    n = len(values)
    if n < 8:
        total = -0.0
        for value in values:
            total += value
        return total
    if n <= 128:
        parts = list(values[:8])
        whole = n - n % 8
        for start in range(8, whole, 8):
            for lane in range(8):
                parts[lane] += values[start + lane]
        total = ((parts[0] + parts[1]) + (parts[2] + parts[3])) + ((parts[4] + parts[5]) + (parts[6] + parts[7]))
        for value in values[whole:]:
            total += value
        return total
    half = n // 2
    half -= half % 8
    return pairwise(values[:half]) + pairwise(values[half:])


def add(values):
    numbers = [float(value) + 0.0 for value in values]
    return numbers[0] + pairwise(numbers[1:]) if len(numbers) > 1 else numbers[0]


def hashed(value):
    """64 bits: of an integer itself, of a float its bits, of a text BLAKE2b; then SplitMix64's finaliser."""
    mask = (1 << 64) - 1
    if isinstance(value, str):
        word = int.from_bytes(hashlib.blake2b(value.encode(), digest_size=8).digest(), "little")
    elif isinstance(value, float):
        (word,) = struct.unpack("<Q", struct.pack("<d", value))
    else:
        word = int(value) & mask
    word = (word + 0x9E3779B97F4A7C15) & mask
    word = ((word ^ word >> 30) * 0xBF58476D1CE4E5B9) & mask
    word = ((word ^ word >> 27) * 0x94D049BB133111EB) & mask
    return word ^ word >> 31


def hyperloglog(values):
    """Ertl 2017 (arXiv:1702.01284), algorithms 5 and 6, with p = 14 and q = 50; sums until they no longer change."""
    m, q = 1 << 14, 50
    registers = [0] * m
    for value in values:
        bits = hashed(value)
        place, tail = bits >> q, bits & ((1 << q) - 1)
        registers[place] = max(registers[place], q - tail.bit_length() + 1)
    counts = [registers.count(k) for k in range(q + 2)]
    x = 1 - counts[q + 1] / m
    z = 0.0
    if x not in (0, 1):
        y, z = 1.0, 1 - x
        while True:
            x, y, before = math.sqrt(x), y * 0.5, z
            z -= (1 - x) ** 2 * y
            if z == before:
                break
        z /= 3
    z *= m
    for k in range(q, 0, -1):
        z = 0.5 * (z + counts[k])
    x = counts[0] / m
    y, total = 1.0, x
    while True:
        x, before = x * x, total
        total += x * y
        y += y
        if total == before:
            break
    return round(m * m / (2 * math.log(2)) / (z + m * total))


def add_tiles(values, tiles):
    """The sum of the sums of runs of the same tile; (value, tile) in order."""
    return add([add(run) for run in runs(values, tiles)])


def runs(values, tiles):
    """The values of each tile."""
    found = {}
    for value, tile in zip(values, tiles, strict=True):
        found.setdefault(tile, []).append(value)
    return list(found.values())


def squares(values):
    """(number, mean, squared deviations) of values."""
    mean = add(values) / len(values)
    return len(values), mean, add([(float(v) - mean) * (float(v) - mean) for v in values])


def reduce(kind, values, tiles):
    """The aggregate over values without nulls; None where there is none. `tiles`: the tile of each, all the same for views
    without resolution."""
    if kind == "distinct":
        return len(set(values)) if len(set(values)) <= 4096 else hyperloglog(set(values))
    if not values:
        return 0.0 if kind == "sum" else None
    if kind == "sum":
        return add_tiles(values, tiles)
    if kind == "mean":
        return add_tiles(values, tiles) / len(values)
    if kind == "std":
        if len(values) < 2:
            return None
        mean = add_tiles(values, tiles) / len(values)
        parts = [squares(run) for run in runs(values, tiles)]
        return math.sqrt(add([s + n * ((m - mean) * (m - mean)) for n, m, s in parts]) / (len(values) - 1))
    return {"min": min, "max": max, "first": lambda v: v[0], "last": lambda v: v[-1]}[kind](values)


def windowed(
    events, at, position, width, *, key, by, delay=0, own=None, own_row=None, own_event=False, where=None, resolution=0
):
    """The events of the window in order. `own`: offset of the asking event, None when it is no event of the stream or not
    in the log at the position; `own_row`: the asking event."""
    if any(part is None for part in key):
        found = []
        own = None
    else:
        found = [e for e in events if tuple(e[name] for name in by) == key and e["_offset"] <= position]
    low = at - width - delay
    low = low // resolution * resolution if resolution else low
    found = [e for e in found if low < e["at"] <= at - delay]
    if own is not None:
        found = [e for e in found if (e["at"], e["_offset"]) <= (at, own) and (own_event or e["_offset"] != own)]
    found.sort(key=lambda e: (e["at"], e["_offset"]))
    if own_event and own is None and own_row is not None:
        found.append(own_row)
    return [e for e in found if where is None or where(e)]


def newest(events, at, position, *, key, by, ttl=None, own=None):
    """The event whose values the attributes are: the newest by (event time, created, offset) that is known, not older than
    the ttl; None for none. `own` as for windows."""
    found = [e for e in events if tuple(e[name] for name in by) == key and None not in key and e["_offset"] <= position]
    found = [e for e in found if e["at"] <= at and e["_created"] <= at]
    if own is not None:
        found = [e for e in found if (e["at"], e["_offset"]) < (at, own)]
    last = max(found, key=lambda e: (e["at"], e["_created"], e["_offset"]), default=None)
    return None if last is None or (ttl is not None and at - last["at"] > ttl) else last


def value(kind, column, window, *, empty=None, reports=(), at=0, reported=math.inf, on="id", resolution=0):
    """One aggregate over the events of a window, tile (k r, (k + 1) r] by tile with a resolution r; `reports` count
    when they have a time <= at and an offset <= reported."""
    if kind == "count":
        return len(window) if window or empty is None else int(empty)
    if kind == "share":
        if not window:
            return 0.0 if empty is None else empty
        known = {r[on] for r in reports if r["at"] <= at and r["_offset"] <= reported}
        return sum(1 for e in window if e[on] in known) / len(window)
    window = [e for e in window if e[column] is not None]
    values = [e[column] + 0.0 if isinstance(e[column], float) else e[column] for e in window]
    if not values and empty is not None:
        return empty
    return reduce(kind, values, [(e["at"] - 1) // resolution if resolution else 0 for e in window])
