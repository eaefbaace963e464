"""Where a declaration stands in the user's file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headrace.kernel.errors import HeadraceError, InvalidSystem

_ROOM = f"{Path(__file__).parent}{os.sep}"


def declared_at() -> str:
    """`file:line` of the first frame outside this room: the user's declaration."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_ROOM):
        frame = frame.f_back
    return f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


@contextmanager
def standing_at(place: str) -> Iterator[None]:
    """What is refused inside is InvalidSystem, with the place in front unless it names one already."""
    try:
        yield
    except InvalidSystem:
        raise
    except HeadraceError as error:
        raise InvalidSystem(f"{place}: {error.message}", hint=error.hint) from None
