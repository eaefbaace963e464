"""Who is asking at an HTTP door: a key in the header, or the owner of a loopback installation without keys."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from urllib.parse import urlsplit

from headrace.engines.context import Context
from headrace.governance.keys import Authenticator
from headrace.kernel.errors import Denied
from headrace.kernel.identity import LOCAL, Principal

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


class Callers:
    """Maps request headers (lower-case names) to a Principal. `keys_required`: also before the first key exists, as
    beyond loopback or behind a proxy."""

    def __init__(self, ctx: Context, *, keys_required: bool) -> None:
        self._keys = Authenticator(ctx)
        self._loopback = not keys_required

    def principal(self, headers: Mapping[str, str], method: str) -> Principal:
        """Raises Unauthenticated without a valid key where one is needed, Denied for a foreign page's request."""
        header = _bearer(headers.get("authorization"), method)
        principal = self._keys.authenticate(header, loopback=self._loopback)
        if principal is LOCAL:
            _refuse_foreign_pages(headers)
        return principal


def _bearer(header: str | None, method: str) -> str | None:
    """The header; for a person reading in a browser, `Basic base64(anything:KEY)` counts as `Bearer KEY`."""
    scheme, _, rest = (header or "").partition(" ")
    if scheme.lower() != "basic" or method not in ("GET", "HEAD"):  # a browser sends Basic with foreign pages' posts too
        return header
    try:
        return "Bearer " + base64.b64decode(rest, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return header


def _refuse_foreign_pages(headers: Mapping[str, str]) -> None:
    """Without keys a web page elsewhere must not act through the user's browser (DNS rebinding, cross-site posts)."""
    host = urlsplit(f"//{headers.get('host', 'localhost')}").hostname
    origin = headers.get("origin")
    foreign = origin is not None and urlsplit(origin).hostname not in LOOPBACK_NAMES
    if host not in LOOPBACK_NAMES or foreign or headers.get("sec-fetch-site") == "cross-site":
        raise Denied(
            f"a request for `{host}` from `{origin or 'elsewhere'}` is refused while no key exists",
            hint="open it under 127.0.0.1, or create a key: `headrace keys create --name N --role R`",
        )
