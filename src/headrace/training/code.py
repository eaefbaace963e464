"""The code that a model is trained with."""

from __future__ import annotations

import inspect
from pathlib import Path

from headrace.kernel.errors import CheckFailed
from headrace.kernel.ids import content_hash
from headrace.training.types import ModelSpec

_SOURCES: dict[str, bytes] = {}


def remembered_source(filename: str, source: bytes) -> bytes:
    """Note the content that was read as `filename`: the file may be another one later. Returns the first one noted."""
    return _SOURCES.setdefault(filename, source)


def source_of(spec: ModelSpec) -> bytes:
    """The file that holds the model's function."""
    path = inspect.getsourcefile(spec.function)
    if path is None:
        raise CheckFailed(f"{spec.where}: the source of `{spec.name}` is in no file", hint="declare the model in a file")
    return _SOURCES[path] if path in _SOURCES else Path(path).read_bytes()


def code_hash(spec: ModelSpec) -> str:
    """SHA-256 of `source_of`."""
    return content_hash(source_of(spec))


def check_unchanged(spec: ModelSpec, expected: str) -> None:
    """In a child, which read the file anew: CheckFailed when it is no longer what the parent runs."""
    if code_hash(spec) != expected:
        raise CheckFailed(f"the file of `{spec.name}` was changed while the system runs", hint="`headrace reload`")
