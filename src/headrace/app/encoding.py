"""From results of operations to JSON: one form for HTTP, the command line and the stored answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np


def _other(value: Any) -> Any:
    if isinstance(value, Path | BaseException):
        return str(value)
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"a result holds a {type(value).__name__}, which JSON cannot hold")


def _renamed(value: Any) -> Any:
    """`from_` is `from` in JSON: a trailing underscore only keeps a name from being a Python keyword."""
    if isinstance(value, dict):
        return {key.rstrip("_") if isinstance(key, str) else key: _renamed(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_renamed(item) for item in value]
    return value


def plain(value: Any) -> Any:
    """`value` as dicts, lists and scalars. TypeError for what JSON cannot hold."""
    return _renamed(msgspec.to_builtins(value, enc_hook=_other, str_keys=True))


def encode(value: Any) -> bytes:
    """JSON of `value`; NaN is null."""
    return msgspec.json.encode(plain(value))
