"""Files of rows: reading Parquet, CSV, NDJSON, each also compressed as `.gz`; writing Parquet."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import polars as pl
from polars.exceptions import PolarsError

from headrace.kernel.errors import InvalidInput, NotFound, UsageError

Format = Literal["parquet", "csv", "ndjson"]
SUFFIXES: dict[str, Format] = {
    ".parquet": "parquet", ".pq": "parquet", ".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "ndjson",
}  # fmt: skip

GUESSED = ("", ".txt", ".gz")
"""Suffixes of names that do not say what the file is."""


def read_table(path: Path) -> pl.DataFrame:
    """The rows of the file; CSV and NDJSON types are inferred from all rows.

    Raises NotFound for a missing file, InvalidInput for one that is none of the formats.
    """
    content, kind = _open(path)
    try:
        if kind == "parquet":
            return pl.read_parquet(content)
        if kind == "csv":
            return pl.read_csv(content, infer_schema_length=None, try_parse_dates=True)
        return pl.read_ndjson(content, infer_schema_length=None)
    except (PolarsError, OSError) as error:
        raise unreadable(path, kind, error) from None


def check_out(path: Path, *inputs: Path) -> None:
    """UsageError unless a Parquet file can be written to `path`, which must be none of the `inputs`. Asked before the work."""
    if path.is_dir():
        raise UsageError(f"`{path}` is a folder", hint="name a file: --out features.parquet")
    if not path.parent.is_dir():
        raise UsageError(f"there is no folder `{path.parent}`", hint="make it first")
    if path.suffix and SUFFIXES.get(path.suffix.lower()) != "parquet":
        raise UsageError(f"`{path}` is not named as Parquet, which is what is written", hint=f"--out {path.stem}.parquet")
    if path.exists() and any(given.exists() and path.samefile(given) for given in inputs):
        raise UsageError(f"`{path}` is also read: it would be overwritten", hint="give --out another name")


def write_table(frame: pl.DataFrame, path: Path) -> None:
    """Write Parquet, whole or not at all: a process that is killed leaves what was there before."""
    beside = path.with_name(f".{path.name}.part")
    frame.write_parquet(beside, compression="lz4", statistics=False)
    beside.replace(path)


def read_text_table(path: Path) -> pl.DataFrame:
    """The rows of a CSV file, every column as text; an empty cell is null."""
    content, _ = _open(path)
    try:
        return pl.read_csv(content, infer_schema=False)
    except (PolarsError, OSError) as error:
        raise unreadable(path, "csv", error) from None


def read_lines(path: Path) -> list[bytes]:
    """The lines of an NDJSON file that are not blank, as they are."""
    return [line for line in _lines(path) if line.strip()]


def line_numbers(path: Path) -> list[int]:
    """The number in the file, from 1, of each of `read_lines`."""
    return [number for number, line in enumerate(_lines(path), 1) if line.strip()]


def _lines(path: Path) -> list[bytes]:
    content, _ = _open(path)
    return (content.read_bytes() if isinstance(content, Path) else content).splitlines()


def parse_lines(path: Path, lines: Sequence[bytes]) -> pl.DataFrame:
    """The rows of some lines of the NDJSON file, with types inferred from all of them. InvalidInput as `read_table`."""
    try:
        return pl.read_ndjson(b"\n".join(lines), infer_schema_length=None)
    except PolarsError as error:
        raise unreadable(path, "ndjson", error) from None


def format_of(path: Path) -> Format:
    """The format, from the name or the first bytes. NotFound, InvalidInput as `read_table`."""
    if not path.is_file():
        raise NotFound(f"there is no file `{path}`", hint="check the path")
    packed = path.suffix == ".gz"
    name = path.with_suffix("") if packed else path
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            start = file.read(4096)
    except (OSError, EOFError, zlib.error) as error:
        raise _not_gzip(path, error) from None
    kind = SUFFIXES.get(name.suffix.lower()) or _sniffed(path, name.suffix.lower(), start)
    if kind == "csv":
        _check_csv(path, start)
    elif kind == "ndjson" and name.suffix.lower() == ".json":
        _check_json(path, start)
    return kind


def files_of(path: Path) -> list[Path]:
    """The file, or the files of a folder that are named as one of the formats, in the order of their names; hidden ones
    are left out. NotFound when there is none."""
    if not path.is_dir():
        format_of(path)
        return [path]
    found = event_files(path)
    if not found:
        raise NotFound(
            f"the folder `{path}` has no file of events", hint=f"name them {', '.join(sorted(SUFFIXES))}, each also with .gz"
        )
    return found


def event_files(folder: Path) -> list[Path]:
    """The files of a folder that are named as one of the formats, in the order of their names; those whose name begins
    with `.` or `_` are left out: a writer renames a file when it is whole."""
    return sorted(file for file in folder.iterdir() if file.is_file() and _named(file.name))


def _named(name: str) -> bool:
    return not name.startswith((".", "_")) and Path(name.removesuffix(".gz")).suffix.lower() in SUFFIXES


def _not_gzip(path: Path, error: Exception) -> InvalidInput:
    return InvalidInput(f"`{path}` is not a gzip file: {error}", hint="unpack it, or rename it")


def _open(path: Path) -> tuple[Path | bytes, Format]:
    kind = format_of(path)
    if path.suffix != ".gz":
        return path, kind
    try:
        return gzip.decompress(path.read_bytes()), kind
    except (OSError, EOFError, zlib.error) as error:
        raise _not_gzip(path, error) from None


def _check_csv(path: Path, start: bytes) -> None:
    """InvalidInput for what would be read as one column, or as none."""
    if start[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        raise InvalidInput(f"`{path}` is UTF-16; a CSV file is UTF-8", hint="save it again as UTF-8, separated by commas")
    if b"\r" in start and b"\n" not in start:
        raise InvalidInput(f"`{path}` ends its lines by CR alone; a CSV file does by LF or CR LF", hint="save it again so")
    header = start.partition(b"\n")[0]
    other = next((mark for mark in (b";", b"\t", b"|") if mark in header), None)
    if other is not None and b"," not in header:
        raise InvalidInput(
            f"`{path}` separates its columns by {other.decode()!r}; a CSV file does by commas",
            hint="save it again separated by commas, decimals with a point, or as Parquet",
        )


def _check_json(path: Path, start: bytes) -> None:
    """InvalidInput for one document over several lines, whose lines would all be refused."""
    first = start.lstrip().partition(b"\n")[0].strip()
    if first.startswith(b"[") or first == b"{":
        raise InvalidInput(
            f"`{path}` is one JSON document; NDJSON has an object on each line", hint="write one a line: `jq -c '.[]?' FILE`"
        )


def _sniffed(path: Path, suffix: str, start: bytes) -> Format:
    """CSV is a guess, so its name must not say that it is something else."""
    if start[:4] == b"PAR1":
        return "parquet"
    if start.lstrip()[:1] == b"{":
        return "ndjson"
    first, newline, _ = start.partition(b"\n")
    if suffix in GUESSED and newline and b"," in first and b"\0" not in start:
        return "csv"
    raise InvalidInput(
        f"`{path}` is not Parquet, CSV or NDJSON", hint=f"use one of these formats, named {', '.join(sorted(SUFFIXES))}"
    )


def unreadable(path: Path, kind: Format, error: Exception) -> InvalidInput:
    """The error of a file that ends in the middle, or is not what its name says."""
    reason = str(error).strip().partition("\n")[0] or type(error).__name__
    return InvalidInput(f"`{path}` cannot be read as {kind}: {reason}", hint="check that the file is complete and well named")
