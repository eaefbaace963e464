"""`headrace doctor`."""

from __future__ import annotations

import click

from headrace.app.doctor import diagnose, show_diagnosis
from headrace.kernel.settings import load_settings


@click.command("doctor")
@click.argument("file", required=False)
@click.option("--data", metavar="DIR", help="The data folder [./.headrace].")
@click.option("--port", default=8420, show_default=True, type=click.IntRange(1, 65535))
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
def command(file: str | None, data: str | None, port: int, as_json: bool) -> int:
    """Look at the system file, engine URLs, port, disk, versions, data format, and whether blobs, logs and ledger fit the
    catalog: what is wrong, and what mends it."""
    diagnosis = diagnose(load_settings({"data": data}), file, port)
    show_diagnosis(diagnosis, as_json=as_json)
    return 0 if diagnosis.ok else 1
