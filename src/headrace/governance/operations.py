"""What users can do about keys, the audit ledger, explanations and backups."""

from __future__ import annotations

from pathlib import Path

from headrace.engines.context import Context
from headrace.governance import keys
from headrace.governance.backup import backup
from headrace.governance.predictions import logged
from headrace.governance.types import BackupResult, CreatedKey, KeyInfo, Why
from headrace.governance.why import why
from headrace.kernel.errors import InvalidInput
from headrace.kernel.identity import Permission, Role
from headrace.kernel.operation import operation
from headrace.ledger.checkpoint import Verifier, load_key, parse_note
from headrace.ledger.proving import Proof, prove_operation, prove_record, published
from headrace.ledger.verify import Verification, verify


@operation("keys.create", permission=Permission.ADMINISTER, changes=True, http="POST /keys", cli="keys create")
def create_key(ctx: Context, *, name: str, role: Role) -> CreatedKey:
    """Create an API key. It is shown this once."""
    return keys.create(ctx, name=name, role=role)


@operation("keys.list", permission=Permission.ADMINISTER, http="GET /keys", cli="keys list")
def list_keys(ctx: Context) -> list[KeyInfo]:
    """List the API keys, the revoked ones too."""
    return keys.keys(ctx)


@operation("keys.revoke", permission=Permission.ADMINISTER, changes=True, http="POST /keys/{id}/revoke", cli="keys revoke")
def revoke_key(ctx: Context, *, id: str) -> KeyInfo:
    """Revoke an API key: it is refused within one second."""
    return keys.revoke(ctx, id=id)


@operation("audit.checkpoint", permission=Permission.READ, http="GET /audit/checkpoint", cli="audit checkpoint")
def audit_checkpoint(ctx: Context) -> str:
    """Print the signed checkpoint of everything done by now. Keep it elsewhere: `audit verify --checkpoint` needs it."""
    return published(ctx)


@operation("audit.key", permission=Permission.READ, http="GET /audit/key", cli="audit key")
def audit_key(ctx: Context) -> str:
    """Print the public key that verifies the checkpoints."""
    origin = parse_note(published(ctx))[0].origin
    private = load_key(ctx.settings, create=False)
    if private is None:
        raise InvalidInput("the signing key is not on this machine", hint="ask where the ledger is written")
    return Verifier(origin, private.public_key()).text


@operation("audit.prove", permission=Permission.READ, http="GET /audit/proofs/{id}", cli="audit prove")
def audit_prove(ctx: Context, *, id: str) -> Proof:
    """Prove that an audit record or a prediction is in the ledger."""
    found = logged(ctx, id)
    return prove_operation(ctx, id) if found is None else prove_record(ctx, found.topic, found.offset)


@operation("audit.verify", permission=Permission.READ, cli="audit verify", found_bad=lambda result: not result.verified)
def audit_verify(ctx: Context, *, checkpoint: Path | None = None, key: str | None = None) -> Verification:
    """Verify the whole ledger, with a checkpoint saved elsewhere and the public key KEY (or a file with it) when given."""
    return verify(ctx, checkpoint=checkpoint, key=key)


@operation("predictions.why", permission=Permission.READ, http="GET /predictions/{id}/why", cli="why")
def explain_prediction(ctx: Context, *, id: str) -> Why:
    """Explain a prediction: version, features and their ages, training data, approval, later label, and the proof."""
    return why(ctx, id)


@operation("backup.create", permission=Permission.ADMINISTER, changes=True, cli="backup")
def create_backup(ctx: Context, *, dest: Path) -> BackupResult:
    """Back the whole data folder up to DEST while it runs. Keep the signing key elsewhere: it is not in it."""
    return backup(ctx, dest)
