"""The plain peer of `benchmarks/joins.py`: ASOF joins in DuckDB. Arguments: SPEC OUT.

`arg_max` leaves one row of each tie; a window of `row_number`, the other way its documentation has, takes a tenth longer.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb


def main(spec_path: str, out: str) -> None:
    folder = Path(spec_path).parent
    spec = json.loads(Path(spec_path).read_text())
    at = spec["labels"]["time"]
    tables, joins, columns = [], [], ["l.*"]
    for view in spec["views"]:
        name, keys, time = view["name"], view["keys"], view["time"]
        path = folder / view["path"]
        known = [row[0] for row in duckdb.sql(f"DESCRIBE SELECT * FROM '{path}'").fetchall()]
        values = [column for column in known if column not in (*keys, time, view["created"])]
        packed, unpacked = (", ".join(form.format(value) for value in values) for form in ("{0} := {0}", "newest.{0}"))
        group = ", ".join((*keys, time))
        tables.append(
            f"{name} AS (SELECT {group}, {unpacked} FROM (SELECT {group}, arg_max(struct_pack({packed}), {view['created']})"
            f" AS newest FROM '{path}' GROUP BY {group}))"
        )
        equal = " AND ".join(f"l.{key} = {name}.{key}" for key in keys)
        joins.append(f"ASOF LEFT JOIN {name} ON {equal} AND l.{at} >= {name}.{time}")
        recent = f"l.{at} - {name}.{time} <= INTERVAL {view['ttl'].removesuffix('d')} DAY"
        columns += [f"CASE WHEN {recent} THEN {name}.{value} END AS {name}__{value}" for value in values]
    labels = folder / spec["labels"]["path"]
    duckdb.sql(
        f"COPY (WITH {', '.join(tables)} SELECT {', '.join(columns)} FROM '{labels}' l {' '.join(joins)}) "
        f"TO '{out}' (FORMAT parquet)"
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
