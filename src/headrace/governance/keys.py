"""API keys `hr_{id}_{secret}`: 32 random bytes, of which only the SHA-256 is stored (no guessing it: 256 bits).

A key belongs to one system and has one role. Rotation: create the second, change the clients, revoke the first.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from sqlalchemy import Connection, select, update

from headrace.engines.context import Context
from headrace.governance.tables import API_KEYS
from headrace.governance.types import CreatedKey, KeyInfo
from headrace.kernel.clocks import MACHINE
from headrace.kernel.errors import InvalidInput, NotFound, Unauthenticated
from headrace.kernel.identity import LOCAL, Principal, Role
from headrace.kernel.times import format_time

FRESH_SECONDS = 0.5
_HINT = "send `Authorization: Bearer KEY`; `headrace keys create --name N --role R` makes a key"


def create(ctx: Context, *, name: str, role: Role) -> CreatedKey:
    """Make a key. InvalidInput for an empty name or a long one."""
    if not name.strip() or len(name) > 200:
        raise InvalidInput("a key needs a name of 1 to 200 characters", hint="say who uses it: --name ci", field="name")
    identifier, secret = secrets.token_hex(8), secrets.token_hex(32)
    with ctx.catalog.transaction() as connection:
        connection.execute(
            API_KEYS.insert().values(
                id=identifier,
                system=ctx.system,
                name=name,
                role=role,
                digest=_digest(secret),
                created_at=MACHINE.now(),
            )
        )
    return CreatedKey(identifier, f"hr_{identifier}_{secret}")


def keys(ctx: Context) -> list[KeyInfo]:
    """Every key of the system, the revoked ones too, in order of creation."""
    with ctx.catalog.reading() as connection:
        rows = connection.execute(
            select(API_KEYS).where(API_KEYS.c.system == ctx.system).order_by(API_KEYS.c.created_at, API_KEYS.c.id)
        ).all()
    return [
        KeyInfo(
            row.id,
            row.name,
            Role(row.role),
            format_time(row.created_at),
            None if row.revoked_at is None else format_time(row.revoked_at),
        )
        for row in rows
    ]


def revoke(ctx: Context, *, id: str) -> KeyInfo:
    """Refuse the key from now on (within one second in every process). Revoking again changes nothing."""
    with ctx.catalog.transaction() as connection:
        connection.execute(
            update(API_KEYS)
            .where(API_KEYS.c.id == id, API_KEYS.c.system == ctx.system, API_KEYS.c.revoked_at.is_(None))
            .values(revoked_at=MACHINE.now())
        )
    known = {key.id: key for key in keys(ctx)}
    if id not in known:
        raise NotFound.of("key", id, known)
    return known[id]


class Authenticator:
    """Says who is calling, from keys kept in memory for at most half a second: no thread, one short query then."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._read_at = -FRESH_SECONDS
        self._any = False
        self._live: dict[str, tuple[str, Principal]] = {}

    def authenticate(self, header: str | None, *, loopback: bool) -> Principal:
        """The caller behind the Authorization header. Without one it is LOCAL on loopback while the system has never
        had a key. Raises Unauthenticated.
        """
        now = MACHINE.monotonic()
        if now - self._read_at >= FRESH_SECONDS:
            with self._ctx.catalog.reading() as connection:
                self._any, self._live = _read(connection, self._ctx.system)
            self._read_at = now
        if header is None:
            if loopback and not self._any:
                return LOCAL
            raise Unauthenticated("this door needs an API key", hint=_HINT)
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("the Authorization header is not `Bearer KEY`", hint=_HINT)
        return self._owner(token.strip())

    def _owner(self, key: str) -> Principal:
        """The owner of the key, as last read."""
        prefix, _, rest = key.partition("_")
        identifier, _, secret = rest.partition("_")
        expected, principal = self._live.get(identifier, ("", LOCAL))
        if prefix == "hr" and hmac.compare_digest(_digest(secret), expected):
            return principal
        raise Unauthenticated("the API key is unknown or revoked", hint=_HINT)


def _read(connection: Connection, system: str) -> tuple[bool, dict[str, tuple[str, Principal]]]:
    """Whether the system has ever had a key, and its live keys: id -> (digest, owner)."""
    rows = connection.execute(select(API_KEYS).where(API_KEYS.c.system == system)).all()
    live = {r.id: (r.digest, Principal(r.id, r.name, Role(r.role))) for r in rows if r.revoked_at is None}
    return bool(rows), live


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()
