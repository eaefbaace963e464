"""Feast as the peer of `benchmarks/joins.py`, in an environment of its own (`make bench-peers`).

feast_join.py apply SPEC REPO duckdb|dask writes a feature repository and registers it, which is not measured;
feast_join.py join SPEC REPO OUT gets the historical features and writes them.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

os.environ["FEAST_USAGE"] = "False"

import pandas as pd
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float32


def read(spec: str) -> tuple[Path, dict[str, Any]]:
    return Path(spec).parent.resolve(), json.loads(Path(spec).read_text())


def values_of(folder: Path, view: dict[str, Any]) -> list[str]:
    others = (*view["keys"], view["time"], view["created"])
    return [name for name in pq.read_schema(folder / view["path"]).names if name not in others]


def apply(spec_path: str, repo: str, store: str) -> None:
    folder, spec = read(spec_path)
    Path(repo).mkdir(exist_ok=True)
    (Path(repo) / "feature_store.yaml").write_text(
        f"project: joins\nprovider: local\nregistry: registry.db\noffline_store:\n  type: {store}\n"
        "online_store: null\nentity_key_serialization_version: 3\n"
    )
    texts = pq.read_schema(folder / spec["labels"]["path"])
    keys = {
        key: Entity(
            name=key, join_keys=[key], value_type=ValueType.INT64 if str(texts.field(key).type) == "int64" else ValueType.STRING
        )
        for key in spec["views"][0]["keys"]
    }
    views = [
        FeatureView(
            name=view["name"],
            entities=list(keys.values()),
            ttl=timedelta(days=int(view["ttl"].removesuffix("d"))),
            schema=[Field(name=name, dtype=Float32) for name in values_of(folder, view)],
            online=False,
            source=FileSource(
                path=str(folder / view["path"]), timestamp_field=view["time"], created_timestamp_column=view["created"]
            ),
        )
        for view in spec["views"]
    ]
    FeatureStore(repo_path=repo).apply([*keys.values(), *views])


def join(spec_path: str, repo: str, out: str) -> None:
    folder, spec = read(spec_path)
    job = FeatureStore(repo_path=repo).get_historical_features(
        entity_df=pd.read_parquet(folder / spec["labels"]["path"]),
        features=[f"{view['name']}:{name}" for view in spec["views"] for name in values_of(folder, view)],
        full_feature_names=True,
        **({"filter_by_created_timestamp": True} if spec["as_known"] else {}),
    )
    pq.write_table(job.to_arrow(), out)


if __name__ == "__main__":
    {"apply": apply, "join": join}[sys.argv[1]](*sys.argv[2:])
