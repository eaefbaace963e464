"""Features: definitions, the window kernel, the point-in-time join, online state.

The public names are loaded on first use, so that importing `headrace.features.calendar` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.features.point_in_time import View, point_in_time_join

__all__ = ["View", "point_in_time_join"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module `headrace.features` has no `{name}`")
    value = getattr(importlib.import_module("headrace.features.point_in_time"), name)
    globals()[name] = value
    return value
