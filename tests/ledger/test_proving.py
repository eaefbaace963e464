"""Proofs hold for somebody who has only the checkpoint, the public key and RFC 9162, written down here anew."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from installation import open_world
from ledger_world import PREDICTIONS, act, predict

from headrace.kernel.errors import CheckFailed, NotFound
from headrace.ledger.log import audit_folder
from headrace.ledger.proving import prove_operation, prove_record, published
from headrace.ledger.sequencer import Sequencer


def root_by_rfc_9162(leaf: str, index: int, size: int, proof: list[str]) -> str:
    """Section 2.1.3.2, step by step."""
    fn, sn, r = index, size - 1, bytes.fromhex(leaf)
    for p in map(bytes.fromhex, proof):
        assert sn != 0
        if fn & 1 or fn == sn:
            r = hashlib.sha256(b"\x01" + p + r).digest()
            while not fn & 1 and fn:
                fn >>= 1
                sn >>= 1
        else:
            r = hashlib.sha256(b"\x01" + r + p).digest()
        fn >>= 1
        sn >>= 1
    assert sn == 0
    return r.hex()


def hashed(entry: bytes) -> str:
    return hashlib.sha256(b"\x00" + entry).hexdigest()


@pytest.fixture
def ctx(tmp_path):
    return open_world(tmp_path)


def test_an_operation_is_proved_under_the_signed_checkpoint(ctx, tmp_path):
    identifiers = act(ctx, 600)
    for number in (0, 255, 256, 511, 599):
        proof = prove_operation(ctx, identifiers[number])
        assert json.loads(proof.entry)["id"] == identifiers[number]
        assert proof.leaf == hashed(proof.entry.encode())
        assert root_by_rfc_9162(proof.leaf, proof.index, proof.tree_size, proof.proof) == proof.root
    origin, size, root, empty, signed, _ = published(ctx).split("\n")
    assert (int(size), base64.b64decode(root).hex(), empty) == (600, proof.root, "")
    raw = base64.b64decode(signed.split(" ")[2])
    key = load_pem_private_key((tmp_path / "keys" / "signing.key").read_bytes(), None).public_key()
    assert raw[:4] == hashlib.sha256(f"{origin}\n".encode() + b"\x01" + key.public_bytes_raw()).digest()[:4]
    key.verify(raw[4:], f"{origin}\n{size}\n{root}\n".encode())


def test_damaged_files_give_no_proof_that_proves_nothing(ctx):
    identifiers = act(ctx, 600)
    prove_operation(ctx, identifiers[3])
    bundle = audit_folder(ctx.settings) / "tile" / "entries" / "000"
    bundle.write_bytes(bundle.read_bytes().replace(b'"r3"', b'"r9"', 1))
    with pytest.raises(CheckFailed, match="do not prove leaf 3 of 600"):
        prove_operation(ctx, identifiers[3])
    assert prove_operation(ctx, identifiers[4]).index == 4


def test_one_prediction_is_proved_by_a_short_path_through_its_batch(ctx):
    act(ctx, 5)
    predict(ctx, 1000)
    published(ctx)
    predict(ctx, 37, first=1000)
    for offset in (0, 511, 999, 1000, 1036):
        proof = prove_record(ctx, PREDICTIONS, offset)
        value = ctx.events.read(PREDICTIONS, 0, offset, max_records=1).values[0]
        record = proof.record
        assert record is not None
        assert record.leaf == hashed(value)
        assert len(record.proof) <= 10
        digest = root_by_rfc_9162(record.leaf, record.index, record.size, record.proof)
        assert digest == record.root == json.loads(proof.entry)["payload"]["digest"]
        assert root_by_rfc_9162(proof.leaf, proof.index, proof.tree_size, proof.proof) == proof.root


def test_unknown_ids_are_not_found(ctx, tmp_path):
    act(open_world(tmp_path, "churn"), 1)
    with pytest.raises(NotFound):
        prove_operation(ctx, "fraud-op-0")
    with pytest.raises(NotFound):
        prove_record(ctx, PREDICTIONS, 3)


def test_published_waits_for_the_leader_and_leads_where_nobody_does(ctx, tmp_path):
    act(ctx, 2)
    assert published(ctx).split("\n")[1] == "2"
    leader = Sequencer(open_world(tmp_path), digest_after=0.0)
    act(ctx, 1)
    assert leader.step() == 1
    assert published(ctx).split("\n")[1] == "3"
