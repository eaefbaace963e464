"""What a browser is shown while the work process restarts: the reason, and the same page again in a moment."""

from __future__ import annotations

from html import escape

from headrace.kernel.errors import HeadraceError
from headrace.serving.http import Headers

HEADERS: Headers = [
    (b"content-type", b"text/html; charset=utf-8"),
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
]
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<meta http-equiv="refresh" content="2">
<title>headrace: one moment</title>
<style>body {{ font: 1rem/1.5 system-ui, sans-serif; max-width: 40rem; margin: 15vh auto; padding: 0 1rem }}</style>
<h1>One moment</h1>
<p>{reason}.</p>
<p>{hint}. Predictions are answered meanwhile. This page tries again by itself.</p>
"""


def waiting_page(error: HeadraceError) -> bytes:
    """The page that says `error`."""
    return _PAGE.format(reason=_sentence(error.message), hint=_sentence(error.hint)).encode()


def _sentence(text: str) -> str:
    return escape(text[:1].upper() + text[1:])
