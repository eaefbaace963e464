"""The plain peer of `benchmarks/joins.py`: ASOF joins in DuckDB after ties are removed. Arguments: SPEC OUT."""

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
        tables.append(
            f"{name} AS (SELECT * FROM '{path}' QUALIFY row_number() OVER "
            f"(PARTITION BY {', '.join(keys)}, {time} ORDER BY {view['created']} DESC) = 1)"
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
