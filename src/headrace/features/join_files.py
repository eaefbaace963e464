"""The point-in-time join of files, described by a JSON file."""

from __future__ import annotations

import resource
from pathlib import Path
from typing import Any

import msgspec

from headrace.data.files import check_out, write_table
from headrace.features.attribute_tables import as_frame
from headrace.features.point_in_time import View, point_in_time_join
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput, NotFound


class LabelsFile(msgspec.Struct, forbid_unknown_fields=True):
    path: str
    time: str = "at"


class ViewFile(msgspec.Struct, forbid_unknown_fields=True):
    """As `View`, with `path` for the table."""

    name: str
    path: str
    keys: list[str]
    time: str
    created: str | None = None
    ttl: str | None = None
    rename: dict[str, str] = {}
    columns: list[str] | None = None


class JoinFile(msgspec.Struct, forbid_unknown_fields=True):
    """`{"labels": {"path", "time"}, "views": [...], "as_known": true}`."""

    labels: LabelsFile
    views: list[ViewFile]
    as_known: bool = True


def join_files(spec: Path, out: Path) -> dict[str, Any]:
    """Write the labels with the columns of the views (Parquet). Paths are relative to the spec's folder, or absolute.

    Returns `{"rows", "columns", "seconds", "peak_rss_mb"}`. InvalidInput names what is wrong in the spec.
    """
    began = MACHINE.monotonic()
    if not spec.is_file():
        raise NotFound(f"there is no file `{spec}`", hint="check the path")
    try:
        join = msgspec.json.decode(spec.read_bytes(), type=JoinFile)
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"`{spec}` is no join: {error}", hint='write {"labels": {"path", "time"}, "views": [...]}') from None

    def found(path: str) -> Path:
        beside = spec.parent / path
        return beside if beside.is_file() or Path(path).is_absolute() else Path(path)

    views = [View(v.name, found(v.path), v.keys, v.time, v.created, v.ttl, v.rename, v.columns) for v in join.views]
    check_out(out, found(join.labels.path), *(found(view.path) for view in join.views))
    labels = as_frame(found(join.labels.path))
    joined = point_in_time_join(labels, views, time=join.labels.time, as_known=join.as_known)
    write_table(joined, out)
    return {
        "rows": len(joined),
        "columns": len(joined.columns) - len(labels.columns),
        "seconds": round(MACHINE.monotonic() - began, 3),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    }
