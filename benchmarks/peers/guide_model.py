"""Fit the guide's model: python guide_model.py boosting|forest ROWS.parquet FOLDER writes FOLDER/model.pkl."""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
import polars as pl
from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier


def main(kind: str, rows: Path, folder: Path) -> None:
    frame = pl.read_parquet(rows)
    model = {"boosting": GradientBoostingClassifier, "forest": RandomForestClassifier}[kind](random_state=0)
    folder.mkdir(exist_ok=True)
    joblib.dump(model.fit(frame.drop("label").to_numpy(), frame["label"].to_numpy()), folder / "model.pkl")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
