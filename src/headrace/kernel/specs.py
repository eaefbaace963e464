"""What a system declares, looked up by type and name, so that a lower room needs no import of a higher one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar

from headrace.kernel.errors import NotFound
from headrace.kernel.ids import content_hash


class Spec(Protocol):
    """A frozen declaration record; `kind` is its word in messages, such as "stream"."""

    @property
    def kind(self) -> str: ...
    @property
    def name(self) -> str: ...


T = TypeVar("T", bound=Spec)


@dataclass(frozen=True)
class Origin:
    """What the declarations of `system` were read from: the content of a file and of what it imports from its folder. `load`
    reads another content."""

    system: str
    source: bytes
    load: Callable[[bytes], Specs]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content: its name in the blob store."""
        return content_hash(self.source)


class Specs:
    """The declarations of one system. Those of a running system are exchanged as a whole by `take`, in one assignment: who
    keeps a declaration keeps the old one, who looks it up finds the new one."""

    def __init__(self, declared: Iterable[Spec] = (), *, origin: Origin | None = None) -> None:
        by_type: dict[type[Any], dict[str, Any]] = {}
        for spec in declared:
            by_type.setdefault(type(spec), {})[spec.name] = spec
        self._held = by_type, origin

    @property
    def origin(self) -> Origin | None:
        """What they were read from, None for none."""
        return self._held[1]

    def get(self, kind: type[T], name: str) -> T:
        """The declaration `name` of type `kind`; NotFound lists the known ones."""
        known = self._held[0].get(kind, {})
        if name not in known:
            raise NotFound.of(kind.__name__.removesuffix("Spec").lower(), name, known)
        found: T = known[name]
        return found

    def all(self, kind: type[T]) -> list[T]:
        """Every declaration of type `kind`, in order of declaration."""
        return list(self._held[0].get(kind, {}).values())

    def everything(self) -> list[Any]:
        """Every declaration."""
        return [spec for named in self._held[0].values() for spec in named.values()]

    def take(self, other: Specs) -> None:
        """Declare from now on what `other` declares."""
        self._held = other._held
