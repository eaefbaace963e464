"""Verify a headrace ledger without headrace: Python and `cryptography` are all it needs.

    python verify_ledger.py AUDIT_FOLDER PUBLIC_KEY [SAVED_CHECKPOINT]

AUDIT_FOLDER is `DATA/audit`, PUBLIC_KEY what `headrace audit key` printed. Exit code 0: the entries give the root that
the key signed, and continue the saved checkpoint. What the entries say is compared with catalog and prediction log by
`headrace audit verify`; this script shows that the log itself is whole.
"""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def opened(note: str, public: str) -> tuple[str, int, bytes]:
    """(origin, size, root) of a signed note (C2SP signed-note, tlog-checkpoint)."""
    name, identifier, encoded = public.strip().split("+", 2)
    key = base64.b64decode(encoded)
    text, _, signatures = note.rpartition("\n\n")
    text += "\n"
    if hashlib.sha256(name.encode() + b"\n" + key).digest()[:4].hex() != identifier:
        raise ValueError("the public key does not match its id")
    for line in signatures.splitlines():
        _, signer, signature = line.split(" ")
        raw = base64.b64decode(signature)
        if signer == name and raw[:4].hex() == identifier:
            Ed25519PublicKey.from_public_bytes(key[1:]).verify(raw[4:], text.encode())
            origin, size, root = text.splitlines()[:3]
            return origin, int(size), base64.b64decode(root)
    raise ValueError("the checkpoint is not signed by this key")


def entries(audit: Path, size: int) -> list[bytes]:
    """The entries of the first `size` leaves (C2SP tlog-tiles)."""
    found: list[bytes] = []
    for index in range(-(-size // 256)):
        digits = str(index).zfill(-len(str(index)) // 3 * -3)
        parts = [digits[i : i + 3] for i in range(0, len(digits), 3)]
        path = audit / "tile" / "entries" / "/".join([*(f"x{p}" for p in parts[:-1]), parts[-1]])
        width = min(256, size - index * 256)
        partial = path.with_name(f"{path.name}.p") / str(width)
        content = (partial if width < 256 and partial.is_file() else path).read_bytes()
        at = 0
        for _ in range(width):
            length = int.from_bytes(content[at : at + 2], "big")
            found.append(content[at + 2 : at + 2 + length])
            at += 2 + length
    return found


def root(hashes: list[bytes]) -> bytes:
    """The Merkle tree hash of RFC 6962 section 2.1 over leaf hashes."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    while len(hashes) > 1:
        pairs = [hashlib.sha256(b"\1" + a + b).digest() for a, b in zip(hashes[::2], hashes[1::2], strict=False)]
        hashes = pairs + hashes[len(pairs) * 2 :]
    return hashes[0]


def main() -> int:
    audit, public, *saved = sys.argv[1:]
    origin, size, signed = opened((Path(audit) / "checkpoint").read_text(), public)
    hashes = [hashlib.sha256(b"\0" + entry).digest() for entry in entries(Path(audit), size)]
    if root(hashes) != signed:
        print("BAD: the entries do not give the signed root")
        return 1
    for file in saved:
        old_origin, old_size, old_root = opened(Path(file).read_text(), public)
        if old_origin != origin or old_size > size or root(hashes[:old_size]) != old_root:
            print(f"BAD: the ledger does not continue the checkpoint `{file}`")
            return 1
    print(f"verified: {size} leaves, root {signed.hex()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
