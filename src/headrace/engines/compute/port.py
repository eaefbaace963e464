"""The compute port: run a job of this package in another process with a queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol


@dataclass(frozen=True, slots=True)
class Job:
    """`entry` is `module:function`; it is called with the one dict `arguments` (JSON types) and returns JSON types.
    cpus may be fractions; memory is bytes of address space (0: no limit)."""

    entry: str
    arguments: dict[str, Any]
    cpus: float = 1
    gpus: float = 0
    memory: int = 0


@dataclass(frozen=True, slots=True)
class JobResult:
    """`killed`: the job failed because its process was killed from outside; submitted again it may succeed."""

    state: Literal["queued", "running", "finished", "failed"]
    value: Any = None
    error: str = ""
    killed: bool = False


class Compute(Protocol):
    """Every engine passes `engines/conformance/compute.py`."""

    def submit(self, job: Job) -> str:
        """Queue the job and return its id."""
        ...

    def result(self, job_id: str, *, timeout: float | None = None) -> JobResult:
        """Wait at most `timeout` seconds (None: until it ended). A killed child is `failed` and `killed`."""
        ...

    def cancel(self, job_id: str) -> None: ...

    def close(self) -> None: ...
