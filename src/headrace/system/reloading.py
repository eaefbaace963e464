"""Changing what a running system declares: the file is read again, compared, refused or adopted.

Adopting is one row in the catalog. Every process of the system follows it by itself (`app/following.py`), so none is
restarted; what could not be followed without a restart is refused here.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass, fields, is_dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

from headrace.data.schemas import apply_schemas
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.features.types import RequestFeatures, StoredView
from headrace.kernel.errors import CheckFailed, InvalidSystem, NotFound
from headrace.kernel.specs import Spec, Specs
from headrace.registry import declarations
from headrace.release.live import live_versions
from headrace.serving.types import ServiceSpec
from headrace.system.load import function_content
from headrace.system.taking import take
from headrace.training.jobs import open_world, run_in_child

_UNSAID = ("where", "doc", "kind")
"""Fields that say nothing about what is done."""
_ROLES = ("request_stream", "time", "id", "key", "appends")


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What the file changes, such as `view card`; `adopted`: the system runs `source`, the blob of the file, from now on."""

    adopted: bool
    source: str
    added: list[str]
    changed: list[str]
    removed: list[str]


def reload(ctx: Context, *, check: bool) -> Reloaded:
    """Read the file of the system again and adopt what it declares, unless `check`.

    InvalidSystem or CheckFailed for a file that cannot be read or that changes what a running system cannot change: all of it
    in the message. Processes know what runs by the digest of the file and of what it imports from its folder: CheckFailed where
    these are as they run, and what they read, such as another file, is not.
    """
    new = _read(ctx)
    assert new.origin is not None
    before = declarations.running(ctx)
    found = _difference(before, new)
    reasons = _refused(ctx, before, new)
    if reasons:
        raise CheckFailed("the running system cannot change so:\n" + "\n".join(f"  {reason}" for reason in reasons),
                          hint="take it back, or stop the system and start it again")  # fmt: skip
    source = new.origin.digest
    changes = before.origin is None or before.origin.digest != source
    if not changes and any(found):
        names = ", ".join(f"`{name}`" for part in found for name in part)
        path = Path(str(ctx.file).partition(":")[0]).name
        raise CheckFailed(f"what `{path}` reads changed: {names}; the file and what it imports are as they run",
                          hint=f"edit {path} too, a comment suffices, or restart")  # fmt: skip
    if check or not changes:
        return Reloaded(False, source, *found)
    apply_schemas(replace(ctx, specs=new))
    declarations.keep(ctx, new)
    take(ctx, new)  # (the other processes follow; whoever asks this one next finds what was adopted)
    return Reloaded(True, source, *found)


def _read(ctx: Context) -> Specs:
    """The declarations of the file as it is now, tried in a child first: what it does to its process it does there."""
    if ctx.file is None or ctx.specs.origin is None:
        raise NotFound("this system runs without a file", hint="start it with one: `headrace run FILE`")
    path = Path(ctx.file.partition(":")[0])
    if not path.is_file():
        raise NotFound(f"there is no system file `{path}`", hint="put it back where it was")
    told = run_in_child(ctx, f"reading `{path.name}`", "headrace.system.reloading:try_in_child", {})
    if "message" in told:
        raise InvalidSystem(told["message"], hint=told["hint"])
    new = ctx.specs.origin.load(ctx.blobs.get(ctx.system, told["source"]))
    if new.origin is not None and new.origin.system != ctx.system:
        raise CheckFailed(
            f"the file declares the system `{new.origin.system}`, what runs is `{ctx.system}`", hint="take the name back"
        )
    return new


def try_in_child(arguments: dict[str, Any]) -> dict[str, str]:
    """Compute job: open the world with the declarations of the file as it is, and store what it was read from as the blob
    `source`; or the message and hint of an InvalidSystem, whose class a failed job would lose."""
    try:
        with closing(open_world({**arguments, "context": {**arguments["context"], "source": None}})) as ctx:
            assert ctx.specs.origin is not None
            return {"source": ctx.blobs.put(ctx.system, ctx.specs.origin.source)}
    except InvalidSystem as error:
        return {"message": error.message, "hint": error.hint}


def _difference(before: Specs, new: Specs) -> tuple[list[str], list[str], list[str]]:
    """Added, changed and removed declarations."""
    old, now = _by_name(before), _by_name(new)
    return (
        [name for name in now if name not in old],
        [name for name in now if name in old and described(now[name]) != described(old[name])],
        [name for name in old if name not in now],
    )


def _by_name(specs: Specs) -> dict[str, Spec]:
    return {f"{spec.kind} {spec.name}": spec for spec in specs.everything()}


def described(value: Any) -> Any:
    """What a declaration means, comparable with that of another loading of its file: functions by their content, the
    models of services by their names."""
    if isinstance(value, tuple | list):
        return [described(item) for item in value]
    if isinstance(value, dict):
        return {name: described(item) for name, item in value.items()}
    if isinstance(value, type):
        return value.__qualname__
    if is_dataclass(value):
        told = {field.name: attrgetter(field.name)(value) for field in fields(value) if field.name not in _UNSAID}
        if isinstance(value, ServiceSpec):
            told["model"] = value.model.name
        if isinstance(value, StoredView | RequestFeatures):
            told["definition"] = value.definition_hash
        return {name: described(item) for name, item in told.items()}
    return function_content(value) if callable(value) else value


def _refused(ctx: Context, before: Specs, new: Specs) -> list[str]:
    return [*_refused_streams(before, new), *_refused_services(ctx, before, new)]


def _refused_streams(before: Specs, new: Specs) -> list[str]:
    """Who applies a stream has its contract and its indexes open, and its members share as many partitions as the widest."""
    now = {spec.name: spec for spec in new.all(StreamSpec)}
    old = before.all(StreamSpec)
    reasons = []
    for spec in old:
        if spec.name not in now:
            reasons.append(f"stream `{spec.name}` ({spec.where}) is removed")
            continue
        was, is_ = described(spec), described(now[spec.name])
        parts = [name for name in was if was[name] != is_[name]]
        if parts:
            reasons.append(f"stream `{spec.name}` ({now[spec.name].where}) has another {', another '.join(parts)}")
    widest = max((spec.partitions for spec in old), default=0)
    reasons += [
        f"stream `{spec.name}` ({spec.where}) has {spec.partitions} partitions, more than the {widest} of those that run"
        for name, spec in now.items()
        if old and name not in {one.name for one in old} and spec.partitions > widest
    ]
    return reasons


def _refused_services(ctx: Context, before: Specs, new: Specs) -> list[str]:
    now = {spec.name: spec for spec in new.all(ServiceSpec)}
    live = live_versions(replace(ctx, specs=before))
    reasons = []
    for spec in before.all(ServiceSpec):
        found, numbers = now.get(spec.name), live[spec.name]
        shown = f"service `{spec.name}` ({spec.where if found is None else found.where})"
        if found is None and numbers:
            reasons.append(f"{shown} is removed; its version {numbers[0]} is alive")
        if found is None:
            continue
        was, is_ = described(spec), described(found)
        reasons += [f"{shown} has another `{role}`" for role in _ROLES if was[role] != is_[role]]
        if not numbers:
            continue
        if spec.model.name != found.model.name:
            reasons.append(f"{shown} has another model; version {numbers[0]} of `{spec.model.name}` is alive")
        kept = {field.name: field.type for field in found.request}
        lost = [field.name for field in spec.request if kept.get(field.name) != field.type]
        reasons += [f"{shown} has no more a request field `{name}` of its type" for name in lost]
    return reasons
