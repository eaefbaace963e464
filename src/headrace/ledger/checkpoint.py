"""Signed checkpoints: C2SP tlog-checkpoint in a signed note, Ed25519.

The private key lies outside the data folder, so that whoever can write the ledger's files cannot sign them.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkstemp

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from headrace.kernel.errors import CheckFailed, InvalidInput
from headrace.kernel.settings import Settings

DEFAULT_KEY = Path("~/.config/headrace/signing.key")
_ED25519 = b"\x01"
_DASH = "— "


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head: `root` commits to the first `size` leaves of the log named `origin`."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class Verifier:
    """A public key under its name, as `name+id+base64`, the text form of golang.org/x/mod/sumdb/note."""

    name: str
    key: Ed25519PublicKey

    @property
    def id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + _ED25519 + self.key.public_bytes_raw()).digest()[:4]

    @property
    def text(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(_ED25519 + self.key.public_bytes_raw()).decode()}"

    @classmethod
    def parse(cls, text: str) -> Verifier:
        """The key behind `text`; InvalidInput when it is none."""
        name, _, rest = text.strip().partition("+")
        identifier, _, encoded = rest.partition("+")
        try:
            raw = base64.b64decode(encoded, validate=True)
            verifier = cls(name, Ed25519PublicKey.from_public_bytes(raw[1:]))
            if raw[:1] == _ED25519 and verifier.id.hex() == identifier:
                return verifier
        except ValueError:
            pass
        raise InvalidInput(
            f"`{text.strip()[:80]}` is no public key of a ledger; allowed: `NAME+ID+BASE64`",
            hint="`headrace audit key` prints it",
        )

    def open(self, note: str) -> Checkpoint:
        """The checkpoint in `note`, when this key signed it; CheckFailed otherwise."""
        checkpoint, signatures = parse_note(note)
        for name, signature in signatures:
            if name == self.name and signature[:4] == self.id:
                try:
                    self.key.verify(signature[4:], checkpoint.text.encode())
                except InvalidSignature:
                    raise CheckFailed("the checkpoint's signature is wrong", hint="restore it from a backup") from None
                return checkpoint
        signers = ", ".join(f"`{name}+{signature[:4].hex()}`" for name, signature in signatures) or "nobody"
        raise CheckFailed(
            f"the checkpoint is not signed by `{self.name}+{self.id.hex()}` but by {signers}",
            hint="check `signing_key`, or pass the log's public key with --key",
        )


class Signer:
    """Signs checkpoints in the name of a log."""

    def __init__(self, name: str, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.verifier = Verifier(name, key.public_key())

    def sign(self, checkpoint: Checkpoint) -> str:
        """The signed note."""
        signature = base64.b64encode(self.verifier.id + self._key.sign(checkpoint.text.encode())).decode()
        return f"{checkpoint.text}\n{_DASH}{self.verifier.name} {signature}\n"


def parse_note(note: str) -> tuple[Checkpoint, list[tuple[str, bytes]]]:
    """The checkpoint and its signatures (name, key id and signature), unverified. CheckFailed when it is malformed."""
    text, blank, signed = note.rpartition("\n\n")
    lines = text.split("\n")
    signatures = []
    try:
        if not blank or not signed.endswith("\n") or len(lines) != 3 or str(int(lines[1])) != lines[1]:
            raise ValueError("not of the form")
        checkpoint = Checkpoint(lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True))
        for line in signed.splitlines():
            name, _, encoded = line.removeprefix(_DASH).partition(" ")
            signatures.append((name, base64.b64decode(encoded, validate=True)))
    except (ValueError, binascii.Error):
        raise CheckFailed("the checkpoint is not a signed note", hint="see https://c2sp.org/tlog-checkpoint") from None
    return checkpoint, signatures


def key_path(settings: Settings) -> Path:
    """Where the signing key lies."""
    return Path(settings.signing_key or DEFAULT_KEY).expanduser()


def load_key(settings: Settings, *, create: bool) -> Ed25519PrivateKey | None:
    """The installation's signing key (PEM, PKCS 8), created with mode 0600 when missing and `create`, else None."""
    path = key_path(settings)
    if path.is_file():
        try:
            key = load_pem_private_key(path.read_bytes(), None)
        except (ValueError, TypeError, OSError) as error:
            raise InvalidInput(f"`{path}` cannot be read as a signing key: {error}", hint="set `signing_key`") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise InvalidInput(f"`{path}` is no Ed25519 key", hint="set `signing_key`, or let headrace create one")
        return key
    if not create:
        return None
    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, written = mkstemp(dir=path.parent, prefix=f".{path.name}.")  # (of mode 0600)
    beside = Path(written)
    with os.fdopen(descriptor, "wb") as file:
        file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        file.flush()
        os.fsync(file.fileno())
    try:
        os.link(beside, path)
    except FileExistsError:
        return load_key(settings, create=False)
    finally:
        beside.unlink()
    return key
