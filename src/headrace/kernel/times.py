"""Times are `int` microseconds since 1970-01-01 UTC, durations `int` microseconds. This module reads no clock."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from headrace.kernel.errors import InvalidInput

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
LONGEST = 100_000 * DAY
"""The longest duration: no sum of a few of them and a time leaves 64 bits."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FIRST_TIME, LAST_TIME = -62_135_596_800 * SECOND, 253_402_300_800 * SECOND - 1
"""Of the years 1 to 9999, which `datetime` has."""
_UNITS = {"us": 1, "ms": 1_000, "s": SECOND, "m": MINUTE, "h": HOUR, "d": DAY, "w": 7 * DAY}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(us|ms|s|m|h|d|w)")


def duration(text: str) -> int:
    """Microseconds of a positive duration such as `"90s"`, `"7d"`, `"1.5h"`.

    Raises InvalidInput for anything else.
    """
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    micros = 0.0 if match is None else float(match[1]) * _UNITS[match[2]]
    if not 0.5 < micros <= LONGEST:
        raise InvalidInput(
            f"`{text!r}` is not a duration; allowed: a number and one of {', '.join(_UNITS)}; above 0, up to {LONGEST // DAY}d",
            hint='write for example "7d" or "90s"',
        )
    return round(micros)


def to_micros(moment: datetime) -> int:
    """Microseconds of `moment`; a naive time is UTC."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """The aware UTC datetime of `micros`."""
    return EPOCH + timedelta(microseconds=micros)


def parse_time(text: str) -> int:
    """Microseconds of an RFC 3339 time or date; without an offset it is UTC. Raises InvalidInput."""
    try:
        return to_micros(datetime.fromisoformat(text))
    except (ValueError, TypeError, OverflowError):
        raise InvalidInput(f"`{text!r}` is not an RFC 3339 time", hint='write for example "2026-01-31T12:00:00Z"') from None


def format_time(micros: int) -> str:
    """RFC 3339 in UTC with `Z`; fractions only when there are any."""
    return from_micros(micros).isoformat().replace("+00:00", "Z")
