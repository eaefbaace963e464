"""Engines chosen by URL; the only module that imports one, those with a heavy library on first use. A URL left empty means the
embedded engine inside `data`."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from urllib.parse import unquote

from headrace.engines.blobs.files import FileBlobs
from headrace.engines.blobs.port import BlobStore
from headrace.engines.catalog.port import Catalog
from headrace.engines.catalog.sql import SqlCatalog, catalog_path
from headrace.engines.compute.children import ChildCompute
from headrace.engines.context import Context
from headrace.engines.events.repairs import Repair, repairs
from headrace.engines.events.segments import SegmentLog
from headrace.engines.lake.port import Lake
from headrace.kernel.clocks import EventClock
from headrace.kernel.errors import EngineUnreachable, HeadraceError, IncompatibleFormat, InvalidInput
from headrace.kernel.namespace import Namespace
from headrace.kernel.settings import Settings
from headrace.kernel.specs import Specs

DATA_FORMAT = 1


def prepare_data_folder(folder: Path) -> None:
    """Create the folder with its format mark, or refuse one of a newer format, or whose path deltalake 1.6 would decode: it
    writes a table below `a%20b` and looks for it below `a b`."""
    path = str(folder.resolve())
    if unquote(path) != path:
        (escape,) = re.findall("%[0-9A-Fa-f]{2}", path)[:1]
        raise InvalidInput(
            f"the path of the data folder `{path}` has `{escape}`, which the lake would read as `{unquote(escape)}`",
            hint="rename it, or choose another folder with --data",
        )
    mark = folder / "format"
    if mark.exists():
        found = mark.read_text().strip()
        if not found.isdigit() or int(found) > DATA_FORMAT:
            raise IncompatibleFormat.newer(f"`{folder}`", found, DATA_FORMAT, otherwise="choose another folder with --data")
        return
    if folder.exists() and any(folder.iterdir()):
        raise InvalidInput(f"`{folder}` is not empty and is no data folder", hint="choose another folder with --data")
    folder.mkdir(parents=True, exist_ok=True)
    mark.write_text(f"{DATA_FORMAT}\n")


def url_problems(settings: Settings) -> Iterator[HeadraceError]:
    """What is wrong with each URL: an engine that this version has not, or a catalog that cannot be opened."""
    for setting in ("events", "online", "lake", "blobs", "compute"):
        scheme = getattr(settings, setting).partition(":")[0]
        if scheme:
            yield InvalidInput(
                f"`{setting}` names the engine `{scheme}`, which this version has not; allowed: empty, the embedded engine",
                hint=f"unset HEADRACE_{setting.upper()}",
            )
    if settings.catalog:
        try:
            _check_openable(settings.catalog)
        except HeadraceError as error:
            yield error


def check_urls(settings: Settings) -> None:
    """Raise the first of `url_problems`."""
    for problem in url_problems(settings):
        raise problem


def _check_openable(url: str) -> None:
    """Nothing is made: a file that is not there yet only needs its folder."""
    path = catalog_path(url).absolute()
    if not path.parent.is_dir():
        raise EngineUnreachable(
            f"the catalog `{url}` cannot be opened: there is no folder `{path.parent}`", hint=f"mkdir -p {path.parent}"
        )
    if not path.exists():
        return
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as connection:
            connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.DatabaseError as error:
        raise EngineUnreachable(f"the catalog `{url}` cannot be opened: {error}", hint="unset HEADRACE_CATALOG") from None


def _catalog_url(settings: Settings) -> str:
    return settings.catalog or f"sqlite:///{settings.data / 'catalog.sqlite'}"


def check_catalog(settings: Settings) -> None:
    """InvalidInput when the catalog is missing or empty beside an audit log or events: a new one knows nothing of them."""
    beside = [settings.data / "audit/checkpoint", *(settings.data / "events").glob("*/")]
    found = next((path for path in beside if path.exists()), None)
    url = _catalog_url(settings)
    path = Path(url.removeprefix("sqlite:///"))
    if found is None or not url.startswith("sqlite:///") or _has_tables(path):  # opening refuses another engine
        return
    raise InvalidInput(
        f"the catalog `{path}` is {'empty' if path.exists() else 'missing'}, though `{found}` of its installation is there",
        hint="put it back, or restore a backup into a new folder: `headrace restore BACKUP --data NEW`",
    )


def _has_tables(path: Path) -> bool:
    """Whether it is a database with any table, or one so damaged that opening it will say so."""
    if not path.is_file() or not path.stat().st_size:
        return False
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True)) as connection:
            return connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None
    except sqlite3.DatabaseError:
        return True


def open_catalog(settings: Settings) -> Catalog:
    """Open only the catalog of the installation."""
    prepare_data_folder(settings.data)
    check_catalog(settings)
    return SqlCatalog(_catalog_url(settings))


def open_blobs(settings: Settings) -> BlobStore:
    """Open only the blobs of the installation."""
    return FileBlobs(settings.data / "blobs")


def open_lake(settings: Settings) -> Lake:
    """Open only the lake of the installation."""
    from headrace.engines.lake.delta import DeltaLake

    return DeltaLake(settings.data / "lake")


def event_log_repairs(settings: Settings) -> list[Repair]:
    """The unfinished appends that were cut off the embedded event log when it was opened after a crash."""
    return repairs(settings.data / "events")


def open_context(
    settings: Settings,
    system: str,
    specs: Specs,
    *,
    clock: EventClock,
    file: str | None = None,
) -> Context:
    """Open every engine of the installation for one system."""
    from headrace.engines.online.lmdb_store import LmdbStore

    check_urls(settings)
    prepare_data_folder(settings.data)
    data = settings.data
    with ExitStack() as opened:  # closes what is open already when the next cannot be opened
        ctx = Context(
            settings=settings,
            namespace=Namespace(system),
            specs=specs,
            clock=clock,
            catalog=opened.enter_context(closing(open_catalog(settings))),
            events=opened.enter_context(closing(SegmentLog(data / "events"))),
            online=opened.enter_context(closing(LmdbStore(data / "online" / system))),
            lake=open_lake(settings),
            blobs=open_blobs(settings),
            compute=ChildCompute(data / "run" / system / "jobs"),
            file=file,
        )
        opened.pop_all()
        return ctx
