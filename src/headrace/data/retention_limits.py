"""The limits of a retention as they are declared: an age, a size, or both."""

from __future__ import annotations

import re

from headrace.kernel.errors import InvalidInput
from headrace.kernel.times import duration

_UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_SIZE = re.compile(r"(\d{1,15}(?:\.\d+)?)\s?([KMGT]i?B)")


def parse_retention(text: str | None) -> tuple[int | None, int | None]:
    """Microseconds and bytes of `"365d"`, `"50GB"` or `"365d, 50GB"`; None for what is not limited. Raises InvalidInput."""
    age = size = None
    if not isinstance(text, str):
        return (None, None) if text is None else (duration(text), None)
    for part in map(str.strip, text.split(",")):
        match = _SIZE.fullmatch(part)
        if (age if match is None else size) is not None:
            raise InvalidInput(f"`{text!r}` gives two limits of one kind", hint='write for example "365d, 50GB"')
        if match is None:
            age = duration(part)
        else:
            size = round(float(match[1]) * _UNITS[match[2]])
    return age, size
