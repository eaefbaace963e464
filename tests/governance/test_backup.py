"""A backup of a busy installation opens elsewhere with the same ledger; a damaged one is refused as a whole."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import pytest
from installation import open_world
from sqlalchemy import select

from headrace.governance.backup import backup, restore
from headrace.governance.keys import create, keys
from headrace.kernel.errors import CheckFailed, InvalidInput, NotFound
from headrace.kernel.identity import LOCAL
from headrace.ledger.outbox import record
from headrace.ledger.sequencer import Sequencer
from headrace.ledger.tables import LEDGER, OUTBOX
from headrace.ledger.verify import verify

TOPICS = ("fraud/predictions/scoring", "fraud/streams/payment")


def act(ctx, number: int) -> None:
    with ctx.catalog.transaction() as connection:
        record(connection, "fraud", "registry.approve", f"fraud {number}", {}, LOCAL, number)


def published_size(ctx) -> int:
    with ctx.catalog.reading() as connection:
        return connection.scalar(select(LEDGER.c.size)) or 0


def restored_world(folder: Path, source: Path):
    """The backup opened in another place, with the key that stays outside."""
    folder.mkdir()
    restore(source, folder / "data")
    ctx = open_world(folder)
    shutil.copytree(source.parent / "keys", folder / "keys")
    return ctx


def test_a_backup_restored_elsewhere_has_the_same_state_and_ledger_root(tmp_path):
    ctx = open_world(tmp_path)
    create(ctx, name="ci", role="viewer")
    digest = ctx.blobs.put("fraud", b"a model")
    for number in range(300):
        act(ctx, number)
    for topic in TOPICS:
        ctx.events.append(topic, 0, [f"{n}".encode() for n in range(1000)])
    ctx.events.commit("group", TOPICS[1], 0, 700)
    Sequencer(ctx, digest_after=0.0).step()
    before = verify(ctx)
    made = backup(ctx, tmp_path / "backup")
    assert (made.leaves, made.root) == (before.leaves, before.root) == (301, before.root)

    again = restored_world(tmp_path / "elsewhere", tmp_path / "backup")
    assert verify(again) == before
    assert keys(again) == keys(ctx)
    assert again.blobs.get("fraud", digest) == b"a model"
    assert again.events.committed("group", TOPICS[1], 0) == 700
    for topic in TOPICS:
        assert again.events.read(topic, 0, 0).values == ctx.events.read(topic, 0, 0).values
    act(again, 300)
    sequencer = Sequencer(again)
    with again.catalog.transaction() as connection:
        connection.exec_driver_sql("UPDATE leases SET until = 0")
    assert sequencer.step() == 1
    assert verify(again, checkpoint=tmp_path / "data/audit/checkpoint").verified


def test_backups_of_an_installation_that_is_being_written_are_consistent(tmp_path):
    ctx = open_world(tmp_path)
    stop = threading.Event()

    def write() -> None:
        sequencer, number = Sequencer(ctx, digest_after=0.0), 0
        while not stop.is_set():
            act(ctx, number)
            for topic in TOPICS:
                ctx.events.append(topic, 0, [f"{number}".encode()], sync=False)
            sequencer.step()
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while published_size(ctx) == 0:
            time.sleep(0.01)
        sizes = [backup(ctx, tmp_path / f"backup{i}").leaves for i in range(4)]
    finally:
        stop.set()
        writer.join()
    assert sizes[0] < sizes[-1]
    for i, size in enumerate(sizes):
        shutil.copytree(tmp_path / "keys", tmp_path / f"there{i}" / "keys")
        restore(tmp_path / f"backup{i}", tmp_path / f"there{i}" / "data")
        there = open_world(tmp_path / f"there{i}")
        result = verify(there)
        assert (result.verified, result.leaves, result.bad) == (True, size, [])
        assert verify(ctx, checkpoint=tmp_path / f"there{i}" / "data/audit/checkpoint").verified
        with there.catalog.reading() as connection:
            acts = len(connection.execute(select(OUTBOX.c.id).where(OUTBOX.c.kind == "registry.approve")).all())
        assert there.events.end(TOPICS[1], 0) >= acts - 1
        there.events.close()
        there.catalog.close()


def test_a_damaged_backup_is_refused_and_leaves_nothing(tmp_path):
    ctx = open_world(tmp_path)
    ctx.events.append(TOPICS[0], 0, [b"x"])
    source = tmp_path / "backup"
    backup(ctx, source)
    segment = next(source.rglob("*.segment"))
    content = segment.read_bytes()
    segment.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckFailed, match="was changed in"):
        restore(source, tmp_path / "new")
    segment.unlink()
    with pytest.raises(CheckFailed, match="is missing from"):
        restore(source, tmp_path / "new")
    segment.write_bytes(content)
    manifest = source / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"catalog.sqlite"', '"../catalog.sqlite"'))
    with pytest.raises(CheckFailed, match="names"):
        restore(source, tmp_path / "new")
    manifest.write_text(text[: len(text) // 2])
    with pytest.raises(CheckFailed, match="damaged"):
        restore(source, tmp_path / "new")
    manifest.unlink()
    with pytest.raises(NotFound):
        restore(source, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["backup", "data"]
    manifest.write_text(text)
    assert restore(source, tmp_path / "new").files > 0


def test_places_that_hold_something_are_left_alone(tmp_path):
    ctx = open_world(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis").write_text("mine")
    with pytest.raises(InvalidInput, match="not an empty folder"):
        backup(ctx, tmp_path / "full")
    with pytest.raises(InvalidInput, match="inside"):
        backup(ctx, tmp_path / "data" / "backup")
    backup(ctx, tmp_path / "backup")
    with pytest.raises(InvalidInput, match="not an empty folder"):
        restore(tmp_path / "backup", tmp_path / "full")
    assert (tmp_path / "full" / "thesis").read_text() == "mine"
