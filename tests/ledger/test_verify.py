"""Every kind of tampering is found; an untouched ledger verifies."""

from __future__ import annotations

import shutil
import sqlite3

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from installation import open_world
from ledger_world import PREDICTIONS, act, predict

from headrace.kernel.errors import InvalidInput, NotFound
from headrace.ledger.checkpoint import Checkpoint, Signer, Verifier, load_key, parse_note
from headrace.ledger.merkle import CompactRange, HashedLeaves, leaf_hash
from headrace.ledger.sequencer import Sequencer
from headrace.ledger.tiles import TileFolder, decode_bundle, encode_bundle
from headrace.ledger.verify import verify

OPERATIONS = 300
LEAVES = OPERATIONS + 3


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A ledger of 300 operations and three batches of predictions, closed."""
    folder = tmp_path_factory.mktemp("ledger")
    ctx = open_world(folder)
    sequencer = Sequencer(ctx, digest_after=0.0)
    for part in range(3):
        act(ctx, 100, first=part * 100)
        predict(ctx, 20, first=part * 20)
        sequencer.step()
    sequencer.close()
    ctx.events.close()
    ctx.catalog.close()
    return folder


@pytest.fixture
def folder(original, tmp_path):
    shutil.copytree(original, tmp_path, dirs_exist_ok=True)
    return tmp_path


def sql(folder, statement: str, *values) -> None:
    with sqlite3.connect(folder / "data" / "catalog.sqlite") as connection:
        assert connection.execute(statement, values).rowcount != 0


def found(folder, **arguments) -> list[tuple[int | None, str]]:
    ctx = open_world(folder)
    result = verify(ctx, **arguments)
    ctx.events.close()
    ctx.catalog.close()
    assert result.verified == (not result.bad)
    return [(finding.index, finding.why) for finding in result.bad]


def bundle(folder, index: int = 0):
    return folder / "data" / "audit" / "tile" / "entries" / (f"{index:03d}" if index == 0 else f"{index:03d}.p/{LEAVES - 256}")


def test_an_untouched_ledger_verifies(folder):
    ctx = open_world(folder)
    result = verify(ctx)
    assert (result.verified, result.leaves, result.bad) == (True, LEAVES, [])
    assert result.root == parse_note((folder / "data/audit/checkpoint").read_text())[0].root.hex()


def test_nothing_written_yet_verifies(tmp_path):
    assert verify(open_world(tmp_path)).verified


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_any_changed_byte_of_any_entry_is_found(folder, data):
    file = bundle(folder, data.draw(st.integers(0, 1)))
    content = file.read_bytes()
    at, bit = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(0, 7))
    file.write_bytes(content[:at] + bytes([content[at] ^ 1 << bit]) + content[at + 1 :])
    try:
        assert found(folder)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize(
    "change",
    ["payload = '{}'", "subject = 'x'", "kind = 'x'", "actor_name = 'x'", "actor_role = 'viewer'", "actor_id = 'x'",
     "at = at + 1", "machine_at = machine_at - 1", "system = 'churn'", "id = 'fraud-op-x'"],
)  # fmt: skip
def test_any_changed_column_of_the_outbox_is_found(folder, change):
    sql(folder, f"UPDATE outbox SET {change} WHERE leaf = 57")
    assert [index for index, _ in found(folder)] == [57]


def test_a_deleted_outbox_row_is_found(folder):
    sql(folder, "DELETE FROM outbox WHERE leaf = 57")
    assert found(folder) == [(57, "its record is missing from the catalog")]
    sql(folder, "DELETE FROM outbox WHERE leaf > 290")
    assert [index for index, _ in found(folder)] == [57, *range(291, LEAVES)]


def test_reordered_outbox_rows_are_found(folder):
    sql(folder, "UPDATE outbox SET leaf = -1 WHERE leaf = 10")
    sql(folder, "UPDATE outbox SET leaf = 10 WHERE leaf = 11")
    sql(folder, "UPDATE outbox SET leaf = 11 WHERE leaf = -1")
    assert [index for index, _ in found(folder)] == [10, 11]


def test_deleted_and_reordered_entries_are_found(folder):
    entries = decode_bundle(bundle(folder).read_bytes())
    bundle(folder).write_bytes(encode_bundle([*entries[:9], entries[10], entries[9], *entries[11:]]))
    assert {index for index, _ in found(folder)} == {9, 10, None}
    bundle(folder).write_bytes(encode_bundle([*entries[:9], *entries[10:]]))
    assert {9, 254, 255, None} <= {index for index, _ in found(folder)}
    bundle(folder).write_bytes(encode_bundle(entries) + b"\0")
    assert [why for _, why in found(folder)] == ["has more than its entries"]
    bundle(folder).unlink()
    assert {index for index, _ in found(folder)} == {None, *range(256), 302}


def test_damaged_and_missing_tiles_are_found(folder):
    audit = folder / "data" / "audit"
    for tile, index in (("tile/0/000", 3), (f"tile/0/001.p/{LEAVES - 256}", 259), ("tile/1/000.p/1", None)):
        content = (audit / tile).read_bytes()
        at = 96 if len(content) > 96 else 0
        (audit / tile).write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        assert [i for i, _ in found(folder)] == [index]
        (audit / tile).unlink()
        assert len(found(folder)) == 1
        (audit / tile).write_bytes(content)


def test_changed_and_cut_prediction_records_are_found(folder, original):
    ctx = open_world(folder)
    values = ctx.events.read(PREDICTIONS, 0, 0).values
    ctx.events.close()
    topic = folder / "data" / "events" / PREDICTIONS

    def rebuilt(changed) -> list[tuple[int | None, str]]:
        """A prediction log with sound check sums but other content."""
        shutil.rmtree(topic)
        again = open_world(folder)
        again.events.append(PREDICTIONS, 0, changed)
        again.events.close()
        return found(folder)

    assert rebuilt(values) == []
    changed = rebuilt([*values[:25], values[25].replace(b"3.", b"4."), *values[26:]])
    assert [(i, why.split("`")[-1]) for i, why in changed] == [(201, " were changed")]
    assert [i for i, _ in rebuilt([*values[:25], *values[26:]])] == [201, 302]
    assert [i for i, _ in rebuilt([*values[:30], values[31], values[30], *values[32:]])] == [201]
    assert rebuilt(values[:50])[0][1].endswith("are cut: 10 of 20 are left")
    shutil.rmtree(topic)
    assert len(found(folder)) == 3


def test_a_flipped_byte_in_the_prediction_log_is_found(folder):
    segment = next((folder / "data" / "events" / PREDICTIONS).rglob("*.segment"))
    content = segment.read_bytes()
    at = content.index(b"fraud-25")
    segment.write_bytes(content[:at] + b"F" + content[at + 1 :])
    assert 201 in [index for index, _ in found(folder)]


def test_a_cut_ledger_is_found_by_the_catalog_and_by_a_saved_checkpoint(folder, tmp_path):
    audit = folder / "data" / "audit"
    saved = tmp_path / "saved"
    saved.write_bytes((audit / "checkpoint").read_bytes())
    assert found(folder, checkpoint=saved) == []
    key = load_key(open_world(folder).settings, create=False)
    assert key is not None
    current = parse_note(saved.read_text())[0]
    ctx = open_world(folder)
    tiles_root = _root_of_first(ctx, 256)
    (audit / "checkpoint").write_text(Signer(current.origin, key).sign(Checkpoint(current.origin, 256, tiles_root)))
    assert [why for _, why in found(folder)] == [f"cut: {LEAVES} leaves were published, it has 256"]
    sql(folder, "UPDATE ledger SET size = 256")
    sql(folder, "DELETE FROM outbox WHERE leaf >= 256")
    assert found(folder) == []
    assert [why for _, why in found(folder, checkpoint=saved)] == [
        f"it has {LEAVES} leaves, the ledger has 256: cut or rebuilt"
    ]


def _root_of_first(ctx, size: int) -> bytes:
    tiles = TileFolder(ctx.settings.data / "audit")
    return CompactRange.load(size, lambda level, index: tiles.node(LEAVES, level, index)).root()


def test_entries_tiles_and_catalog_changed_together_are_found_by_the_signed_root(folder):
    """All that somebody can do who may write every file and the catalog, but has not the key."""
    audit = folder / "data" / "audit"
    entries = decode_bundle(bundle(folder).read_bytes())
    forged = entries[57].replace(b'"reason":"r57"', b'"reason":"x57"')
    assert forged != entries[57]
    entries[57] = forged
    bundle(folder).write_bytes(encode_bundle(entries))
    hashes = [leaf_hash(entry) for entry in entries]
    (audit / "tile/0/000").write_bytes(b"".join(hashes))
    (audit / "tile/1/000.p/1").write_bytes(HashedLeaves(hashes).root())
    sql(folder, "UPDATE outbox SET payload = ? WHERE leaf = 57", '{"reason":"x57"}')
    assert found(folder) == [(None, "the signed root is not that of the entries")]


@pytest.mark.parametrize("keep_name", [True, False])
def test_a_wholly_rebuilt_ledger_is_found_with_a_checkpoint_saved_elsewhere(folder, tmp_path, keep_name):
    """Rebuilt by somebody who has the signing key: files, catalog and signature agree with each other."""
    saved = tmp_path / "saved"
    saved.write_bytes((folder / "data/audit/checkpoint").read_bytes())
    shutil.rmtree(folder / "data/audit")
    sql(folder, "UPDATE outbox SET leaf = NULL")
    sql(folder, "DELETE FROM outbox WHERE subject = 'fraud 57'")
    sql(folder, "UPDATE ledger SET size = 0, note = ''" if keep_name else "DELETE FROM ledger")
    ctx = open_world(folder)
    act(ctx, 5)
    assert Sequencer(ctx).step() == LEAVES - 1 + 5
    assert found(folder) == []
    assert len(found(folder, checkpoint=saved)) == 1


def test_a_forged_signature_is_found(folder, tmp_path):
    checkpoint = folder / "data/audit/checkpoint"
    current = parse_note(checkpoint.read_text())[0]
    public = Verifier(current.origin, load_key(open_world(folder).settings, create=False).public_key()).text
    checkpoint.write_text(Signer(current.origin, Ed25519PrivateKey.generate()).sign(current))
    assert "not signed by" in found(folder)[0][1]
    assert "not signed by" in found(folder, key=public)[0][1]
    (tmp_path / "keys/signing.key").unlink()
    with pytest.raises(InvalidInput, match="no key to check"):
        found(folder)
    checkpoint.write_text("nonsense")
    assert "not a signed note" in found(folder, key=public)[0][1]


def test_a_public_key_is_enough_to_verify(folder, tmp_path):
    key = load_key(open_world(folder).settings, create=False)
    current = parse_note((folder / "data/audit/checkpoint").read_text())[0]
    public = tmp_path / "key.pub"
    public.write_text(Verifier(current.origin, key.public_key()).text + "\n")
    (tmp_path / "keys/signing.key").unlink()
    assert found(folder, key=str(public)) == []
    with pytest.raises(InvalidInput, match="no public key"):
        found(folder, key="nonsense")
    with pytest.raises(NotFound, match=f"no checkpoint `{tmp_path / 'absent'}`") as refused:
        found(folder, key=str(public), checkpoint=tmp_path / "absent")
    assert refused.value.exit_code == 4 and "headrace audit checkpoint" in refused.value.hint
    with pytest.raises(InvalidInput, match="cannot be read"):
        found(folder, key=str(public), checkpoint=tmp_path)


def test_a_verified_ledger_that_grows_stays_consistent_with_the_saved_checkpoint(folder, tmp_path):
    saved = tmp_path / "saved"
    saved.write_bytes((folder / "data/audit/checkpoint").read_bytes())
    ctx = open_world(folder)
    act(ctx, 40)
    assert Sequencer(ctx).step() == 40
    assert found(folder, checkpoint=saved) == []
    saved.write_text(saved.read_text().replace(f"\n{LEAVES}\n", f"\n{LEAVES - 1}\n"))
    assert [why for _, why in found(folder, checkpoint=saved)] == ["the checkpoint's signature is wrong"]


def test_a_changed_tile_of_an_earlier_checkpoint_is_found(folder):
    """Its readers are served it for as long as no full tile has come."""
    ctx = open_world(folder)
    act(ctx, 5, first=OPERATIONS)
    sequencer = Sequencer(ctx, digest_after=0.0)
    sequencer.step()
    sequencer.close()
    ctx.events.close()
    ctx.catalog.close()
    assert found(folder) == []
    tile = folder / "data" / "audit" / "tile"
    for file in (tile / "0" / f"001.p/{LEAVES - 256}", tile / "entries" / f"001.p/{LEAVES - 256}"):
        content = file.read_bytes()
        for changed in (content[:-1] + bytes([content[-1] ^ 1]), content[:-1], content + b"x"):
            file.write_bytes(changed)
            assert found(folder) == [(None, "a tile of an earlier checkpoint is not that of the entries")]
        file.write_bytes(content)
