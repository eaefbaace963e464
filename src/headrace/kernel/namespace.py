"""Every id, topic, path, key and metric of a system starts with the system's name: several share one installation."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Namespace:
    """The names of one system, called `system`."""

    system: str

    def name(self, *parts: str) -> str:
        """`fraud/predictions/scoring`: a topic, a blob prefix, a lease, an online prefix."""
        return "/".join((self.system, *parts))

    def stream(self, stream: str) -> str:
        """The topic of a declared stream."""
        return self.name("streams", stream)

    def quarantine(self, stream: str) -> str:
        """The topic that holds what the contract of `stream` refused: its bytes, its offset, the reason."""
        return self.name("quarantine", stream)

    def predictions(self, service: str) -> str:
        """The topic of the prediction log of `service`."""
        return self.name("predictions", service)

    def counters(self, service: str) -> str:
        """The topic of the counters kept while serving."""
        return self.name("counters", service)
