"""Outbox rows and prediction batches become leaves once, in order, whatever happens to the sequencer."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from installation import open_world
from ledger_world import PREDICTIONS, act, leaves_of, predict

from headrace.kernel.errors import CheckFailed
from headrace.ledger.checkpoint import Verifier, load_key, parse_note
from headrace.ledger.entries import id_of
from headrace.ledger.merkle import CompactRange, HashedLeaves, leaf_hash
from headrace.ledger.proving import published
from headrace.ledger.sequencer import Sequencer
from headrace.ledger.tiles import TileFolder, decode_bundle, encode_bundle, tile_path, tiles_of


@pytest.fixture
def ctx(tmp_path):
    return open_world(tmp_path)


def all_entries(ctx) -> list[bytes]:
    """Read as any client of a tiled log would: the checkpoint, then every bundle."""
    audit = ctx.settings.data / "audit"
    size = parse_note((audit / "checkpoint").read_text())[0].size
    entries = []
    for level, index, width in tiles_of(size):
        if level == 0:
            entries += decode_bundle((audit / tile_path("entries", index, width)).read_bytes())
    return entries


def check_ledger(ctx) -> int:
    """Every leaf is the outbox row of its index, and the signed root is that of the entries. The number of leaves."""
    entries = all_entries(ctx)
    assigned = [leaf for leaf in leaves_of(ctx) if leaf[0] is not None]
    assert [(i, id_of(e)) for i, e in enumerate(entries)] == assigned[: len(entries)]
    checkpoint = parse_note((ctx.settings.data / "audit" / "checkpoint").read_text())[0]
    assert checkpoint.root == HashedLeaves([leaf_hash(e) for e in entries]).root()
    return len(entries)


def test_tile_paths_are_those_of_the_specification():
    assert tile_path(0, 1234067) == "tile/0/x001/x234/067"
    assert tile_path("entries", 5, 17) == "tile/entries/005.p/17"
    sizes = [(level, width) for level, _, width in tiles_of(70_000)]
    assert sizes.count((0, 256)) == 273
    assert [s for s in sizes if s != (0, 256)] == [(0, 112), (1, 256), (1, 17), (2, 1)]
    assert tiles_of(256) == [(0, 0, 256), (1, 0, 1)]


@given(st.lists(st.binary(max_size=300), max_size=20))
def test_bundles_give_back_their_entries(entries):
    assert decode_bundle(encode_bundle(entries)) == entries


@pytest.mark.parametrize("chunk", [1, 97, 700])
def test_leaves_tiles_and_signature_for_growing_trees(ctx, chunk):
    sequencer = Sequencer(ctx)
    done = 0
    while done < 700:
        act(ctx, min(chunk, 700 - done) if chunk > 1 else 70, first=done)
        done += min(chunk, 700 - done) if chunk > 1 else 70
        assert sequencer.step() > 0
    assert sequencer.step() == 0
    assert check_ledger(ctx) == 700
    tiles, growing = TileFolder(ctx.settings.data / "audit"), CompactRange()
    for entry in all_entries(ctx):
        growing.append(leaf_hash(entry))
    assert CompactRange.load(700, lambda level, index: tiles.node(700, level, index)).hashes == growing.hashes
    files = {str(f.relative_to(tiles.folder)) for f in (tiles.folder / "tile").rglob("*") if f.is_file()}
    needed = {tile_path(level, index, width) for level, index, width in tiles_of(700)}
    needed |= {tile_path("entries", index, width) for level, index, width in tiles_of(700) if level == 0}
    assert needed <= files
    assert all(".p/" in file for file in files - needed)


def test_the_checkpoint_is_signed_with_a_key_outside_the_data_folder(ctx, tmp_path):
    act(ctx, 3)
    Sequencer(ctx).step()
    key = tmp_path / "keys" / "signing.key"
    assert key.stat().st_mode & 0o777 == 0o600
    note = (ctx.settings.data / "audit" / "checkpoint").read_text()
    private = load_key(ctx.settings, create=False)
    assert private is not None
    verifier = Verifier(parse_note(note)[0].origin, private.public_key())
    assert Verifier.parse(verifier.text).open(note).size == 3
    with pytest.raises(CheckFailed, match="signature is wrong"):
        verifier.open(note.replace("\n3\n", "\n4\n"))
    with pytest.raises(CheckFailed, match="not signed by"):
        Verifier("other", private.public_key()).open(note)


def test_what_a_killed_process_of_the_same_number_left_does_not_keep_a_key_from_being_made(ctx, tmp_path):
    folder = tmp_path / "keys"
    folder.mkdir()
    (folder / f".signing.key.{os.getpid()}").write_bytes(b"half a ke")
    assert load_key(ctx.settings, create=True) is not None
    assert (folder / "signing.key").stat().st_mode & 0o777 == 0o600
    assert len(list(folder.iterdir())) == 2


def test_predictions_are_digested_in_contiguous_batches_of_every_system(ctx, tmp_path):
    predict(ctx, 5)
    ctx.events.append("churn/predictions/churn", 0, [b"a", b"b"])
    ctx.events.append("churn/streams/order", 0, [b"no prediction"])
    sequencer = Sequencer(ctx, digest_after=0.0)
    assert sequencer.step() == 2
    predict(ctx, 4, first=5)
    assert sequencer.step() == 1
    sequencer.close()
    again = Sequencer(ctx, digest_after=0.0)
    payloads = [msgspec.json.decode(e) for e in all_entries(ctx)]
    assert [(p["system"], p["payload"]["topic"], p["payload"]["from"], p["payload"]["to"]) for p in payloads] == [
        ("churn", "churn/predictions/churn", 0, 2),
        ("fraud", PREDICTIONS, 0, 5),
        ("fraud", PREDICTIONS, 5, 9),
    ]
    values = ctx.events.read(PREDICTIONS, 0, 5).values
    assert payloads[2]["payload"]["digest"] == HashedLeaves([leaf_hash(v) for v in values]).root().hex()
    assert again.step() == 0
    assert check_ledger(ctx) == 3


@given(st.lists(st.integers(1, 6000), min_size=1, max_size=3), st.integers(0, 9000))
@settings(max_examples=3, deadline=None)
def test_the_same_predictions_make_the_same_leaves_whenever_the_sequencer_comes_by(parts, rest):
    """Batches end at multiples of 4096; what is left enters when a checkpoint asks for it."""
    with TemporaryDirectory() as folder:
        ctx = open_world(Path(folder))
        sequencer = Sequencer(ctx)
        done = 0
        for part in [*parts, rest]:
            predict(ctx, part, first=done)
            done += part
            sequencer.step()
        ends = [*range(4096, done, 4096), done]
        sequencer.step()
        assert len(leaves_of(ctx)) == done // 4096
        sequencer.close()
        published(ctx)
        assert check_ledger(ctx) == len(ends)
        payloads = [msgspec.json.decode(e)["payload"] for e in all_entries(ctx)]
        assert [(p["from"], p["to"]) for p in payloads] == list(zip([0, *ends], ends, strict=False))


def test_predictions_wait_for_their_batch_only_so_long(ctx):
    sequencer = Sequencer(ctx, digest_after=0.3)
    predict(ctx, 5)
    assert sequencer.step() == 0
    time.sleep(0.4)
    assert sequencer.step() == 1
    predict(ctx, 4, first=5)
    assert sequencer.step() == 0, "the next ones wait anew"
    time.sleep(0.4)
    assert sequencer.step() == 1
    assert check_ledger(ctx) == 2


def test_a_checkpoint_covers_what_waits_beside_a_leader(ctx, tmp_path):
    leader = Sequencer(open_world(tmp_path))
    predict(ctx, 5)
    assert leader.step() == 0
    with ThreadPoolExecutor(1) as pool:
        note = pool.submit(published, ctx)
        while not note.done():
            leader.step()
    assert parse_note(note.result())[0].size == 1
    predict(ctx, 5000, first=5)
    assert leader.step() == 1, "the batch that a checkpoint began early still ends at its multiple"
    assert check_ledger(ctx) == 2


def test_only_one_sequencer_leads(ctx, tmp_path):
    first, second = Sequencer(ctx), Sequencer(open_world(tmp_path))
    act(ctx, 2)
    assert first.step() == 2
    act(ctx, 2)
    assert second.step() == 0
    assert first.step() == 2
    act(ctx, 2)
    first.close()
    second = Sequencer(open_world(tmp_path))
    assert second.step() == 2
    assert check_ledger(ctx) == 6


def test_after_a_kill_the_next_process_of_the_same_place_leads_at_once_and_nobody_else(ctx, tmp_path):
    killed = Sequencer(ctx, holder=ctx.place)
    act(ctx, 2)
    assert killed.step() == 2
    act(ctx, 3)
    other = open_world(tmp_path, "another-system")
    assert Sequencer(other, holder=other.place).step() == 0, "it has a lock of its own and may run beside"
    assert Sequencer(open_world(tmp_path)).step() == 0
    again = open_world(tmp_path)
    assert Sequencer(again, holder=again.place).step() == 3
    assert check_ledger(ctx) == 5


def test_a_leader_that_slept_through_its_lease_publishes_nothing_and_then_follows(ctx, tmp_path):
    sleeping, other = Sequencer(ctx), Sequencer(open_world(tmp_path))
    act(ctx, 2)
    assert sleeping.step() == 2
    expire_lease(ctx)
    act(ctx, 3)
    assert other.step() == 3
    published = (ctx.settings.data / "audit" / "checkpoint").read_text()
    act(ctx, 1)
    with pytest.raises(CheckFailed, match="another sequencer has published"):
        sleeping.step()
    assert (ctx.settings.data / "audit" / "checkpoint").read_text() == published
    assert other.step() + sleeping.step() == 1
    assert check_ledger(ctx) == 6


def test_a_payload_too_long_for_a_leaf_is_represented_by_its_digest(ctx):
    from headrace.kernel.identity import LOCAL
    from headrace.ledger.outbox import record

    with ctx.catalog.transaction() as connection:
        record(connection, "fraud", "runs.finish", "r", {"text": "x" * 80_000}, LOCAL, 1)
    assert Sequencer(ctx).step() == 1
    assert set(msgspec.json.decode(all_entries(ctx)[0])["payload"]) == {"sha256", "bytes"}


def test_a_damaged_or_cut_ledger_is_never_extended(ctx, tmp_path):
    sequencer = Sequencer(ctx)
    act(ctx, 3)
    sequencer.step()
    audit = ctx.settings.data / "audit"
    old = (audit / "checkpoint").read_bytes()
    act(ctx, 3)
    sequencer.step()
    sequencer.close()
    tile, key = audit / "tile/0/000.p/6", tmp_path / "keys" / "signing.key"
    kept = {path: path.read_bytes() for path in (audit / "checkpoint", tile, key)}
    for path, damaged in ((audit / "checkpoint", old), (audit / "checkpoint", None), (tile, bytes(192)), (key, None)):
        if damaged is None:
            path.unlink()
        else:
            path.write_bytes(damaged)
        act(ctx, 1)
        refusing = Sequencer(ctx)
        with pytest.raises(CheckFailed):
            refusing.step()
        refusing.close()
        for file, content in kept.items():
            file.write_bytes(content)
    assert Sequencer(ctx).step() == 4
    assert check_ledger(ctx) == 10


def kill_and_restart(folder: Path, ctx, rounds: int, seed: int) -> int:
    """Kill a stepping process at random moments while operations and predictions arrive; the number of operations."""
    rng = random.Random(seed)
    done = 0
    for _ in range(rounds):
        act(ctx, 1, first=done)
        done += 1
        child = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("ledger_world.py")), str(folder)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert child.stdout is not None
        child.stdout.readline()
        until = time.monotonic() + rng.uniform(0.02, 0.5)
        while time.monotonic() < until:
            number = rng.randint(1, 120)
            act(ctx, number, first=done)
            predict(ctx, 3, first=done)
            done += number
            time.sleep(0.01)
        child.kill()
        child.wait()
        child.stdout.close()
        expire_lease(ctx)
    return done


def expire_lease(ctx) -> None:
    """What waiting for the dead holder's lease would do."""
    with ctx.catalog.transaction() as connection:
        connection.exec_driver_sql("UPDATE leases SET until = 0")


@pytest.mark.parametrize("rounds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_sigkill_at_random_moments_loses_and_doubles_nothing(ctx, tmp_path, rounds):
    done = kill_and_restart(tmp_path, ctx, rounds, seed=rounds)
    assert check_ledger(ctx) > 0
    Sequencer(ctx, digest_after=0.0).step()
    leaves = leaves_of(ctx)
    assert check_ledger(ctx) == len(leaves)
    assert [leaf for leaf, _ in leaves] == list(range(len(leaves)))
    entries = [msgspec.json.decode(e) for e in all_entries(ctx)]
    operations = [e["subject"] for e in entries if e["kind"] == "registry.approve"]
    assert operations == [f"fraud {n}" for n in range(done)]
    batches = [e["payload"] for e in entries if e["kind"] == "predictions"]
    assert [b["from"] for b in batches] == [0, *[b["to"] for b in batches[:-1]]]
    assert batches[-1]["to"] == ctx.events.end(PREDICTIONS, 0)
