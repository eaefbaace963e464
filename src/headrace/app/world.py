"""Opening the world of one system: its Context in each of its processes, and the memory of which systems ran here."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select

import headrace.app.tables  # noqa: F401  (every domain's tables are on METADATA before the catalog opens)
from headrace.app.run import EMPTY_PLATFORM
from headrace.app.tables import systems
from headrace.engines.context import Context
from headrace.engines.open import open_blobs, open_catalog, open_context
from headrace.kernel.clocks import MACHINE, EventClock, RealEventClock, VirtualEventClock
from headrace.kernel.errors import NotFound, UsageError
from headrace.kernel.ids import checked_name, content_hash
from headrace.kernel.settings import Settings, load_settings
from headrace.kernel.specs import Specs
from headrace.system.load import load_kept, load_system
from headrace.system.taking import hide_personal


@dataclass(frozen=True, slots=True)
class KnownSystem:
    """A system that ran in this installation."""

    name: str
    file: str | None
    clock: str


def clock_of(data: Path, system: str, kind: str) -> EventClock:
    """The event clock of a system: `real`, or the `virtual` one that its processes share in DATA/clock."""
    return VirtualEventClock(data / "clock" / system) if kind == "virtual" else RealEventClock()


def world(settings: Settings, system: str, specs: Specs, *, clock: str, file: str | None) -> Context:
    """Open every engine; personal fields of the declarations are hidden in the log from here on."""
    hide_personal(specs)
    return open_context(settings, system, specs, clock=clock_of(settings.data, system, clock), file=file)


def context(arguments: Mapping[str, str | None]) -> Context:
    """The Context that `Context.child_arguments` describes, opened in a child process."""
    file, data, system, clock = (arguments[name] for name in ("file", "data", "system", "clock"))
    assert data is not None and system is not None and clock is not None
    settings = replace(load_settings(), data=Path(data))
    return world(settings, system, _declared(settings, system, file, arguments.get("source")), clock=clock, file=file)


def _declared(settings: Settings, system: str, file: str | None, source: str | None) -> Specs:
    """What the parent runs: the content that it keeps; the file when it does not yet, while it starts."""
    if file is None:
        return Specs()
    if source is None:
        return load_system(file).specs()
    try:
        content = open_blobs(settings).get(system, source)
    except NotFound:
        return load_system(file).specs()
    return load_kept(file, content)


def remember(ctx: Context) -> None:
    """Note that the system runs in this installation, with its file, so that commands find it by name."""
    path = None if ctx.file is None else Path(ctx.file.partition(":")[0])
    now = MACHINE.now()
    values = {
        "file": ctx.file,
        "file_hash": None if path is None else content_hash(path.read_bytes()),
        "clock": "virtual" if ctx.clock.virtual else "real",
        "last_run_at": now,
    }
    with ctx.catalog.transaction() as connection:
        changed = connection.execute(systems.update().where(systems.c.system == ctx.system).values(**values)).rowcount
        if not changed:
            connection.execute(systems.insert().values(system=ctx.system, first_run_at=now, **values))


def known_systems(settings: Settings) -> list[KnownSystem]:
    """Every system that ran in this installation, in order of name."""
    with closing(open_catalog(settings)) as catalog, catalog.reading() as connection:
        rows = connection.execute(select(systems).order_by(systems.c.system)).all()
    return [KnownSystem(row.system, row.file, row.clock) for row in rows]


def choose(settings: Settings, name: str | None) -> KnownSystem:
    """The system a command works on: the one named, or the only one. NotFound and UsageError list the known."""
    known = {system.name: system for system in known_systems(settings)}
    if not known and name is None:
        raise UsageError(
            f"no system ran in `{settings.data}` yet",
            hint=f"name the one that will with --system NAME; an empty platform is `{EMPTY_PLATFORM}`",
        )
    if not known:
        return KnownSystem(checked_name("system", str(name)), None, "real")
    if name is not None:
        if name not in known:
            raise NotFound.of("system", name, known)
        return known[name]
    if len(known) > 1:
        names = ", ".join(f"`{other}`" for other in known)
        raise UsageError(f"`{settings.data}` holds {len(known)} systems: {names}", hint="name one with --system NAME")
    return next(iter(known.values()))


def check_installed(settings: Settings) -> None:
    """NotFound when the data folder of the settings is none."""
    if not (settings.data / "format").exists():
        found = "is no data folder of headrace: it has no file `format`" if settings.data.exists() else "does not exist"
        raise NotFound(f"`{settings.data}` {found}", hint="start a system with `headrace run FILE`, or name it with --data")


def installed(settings: Settings, name: str | None, *, create: bool = False) -> Context:
    """The Context of a command on the data folder. NotFound when there is none and `create` is false."""
    if not create:
        check_installed(settings)
    system = choose(settings, name)
    if system.file and not Path(system.file.partition(":")[0]).is_file():
        raise NotFound(
            f"`{system.name}` last ran from `{system.file}`, which is not there any more",
            hint="start it once from its new place: `headrace run FILE`",
        )
    specs = load_system(system.file).specs() if system.file else Specs()
    return world(settings, system.name, specs, clock=system.clock, file=system.file)
