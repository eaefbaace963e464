"""The script that verifies a ledger without headrace agrees with it, on sound and on damaged ledgers."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from installation import open_world
from ledger_world import act

from headrace.ledger.checkpoint import Verifier, load_key, parse_note
from headrace.ledger.sequencer import Sequencer

SCRIPT = Path(__file__).parents[2] / "scripts" / "verify_ledger.py"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("leaves", [3, 513])
def test_the_standalone_script_verifies_what_headrace_writes(tmp_path, leaves):
    ctx = open_world(tmp_path)
    sequencer, audit, saved = Sequencer(ctx), tmp_path / "data" / "audit", tmp_path / "saved"
    act(ctx, leaves)
    sequencer.step()
    shutil.copy(audit / "checkpoint", saved)
    act(ctx, 5, first=leaves)
    sequencer.step()
    current = parse_note((audit / "checkpoint").read_text())[0]
    private = load_key(ctx.settings, create=False)
    assert private is not None
    public = Verifier(current.origin, private.public_key()).text
    good = run(audit, public, saved)
    assert (good.returncode, good.stdout) == (0, f"verified: {leaves + 5} leaves, root {current.root.hex()}\n")
    wrong_key = run(audit, public.replace("+", "+0", 1), saved)
    assert wrong_key.returncode != 0
    bundle = max((p for p in (audit / "tile" / "entries").rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime)
    content = bundle.read_bytes()
    bundle.write_bytes(content[:-2] + bytes([content[-2] ^ 1]) + content[-1:])
    bad = run(audit, public, saved)
    assert bad.returncode == 1 and "BAD" in bad.stdout
