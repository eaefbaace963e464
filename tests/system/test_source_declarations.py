"""Declaring batch sources."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

import headrace as hr
from headrace.data.types import Folder, Query, SourceSpec
from headrace.kernel.errors import InvalidSystem
from headrace.kernel.times import HOUR


def _shop() -> tuple[hr.System, type]:
    system = hr.System("shop")

    @system.stream(id="id", key="id", time="at")
    class Order:
        id: int
        at: datetime

    return system, Order


def test_sources_are_declared_with_their_stream() -> None:
    system, order = _shop()
    system.source(order, hr.folder("incoming", every="1h"))
    system.source(order, hr.query("SELECT 1", watermark="a", url="env:SHOP", every="1h", history=True), name="database")
    found = {spec.name: (spec.stream, spec.reads) for spec in system.specs().all(SourceSpec)}
    assert found == {
        "order": ("order", Folder("incoming", HOUR)),
        "database": ("order", Query("SELECT 1", "a", "env:SHOP", HOUR, history=True)),
    }


@pytest.mark.parametrize(
    ("reads", "words"),
    [
        ("incoming", "neither a folder nor a query"),
        (hr.query("SELECT 1", watermark="a", url="postgresql://u:secret@host/db", every="1h"), "holds a password"),
        (hr.query("SELECT 1", watermark="a", url="not a url", every="1h"), "no SQLAlchemy URL"),
    ],
)
def test_a_wrong_source_is_refused_at_its_line(reads: Any, words: str) -> None:
    system, order = _shop()
    with pytest.raises(InvalidSystem, match=words) as raised:
        system.source(order, reads)
    assert "test_source_declarations.py:" in str(raised.value)
    assert "secret" not in str(raised.value)
