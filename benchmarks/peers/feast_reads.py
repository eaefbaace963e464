"""The peer of `benchmarks/reads.py`: Feast's SDK and its online stores. Run in the environment of `peers/feast.txt`.

    python feast_reads.py load FOLDER TABLE.parquet sqlite|redis [PORT]
    python feast_reads.py read FOLDER QUESTIONS.json

The registry is kept in memory once it is read, and a feature service names the ten features, as Feast's guide for production
says. A question is a list of users; reading prints JSON: the microseconds of each, and the answers of the first ones.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path

os.environ["FEAST_USAGE"] = "False"

import pandas as pd
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, ValueType
from feast.types import Float64

NAMES = [f"f{number}" for number in range(10)]
STORES = {"sqlite": "type: sqlite\n  path: online.db", "redis": "type: redis\n  connection_string: 127.0.0.1:{port}"}
BATCH = 10_000
COMPARED = 20


def load(folder: Path, table: Path, kind: str, port: str = "") -> None:
    """Declare the features and write those of every user."""
    (folder / "feature_store.yaml").write_text(
        f"project: reads\nprovider: local\nregistry:\n  path: registry.db\n  cache_ttl_seconds: 0\n"
        f"online_store:\n  {STORES[kind].format(port=port)}\nentity_key_serialization_version: 3\n"
    )
    store = FeatureStore(str(folder))
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    view = FeatureView(
        name="user_profile", entities=[user], ttl=timedelta(days=36500), schema=[Field(name=n, dtype=Float64) for n in NAMES],
        source=FileSource(path=str(table), timestamp_field="at"),
    )  # fmt: skip
    store.apply([user, view, FeatureService(name="profile", features=[view])])
    frame = pd.read_parquet(table)
    for first in range(0, len(frame), BATCH):
        store.write_to_online_store("user_profile", frame[first : first + BATCH])


def read(folder: Path, questions: Path) -> None:
    """Answer each question once."""
    store = FeatureStore(str(folder))
    service = store.get_feature_service("profile")
    asked = json.loads(questions.read_text())
    taken, answers = [], []
    store.get_online_features(service, {"user_id": asked[-1]}).to_dict()
    gc.freeze()
    for users in asked:
        began = time.perf_counter()
        found = store.get_online_features(service, {"user_id": users}).to_dict()
        taken.append((time.perf_counter() - began) * 1e6)
        if len(answers) < COMPARED:
            answers.append(list(zip(*(found[name] for name in NAMES), strict=True)))
    print(json.dumps({"taken": taken, "answers": answers}))


if __name__ == "__main__":
    if sys.argv[1] == "load":
        load(Path(sys.argv[2]), Path(sys.argv[3]), *sys.argv[4:])
    else:
        read(Path(sys.argv[2]), Path(sys.argv[3]))
