"""Audit records live and die with the transaction of the act."""

from __future__ import annotations

import pytest
from sqlalchemy import select

from headrace.engines.catalog.sql import SqlCatalog
from headrace.kernel.identity import LOCAL
from headrace.ledger.outbox import record
from headrace.ledger.tables import OUTBOX


def test_a_record_is_committed_or_rolled_back_with_the_act(tmp_path):
    catalog = SqlCatalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}")
    with catalog.transaction() as connection:
        kept = record(connection, "fraud", "registry.approve", "fraud 3", {"reason": "b", "a": [1]}, LOCAL, 7)
    with pytest.raises(RuntimeError), catalog.transaction() as connection:
        record(connection, "fraud", "registry.approve", "fraud 4", {}, LOCAL, 8)
        raise RuntimeError("the act failed")
    with catalog.reading() as connection:
        rows = connection.execute(select(OUTBOX)).all()
    assert kept.startswith("fraud-op-")
    assert [(r.id, r.payload, r.actor_id, r.actor_role, r.at, r.leaf) for r in rows] == [
        (kept, '{"a":[1],"reason":"b"}', "local", "admin", 7, None)
    ]
