"""Import of a file larger than memory should hold: `headrace ingest` of orders, killed once on the way.

    python benchmarks/imports.py [--gb 5.1] [--format csv|ndjson.gz] [--kill] [--folder DIR]

Writes orders (shuffled within each million, 10 % up to an hour early or late, cells with quotes, commas and line feeds) into
DIR, by default a temporary folder of the working directory, runs the command, and prints its seconds, CPU seconds and peak
memory. `--kill`: SIGKILL once a quarter of the rows are in the log, then the command again. In the end every order must be in
the log once. 5.1 GB of CSV are 37 million orders and need some 25 GB of disk.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import measuring
import msgspec
import numpy as np
import polars as pl
from figures import Report, parse, parser
from measuring import HEADRACE

from headrace.engines.context import Context
from headrace.engines.open import open_context
from headrace.kernel.clocks import RealEventClock
from headrace.kernel.settings import Settings
from headrace.system.load import load_system

PART = 1_000_000
TOPIC = "shop/streams/order"
SYSTEM = """
from datetime import datetime
from typing import Annotated

import headrace as hr

system = hr.System("shop")


@system.stream(id="order_id", key="customer_id", time="at")
class Order:
    order_id: int
    at: datetime
    customer_id: int
    sku: str
    quantity: Annotated[int, hr.Range(min=1)]
    amount: Annotated[float, hr.Range(min=0)]
    currency: str
    channel: str
    gift: bool
    city: str
    street: str
    note: str | None
    session: str
"""
CITIES = ["Linz", "Graz", "Wien", "Sankt Pölten", "Klagenfurt am Wörthersee", "Bruck an der Mur", 'Baden "bei" Wien']
STREETS = ["Hauptstrasse", "Bahnhofstrasse", "Am Alten Markt, Stiege", "Ringweg"]
NOTES = ["", "", "", "please ring twice", 'leave it at the "blue" door, thanks', "two lines\nof a note", "Geschenk für Oma"]


class OrderId(msgspec.Struct):
    order_id: int


def orders(first: int) -> pl.DataFrame:
    random = np.random.default_rng(first)
    ids = np.arange(first, first + PART)
    late = random.integers(-3_600_000_000, 3_600_000_000, PART) * (random.random(PART) < 0.1)
    at = pl.Series(1_735_689_600_000_000 + ids * 400_000 + late + random.integers(0, 999_999, PART)).cast(pl.Datetime("us"))
    quantity = random.integers(1, 9, PART)

    def of(values: list[str]) -> pl.Series:
        return pl.Series(values)[random.integers(0, len(values), PART)]

    columns = {
        "order_id": ids, "at": at.dt.strftime("%Y-%m-%dT%H:%M:%S%.6fZ"),
        "customer_id": (random.zipf(1.3, PART) * 7919) % 900_001,
        "sku": pl.Series(random.integers(0, 40_000, PART)).cast(pl.String).str.zfill(6), "quantity": quantity,
        "amount": np.round(random.gamma(2.0, 18.0, PART) * quantity, 2), "currency": of(["EUR", "CHF", "USD"]),
        "channel": of(["web", "app", "shop", "phone"]), "gift": random.random(PART) < 0.05, "city": of(CITIES),
        "street": of(STREETS) + " " + pl.Series(random.integers(1, 199, PART)).cast(pl.String), "note": of(NOTES),
        "session": pl.Series(random.integers(0, 2**62, PART)).cast(pl.String),
    }  # fmt: skip
    return pl.DataFrame(columns).sample(fraction=1.0, shuffle=True, seed=first)


def write(path: Path, size: float) -> int:
    """Write orders until the file has `size` bytes; how many they are."""
    rows = 0
    with ExitStack() as open_:
        raw = open_.enter_context(path.open("wb"))
        packed = path.suffix == ".gz"
        file = open_.enter_context(gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1)) if packed else raw
        while raw.tell() < size:
            frame = orders(rows)
            text = frame.write_ndjson() if packed else frame.write_csv(include_header=rows == 0)
            file.write(text.encode())
            rows += PART
    return rows


def check(ctx: Context, rows: int) -> str:
    seen, offset = np.zeros(rows, np.int64), 0
    decode = msgspec.json.Decoder(OrderId).decode
    while values := ctx.events.read(TOPIC, 0, offset, max_records=65_536).values:
        np.add.at(seen, [decode(value).order_id for value in values], 1)
        offset += len(values)
    found = f"{offset:,} events: {(seen == 1).sum():,} orders once, {(seen == 0).sum():,} missing, {(seen > 1).sum():,} twice"
    if offset != rows or not (seen == 1).all():
        sys.exit(f"not every order is in the log once: {found}")
    return found


def measure(report: Report, folder: Path, size: float, kind: str, *, kill: bool) -> None:
    (folder / "shop.py").write_text(SYSTEM)
    given, data = folder / f"orders.{kind}", folder / "data"
    rows = write(given, size)
    title = f"{kind}, {given.stat().st_size / 1e9:.2f} GB, {rows:,} orders"
    measuring.progress(title)
    with subprocess.Popen(
        [HEADRACE, "run", str(folder / "shop.py"), "--data", str(data), "--port", "0"], stdout=subprocess.PIPE
    ) as run:
        assert run.stdout is not None
        run.stdout.readline()
        run.terminate()
    specs = load_system(str(folder / "shop.py")).specs()
    with closing(open_context(Settings(data=data), "shop", specs, clock=RealEventClock())) as ctx:
        command = [HEADRACE, "ingest", "order", str(given), "--data", str(data)]
        found = []
        if kill:
            killed = measuring.run(command, watch=lambda: ctx.events.end(TOPIC, 0) >= rows // 4)
            found.append(row(f"{title}, killed after {ctx.events.end(TOPIC, 0):,} of them", killed))
        found.append(row("and given again" if kill else title, measuring.run(command)))
        report.table(["file", "seconds", "CPU s", "peak MB"], found)
        report.say(f"In the log: {check(ctx, rows)}.")


def row(title: str, run: measuring.Run) -> list[str]:
    return [title, f"{run.seconds:,.0f}", f"{run.cpu_seconds:,.0f}", f"{run.peak_mb:,.0f}"]


if __name__ == "__main__":
    made = parser(__doc__, runs=1)
    made.add_argument("--gb", type=float, default=5.1)
    made.add_argument("--format", choices=("csv", "ndjson.gz"), default="csv")
    made.add_argument("--kill", action="store_true")
    made.add_argument("--folder", type=Path)
    options = parse(made)
    part = Report(f"import of {options.format}{', killed' if options.kill else ''}", options)
    with tempfile.TemporaryDirectory(dir=options.folder or Path.cwd()) as scratch:
        measure(part, Path(scratch), 1e6 if options.small else options.gb * 1e9, options.format, kill=options.kill)
    part.end("headrace", "polars", "numpy")
