"""How long the log of a stream is kept: by age, by size, and never less than what is still needed of it."""

from __future__ import annotations

from headrace.data import quarantine
from headrace.data.history import held_to
from headrace.data.positions import positions
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.clocks import MACHINE
from headrace.kernel.log import LOG
from headrace.kernel.partitions import base_of


def retain_streams(ctx: Context) -> None:
    """Drop from the log of every stream what its retention no longer keeps: whole segments, by the machine-clock time of
    their last append. What is not applied or not in the lake yet stays: the history, the index of ids and the online state
    can be built again from the lake and the rest of the log. The age holds for refused events too."""
    for spec in ctx.specs.all(StreamSpec):
        topic = ctx.namespace.stream(spec.name)
        if spec.retention is None and spec.retention_bytes is None:
            continue
        older_than = None if spec.retention is None else MACHINE.now() - spec.retention
        size = None if spec.retention_bytes is None else spec.retention_bytes // spec.partitions
        for partition, at in enumerate(positions(ctx, spec)):
            needed = min(at.next_offset, held_to(ctx, spec, partition) - base_of(partition))
            if needed == 0:
                continue
            before = ctx.events.first(topic, partition)
            kept = ctx.events.retain(topic, partition, needed, older_than=older_than, max_bytes=size)
            if kept > before:
                LOG.info("stream.retention", stream=spec.name, partition=partition, dropped=kept - before, first_offset=kept)
        if older_than is not None and (refused := quarantine.retain(ctx, spec, older_than)):
            LOG.info("quarantine.retention", stream=spec.name, dropped=refused)
