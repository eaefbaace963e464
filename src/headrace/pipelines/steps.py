"""Durable pipelines: a finished step is never run again, a crashed pipeline goes on at its first unfinished step."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any

import msgspec
from sqlalchemy import select

from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import Conflict, HeadraceError
from headrace.pipelines.claims import Claim
from headrace.pipelines.tables import PIPELINES, STEPS
from headrace.pipelines.types import PipelineState


class Pipeline:
    """The pipeline `name` for `key`, single-flight: Conflict while another thread or process has it open.

    Opening it again after a crash or a failure resumes it; steps are known by their names. Leaving its context normally
    finishes it, an error fails it, and an interruption or an error that a retry can help leaves it running.

    >>> with Pipeline(ctx, "retrain", "2026-01-31") as pipeline:            # doctest: +SKIP
    ...     dataset = pipeline.step("dataset", build)
    ...     run = pipeline.step("train", train, dataset)
    """

    def __init__(self, ctx: Context, name: str, key: str) -> None:
        self._ctx = ctx
        self.name = name
        self.key = key
        self._claim = Claim(ctx.run_folder / "claims", "pipeline", name, key)
        if not self._claim.take():
            raise Conflict(f"pipeline `{name}` for `{key}` is already running", hint="`headrace pipelines list` shows it")
        self._mine = (PIPELINES.c.system == ctx.system) & (PIPELINES.c.name == name) & (PIPELINES.c.key == key)
        self._steps = (STEPS.c.system == ctx.system) & (STEPS.c.pipeline == name) & (STEPS.c.key == key)
        try:
            self._known = self._open()
        except BaseException:
            self._claim.release()
            raise

    def _open(self) -> dict[str, Any]:
        """Enter the pipeline as running unless it is finished; its steps by name."""
        ctx = self._ctx
        with ctx.catalog.transaction() as connection:
            state = connection.execute(select(PIPELINES.c.state).where(self._mine)).scalar()
            if state is None:
                names = {"system": ctx.system, "name": self.name, "key": self.key}
                connection.execute(PIPELINES.insert().values(**names, state="running", started_at=ctx.clock.now()))
            elif state == "failed":
                again = PIPELINES.update().where(self._mine).values(state="running", error="", ended_at=None)
                connection.execute(again)
            rows = connection.execute(select(STEPS.c.name, STEPS.c.state, STEPS.c.attempts, STEPS.c.result).where(self._steps))
            return {row.name: row for row in rows}

    def step(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        """`function(*arguments)` as plain JSON (records become dicts), computed once: what is finished is returned from
        the catalog. The step must be safe to run again after a crash in it. Its error passes through."""
        found = self._known.get(name)
        if found is not None and found.state == "finished":
            return found.result
        self._begin(name, 0 if found is None else found.attempts)
        began = MACHINE.monotonic()
        try:
            result = msgspec.json.decode(msgspec.json.encode(function(*arguments)))
        except Exception as error:
            self._end(name, began, state="failed", error=str(error))
            raise
        self._end(name, began, state="finished", result=result)
        return result

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if error is None:
                self._enter("finished")
            elif isinstance(error, Exception) and not (isinstance(error, HeadraceError) and error.retryable):
                self._enter("failed", str(error))
        finally:
            self._claim.release()

    def _begin(self, name: str, attempts: int) -> None:
        begun = {"state": "running", "started_at": self._ctx.clock.now(), "ended_at": None, "seconds": None, "error": ""}
        with self._ctx.catalog.transaction() as connection:
            if attempts:
                changed = STEPS.update().where(self._steps & (STEPS.c.name == name))
                connection.execute(changed.values(**begun, attempts=attempts + 1))
            else:
                names = {"system": self._ctx.system, "pipeline": self.name, "key": self.key, "name": name}
                connection.execute(STEPS.insert().values(**names, **begun, position=len(self._known), attempts=1))

    def _end(self, name: str, began: float, **values: Any) -> None:
        seconds = MACHINE.monotonic() - began
        mine = self._steps & (STEPS.c.name == name)
        with self._ctx.catalog.transaction() as connection:
            connection.execute(STEPS.update().where(mine).values(ended_at=self._ctx.clock.now(), seconds=seconds, **values))
            ended = select(STEPS.c.name, STEPS.c.state, STEPS.c.attempts, STEPS.c.result).where(mine)
            self._known[name] = connection.execute(ended).one()

    def _enter(self, state: PipelineState, error: str = "") -> None:
        ended = {"state": state, "error": error, "ended_at": self._ctx.clock.now()}
        with self._ctx.catalog.transaction() as connection:
            connection.execute(PIPELINES.update().where(self._mine).values(**ended))
