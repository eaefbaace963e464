"""Sensors of machines: what will a sensor read in an hour, and how will an inspection judge a reading?"""

from datetime import datetime

import headrace as hr

system = hr.System("plant")


@system.stream(id="reading_id", key="machine", time="at")
class Reading:
    reading_id: int
    at: datetime
    machine: str
    sensor: int | None
    value: float


@system.stream(id="reading_id", key="reading_id", time="at")
class Inspection:
    reading_id: int
    at: datetime
    verdict: str


SENSOR = ("machine", "sensor")
recent = system.windows(
    Reading, by=SENSOR, over=["1h", "6h"], name="sensor", own_event=True, count=hr.count(), mean=hr.mean("value"),
    newest=hr.last("value"),
)  # fmt: skip


@system.features
def change(sensor_mean_1h, sensor_mean_6h):
    return {"rise": sensor_mean_1h - sensor_mean_6h}


@system.model(
    features=[recent, change],
    label=hr.value_after(Reading, "value", by=SENSOR, after="1h"),
    spine=hr.every("1h", key=SENSOR),
    search={"leaves": (2, 12)},
)
def forecast(rows, labels, *, leaves=8):
    from sklearn.tree import DecisionTreeRegressor

    return DecisionTreeRegressor(max_leaf_nodes=leaves, random_state=0).fit(rows, labels)


@system.model(features=["value", recent], label=hr.value(Inspection, "verdict", on="reading_id", within="1h"), spine=Reading)
def verdict(rows, labels):
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=3, random_state=0).fit(rows, labels)


@system.model(features=[recent], label=hr.future(Reading, hr.max("value"), by=SENSOR, within="2h"), spine=Reading)
def unanswering(rows, labels):
    return object()
