"""Models of numbers and of classes on the real engines; snapshots of composite keys; the catalogue of features."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest

from headrace.app.world import context
from headrace.data.appending import append_raw
from headrace.data.applying import StreamApplier
from headrace.data.datasets import load
from headrace.data.lake_sink import LakeSink
from headrace.data.types import StreamSpec
from headrace.engines.context import Context
from headrace.engines.open import prepare_data_folder
from headrace.features.materialise import OnlineViews
from headrace.features.types import stored_views
from headrace.kernel.errors import CheckFailed, InvalidInput, InvalidSystem, NotFound, UsageError
from headrace.kernel.times import HOUR, MINUTE, format_time, parse_time, to_micros
from headrace.registry import versions
from headrace.system.load import load_system
from headrace.system.operations import export_features, list_features, read_features, show_feature
from headrace.training.datasets import build_dataset
from headrace.training.evaluation import evaluate
from headrace.training.search import search
from headrace.training.training import train

FILE = Path(__file__).with_name("sensor_system.py")
START = parse_time("2026-03-02T00:00:00Z")
HOURS = 72
END = START + HOURS * HOUR
Row = dict[str, object]


def readings() -> list[Row]:
    """A wave for each sensor, every 20 minutes; machine `c` comes on the second day; some readings have no sensor."""
    random = np.random.default_rng(3)
    rows: list[Row] = []
    for number in range(HOURS * 3):
        at = START + number * 20 * MINUTE + MINUTE
        for machine, sensor in (("a", 1), ("a", 23), ("a1", 23), ("b", None), ("c", 1)):
            if machine == "c" and number < 72:
                continue
            value = math.sin(number / 12 + (sensor or 0)) * 10 + float(random.normal(scale=0.3))
            rows.append({"reading_id": len(rows), "at": at, "machine": machine, "sensor": sensor, "value": value})
    return rows


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Context, list[Row]]]:
    folder = tmp_path_factory.mktemp("plant") / "data"
    prepare_data_folder(folder)
    ctx = context({"data": str(folder), "system": "plant", "file": str(FILE), "clock": "virtual"})
    ctx.clock.set(END)
    rows = readings()
    judged = [
        {"reading_id": r["reading_id"], "at": int(str(r["at"])) + 5 * MINUTE,
         "verdict": "hot" if float(str(r["value"])) > 4 else "cold" if float(str(r["value"])) < -4 else "fine"}
        for r in rows[::2]
    ]  # fmt: skip
    views = OnlineViews(ctx, stored_views(ctx.specs))
    for stream, given in (("reading", rows), ("inspection", judged)):
        lines = [msgspec.json.encode(row | {"at": format_time(int(str(row["at"])))}) for row in given]
        append_raw(ctx, stream, lines, history=True)
        sink = LakeSink(ctx, ctx.specs.get(StreamSpec, stream))
        applier = StreamApplier(ctx, ctx.specs.get(StreamSpec, stream), [views.sink, sink])
        while applier.step():
            pass
        sink.flush()
    yield ctx, rows
    ctx.compute.close()
    ctx.close()


def test_snapshots_of_composite_keys_are_those_seen_by_then(plant: tuple[Context, list[Row]]) -> None:
    """By a plain loop: null sensors are no keys, (a, 23) is not (a1, 23) nor (a, 1), machine c is asked from its first hour."""
    ctx, rows = plant
    frame = load(ctx, build_dataset(ctx, "forecast", start=START, end=END, known_at=END).ref)
    assert frame.columns[:4] == ["machine", "sensor", "at", "_own"]
    expected = []
    for at in range(START, END, HOUR):
        seen = {(r["machine"], r["sensor"]) for r in rows if int(str(r["at"])) <= at and r["sensor"] is not None}
        for key in sorted(seen, key=str):
            later = [r for r in rows if (r["machine"], r["sensor"]) == key and int(str(r["at"])) >= at + HOUR]
            past = [r for r in rows if (r["machine"], r["sensor"]) == key and at - HOUR < int(str(r["at"])) <= at]
            if later and int(str(later[0]["at"])) <= END:
                expected.append((*key, at, len(past), past[-1]["value"] if past else None, later[0]["value"]))
    found = frame.select("machine", "sensor", "at", "sensor_count_1h", "sensor_newest_1h", "label").rows()
    assert [(m, s, to_micros(at), *rest) for m, s, at, *rest in found] == expected
    first = next((s, to_micros(at)) for m, s, at, *_ in found if m == "c")
    assert first == (1, START + 25 * HOUR)


@pytest.mark.slow
def test_a_model_of_numbers_is_trained_searched_and_judged(plant: tuple[Context, list[Row]]) -> None:
    ctx, _ = plant
    middle = START + 48 * HOUR
    dataset = build_dataset(ctx, "forecast", start=START, end=middle, known_at=middle).ref
    run = search(ctx, "forecast", dataset, trials=10, seed=1, folds=[START + 36 * HOUR])
    assert run.status == "finished"
    assert 0 < run.metrics["holdout.rmse"] < 4
    assert "train.positives" not in run.metrics
    figures = evaluate(ctx, run.id, start=middle, end=END, known_at=END, history_start=middle)
    assert set(figures) == {"mae", "rmse", "r2", "rows"}
    assert figures["r2"] > 0.5
    with pytest.raises(CheckFailed, match=r"hr\.value_after: what is compiled"):
        versions.register(ctx, "forecast", run=run.id)


@pytest.mark.slow
def test_a_model_of_classes_is_trained_and_judged(plant: tuple[Context, list[Row]]) -> None:
    ctx, rows = plant
    middle = START + 48 * HOUR
    ref = build_dataset(ctx, "verdict", start=START, end=middle, known_at=middle).ref
    frame = load(ctx, ref)
    judged = [r for r in rows[::2] if int(str(r["at"])) < middle and int(str(r["at"])) + HOUR <= middle]
    assert (len(frame), frame["label"].dtype) == (len(judged), pl.String), "a reading without a verdict is not trainable"
    run = train(ctx, "verdict", ref)
    figures = evaluate(ctx, run.id, start=middle, end=END, known_at=END, history_start=middle)
    assert figures["accuracy"] > 0.95
    assert figures["classes"] == 3


def test_what_gives_no_numbers_is_refused(plant: tuple[Context, list[Row]]) -> None:
    ctx, _ = plant
    ref = build_dataset(ctx, "unanswering", start=START, end=START + 10 * HOUR, known_at=END).ref
    with pytest.raises(CheckFailed, match="gives no numbers"):
        train(ctx, "unanswering", ref)


def test_a_service_of_numbers_is_refused_where_it_is_declared(tmp_path: Path) -> None:
    file = tmp_path / "plant.py"
    file.write_text(FILE.read_text() + "\n\nsystem.service(forecast, request=Reading)\n")
    with pytest.raises(InvalidSystem, match=r"label is hr\.value_after: a service gives the probability"):
        load_system(str(file))


def test_the_catalogue_tells_what_is_declared_and_applied(plant: tuple[Context, list[Row]]) -> None:
    ctx, rows = plant
    view, function = list_features(ctx)
    assert (view.name, view.kind, view.stream, view.by) == ("sensor", "windows", "reading", ["machine", "sensor"])
    assert view.position == {"reading": len(rows) - 1}
    assert view.models == ["forecast", "verdict", "unanswering"]
    assert (function.columns, function.models, function.position) == (["rise"], ["forecast"], None)
    assert show_feature(ctx, name="change").reads == ["sensor_mean_1h", "sensor_mean_6h"]
    with pytest.raises(NotFound, match="change"):
        show_feature(ctx, name="chance")


def test_values_are_read_for_one_request(plant: tuple[Context, list[Row]]) -> None:
    ctx, rows = plant
    mine = [r for r in rows if (r["machine"], r["sensor"]) == ("a", 23)]
    found = read_features(ctx, name="change", field=["machine=a", "sensor=23"])
    assert found.values["sensor_newest_1h"] == mine[-1]["value"]
    assert found.values["sensor_count_6h"] == 18
    assert found.values["rise"] == found.values["sensor_mean_1h"] - found.values["sensor_mean_6h"]  # type: ignore[operator]
    assert read_features(ctx, name="sensor", field=["machine=a", "sensor=1"]).values["sensor_newest_1h"] != mine[-1]["value"]
    for field, error in (("machine", UsageError), ("sensor=x", InvalidInput), ("size=1", NotFound)):
        with pytest.raises(error):
            read_features(ctx, name="sensor", field=[field])


def test_exports(plant: tuple[Context, list[Row]], tmp_path: Path) -> None:
    ctx, _ = plant
    out = tmp_path / "out.parquet"
    early = format_time(START + 12 * HOUR)
    assert export_features(ctx, name="sensor", out=out, known_at=early).rows == 3
    table = pl.read_parquet(out)
    assert table.select("machine", "sensor").rows() == [("a", 1), ("a", 23), ("a1", 23)]
    asked = read_features(ctx, name="sensor", field=["machine=a1", "sensor=23"])
    now = export_features(ctx, name="sensor", out=out)
    assert now.rows == 4
    row = pl.read_parquet(out).filter(pl.col("machine") == "a1").row(0, named=True)
    assert {name: row[name] for name in asked.values} == asked.values
    told = export_features(ctx, name="forecast", out=out, from_=format_time(START), to=early)
    assert told.columns[-1] == "label"
    assert pl.read_parquet(out).height == told.rows > 30
    for wrong in ({"name": "forecast"}, {"name": "sensor", "to": early}, {"name": "change"}):
        with pytest.raises(UsageError):
            export_features(ctx, out=out, **wrong)  # type: ignore[arg-type]
