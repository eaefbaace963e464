"""The catalog port: one SQL database; SQLAlchemy Core is the interface, domains bring their tables.

Every table has a column `system`. A domain's `tables.py` makes its tables on `METADATA`; `app/tables.py` imports them all.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from sqlalchemy import Connection, MetaData

METADATA = MetaData()


class Catalog(Protocol):
    def transaction(self) -> AbstractContextManager[Connection]:
        """A write transaction: committed on success, rolled back on an exception. Serialised between processes."""
        ...

    def reading(self) -> AbstractContextManager[Connection]:
        """A read transaction."""
        ...

    def lease(self, name: str, holder: str, seconds: float) -> bool:
        """Take or renew the lease `name` (machine clock); False when another holder has it."""
        ...

    def changes(self) -> int:
        """A number that is another one after every commit of anyone: cheap enough to ask many times a second."""
        ...

    def close(self) -> None: ...
