"""The batch sources that are read into a stream."""

from __future__ import annotations

import re

from headrace.data.types import Folder, Query, SourceSpec
from headrace.kernel.errors import InvalidSystem
from headrace.system.terms import span

_URL = re.compile(r"[\w+]+://(?:[^:/]*(?::(?P<password>[^@]*))?@)?")
"""The beginning of a database URL as SQLAlchemy reads it, which a declaration does not load."""


def folder(path: str, *, every: str, history: bool = False) -> Folder:
    """Files of events (Parquet, CSV, NDJSON, also `.gz`) in a folder, looked for every period."""
    return Folder(path, span(every), history)


def query(sql: str, *, watermark: str, url: str, every: str, history: bool = False) -> Query:
    """Rows of a SQL query, asked every period for those whose `watermark` is not below the highest seen."""
    return Query(sql, watermark, url, span(every), history)


def checked_source(spec: SourceSpec) -> SourceSpec:
    """The source. InvalidSystem for one that is neither folder nor query, or whose URL is wrong or holds a password."""
    reads: object = spec.reads
    if not isinstance(reads, Folder | Query):
        raise InvalidSystem(f"{spec.where}: source=`{reads!r}` of `{spec.stream}` is neither a folder nor a query",
                            hint='system.source(Order, hr.folder("incoming", every="1h"))')  # fmt: skip
    if isinstance(reads, Query) and not reads.url.startswith(("env:", "file:")):
        url = _URL.match(reads.url)
        if url is None:
            raise InvalidSystem(f"{spec.where}: url= of the source of `{spec.stream}` is no SQLAlchemy URL",
                                hint='for example url="env:SHOP_DATABASE"')  # fmt: skip
        if url["password"] is not None:
            raise InvalidSystem(f"{spec.where}: url= of the source of `{spec.stream}` holds a password",
                                hint='keep it outside the file: url="env:SHOP_DATABASE"')  # fmt: skip
    return spec
