"""What a system declares, looked up by type and name, so that a lower room needs no import of a higher one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, TypeVar

from headrace.kernel.errors import NotFound


class Spec(Protocol):
    """A frozen declaration record; `kind` is its word in messages, such as "stream"."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Spec)


class Specs:
    """The declarations of one system. Immutable once built."""

    def __init__(self, declared: Iterable[Spec] = ()) -> None:
        self._by_type: dict[type[Any], dict[str, Any]] = {}
        for spec in declared:
            self._by_type.setdefault(type(spec), {})[spec.name] = spec

    def get(self, kind: type[T], name: str) -> T:
        """The declaration `name` of type `kind`; NotFound lists the known ones."""
        known = self._by_type.get(kind, {})
        if name not in known:
            raise NotFound.of(kind.__name__.removesuffix("Spec").lower(), name, known)
        found: T = known[name]
        return found

    def all(self, kind: type[T]) -> list[T]:
        """Every declaration of type `kind`, in order of declaration."""
        return list(self._by_type.get(kind, {}).values())
