"""What a process declares, and exchanging it while it runs."""

from __future__ import annotations

from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.kernel.log import LOG
from headrace.kernel.specs import Specs
from headrace.serving.types import ServiceSpec


def hide_personal(specs: Specs) -> None:
    """Hide the personal fields of the declarations in the log."""
    personal = [s.fields for s in specs.all(StreamSpec)] + [s.request for s in specs.all(ServiceSpec)]
    LOG.personal = frozenset(field.name for fields in personal for field in fields if field.personal is not None)


def take(ctx: Context, specs: Specs) -> None:
    """Declare these in this process from now on: `ctx` and every copy of it see them from the next look-up on."""
    hide_personal(specs)
    ctx.specs.take(specs)
    LOG.info("declarations.taken", source=None if specs.origin is None else specs.origin.digest[:12])
