"""Results on stdout: one JSON document, or text for a person."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from headrace.app.encoding import encode, plain


def show(result: Any, *, as_json: bool, fields: Sequence[str] = ()) -> None:
    """Print the result of a command; of a list of records only those `fields` as text, where any are named."""
    if as_json:
        sys.stdout.write(encode(result).decode() + "\n")
        sys.stdout.flush()
        return
    value = plain(result)
    if fields and isinstance(value, list):
        value = [{name: row[name] for name in fields} for row in value]
    if isinstance(value, str):
        sys.stdout.write(value if value.endswith("\n") else value + "\n")
    elif value is not None:
        from headrace.app.text_output import print_text  # loads rich, which JSON does not need

        print_text(value)
